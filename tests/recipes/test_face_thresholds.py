"""Thresholds: set on validation, told on test, kept in the run, refused where they do not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tupelo.data import ImageSet
from tupelo.errors import CheckpointError, InputError
from tupelo.evaluation import roc
from tupelo.recipes import face_thresholds
from tupelo.recipes.face_thresholds import (
    NAME,
    Setting,
    rows_of_files,
    rows_of_set,
    set_thresholds,
    thresholds_of,
)
from tupelo.trained import load

from .people import people, pixels_of, untrained, write

VALIDATION, TEST = people("abcdefgh", 5, noise=90), people("ijklmnop", 5, seed=1, noise=90)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("runs") / "faces")


@pytest.fixture(scope="module")
def found(trained):
    return set_thresholds(trained, VALIDATION, TEST)


def loops(trained, pictures):
    """Similarities of all pairs, of one person and of two, one pair after the other."""
    z = rows_of_set(trained, pictures, True, None)
    pairs = [(i, j) for i in range(len(z)) for j in range(i)]
    same = [pictures.labels[i] == pictures.labels[j] for i, j in pairs]
    scores = [float(z[i] @ z[j]) for i, j in pairs]
    return (
        [s for s, t in zip(scores, same, strict=True) if t],
        [s for s, t in zip(scores, same, strict=True) if not t],
    )


def test_thresholds_are_those_of_loops_over_all_pairs(trained, found):
    genuine, impostor = loops(trained, VALIDATION)
    test_genuine, test_impostor = loops(trained, TEST)
    assert found.pairs == {
        "validation genuine": len(genuine), "validation impostor": len(impostor),
        "test genuine": len(test_genuine), "test impostor": len(test_impostor),
    }  # fmt: skip
    assert [each.far for each in found.settings] == [0.1, 0.01]  # 700 pairs cannot tell 0.001
    for each in found.settings:
        allowed = int(each.far * len(impostor) + 1e-9)
        assert each.threshold == pytest.approx(sorted(impostor)[-1 - allowed], abs=1e-6)
        assert each.tar == np.mean(np.array(genuine) > each.threshold)
        assert each.test_far == np.mean(np.array(test_impostor) > each.threshold)
        assert each.test_tar == np.mean(np.array(test_genuine) > each.threshold)
    assert found.auc == pytest.approx(roc_of(test_genuine, test_impostor).auc)
    assert found.auc != pytest.approx(roc_of(genuine, impostor).auc)
    assert found.eer == pytest.approx(roc_of(test_genuine, test_impostor).eer)


def roc_of(genuine, impostor):
    scores = np.array([*genuine, *impostor])
    return roc(scores, np.arange(len(scores)) < len(genuine))


def test_the_run_keeps_them(trained, found):
    assert thresholds_of(trained) == found
    assert thresholds_of(load(trained.folder)) == found


def test_the_usual_rate_is_a_thousandth_or_the_lowest_that_was_measured(found):
    assert found.at(None).far == 0.01
    assert found.at(0.1).far == 0.1
    lower = Setting(0.0001, 0.99, 0.1, None, None)
    thousandth = Setting(0.001, 0.98, 0.2, None, None)
    more = replace(found, settings=(*found.settings, thousandth, lower))
    assert more.at(None) == thousandth
    with pytest.raises(
        InputError, match=r"--far must be one .* measured at, 0\.1, 0\.01, got 0\.5"
    ):
        found.at(0.5)


def test_without_a_test_part_nothing_is_said_of_one(trained, tmp_path):
    other = untrained(tmp_path)
    found = set_thresholds(other, VALIDATION, None, flip=False)
    assert found.settings[0].test_far is None
    assert found.settings[0].test_tar is None
    assert not thresholds_of(other).flip


def test_a_test_part_that_cannot_tell_is_told_and_left_out(tmp_path, caplog):
    found = set_thresholds(untrained(tmp_path), VALIDATION, people("ijk", 1))
    assert found.settings[0].test_far is None
    assert "no two pictures of one person, so it judges no threshold" in caplog.text


def test_many_pictures_are_drawn_from(trained, monkeypatch, tmp_path):
    monkeypatch.setattr(face_thresholds, "COMPARED_AT_MOST", 30)
    found = set_thresholds(untrained(tmp_path), VALIDATION, None, seed=3)
    assert sum(found.pairs.values()) == 30 * 29 / 2


def test_nobody_counts_with_more_than_ten_pictures(tmp_path):
    few, many = people("abcdefgh", 3), people("a", 30, seed=1)
    pixels = np.stack([pixels_of(each, row) for each in (few, many) for row in range(len(each))])
    labels = [few.class_names[label] for label in few.labels] + ["a"] * 30
    found = set_thresholds(untrained(tmp_path), ImageSet.from_arrays(pixels, labels), None)
    assert found.pairs["validation genuine"] == 10 * 9 / 2 + 7 * 3 * 2 / 2
    assert found.pairs["validation impostor"] == 10 * 21 + 21 * 18 / 2


def test_a_picture_and_its_mirror_image_count_alike(trained, tmp_path):
    folder = write(tmp_path, "a", 1)
    row = rows_of_files(trained, [folder / "a" / "0.png"], flip=True)
    z = trained.embed(folder / "a" / "0.png").double()
    mirrored = np.fliplr(pixels_of(people("a", 1), 0)).copy()
    both = torch.cat([z, trained.embed(mirrored).double()], 1) / 2**0.5
    np.testing.assert_allclose(row, both.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (people("a", 5), "the validation part has 5 pictures of 1 people, and needs two"),
        (people("abc", 1), "needs two people, one of them with two pictures"),
        (people("ab", 2), "validation has 4 pairs of different people, too few"),
    ],
)
def test_parts_that_cannot_tell_are_refused(validation, message, tmp_path):
    with pytest.raises(InputError, match=message):
        set_thresholds(untrained(tmp_path), validation, None)
    assert not (tmp_path / NAME).exists()


def test_a_run_without_thresholds_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"has no {NAME}: the run was not made by"):
        thresholds_of(untrained(tmp_path))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"settings": [], "identity": "x"}', '{"settings": [{"far": 1}]}']
)
def test_damaged_thresholds_are_refused(trained, tmp_path, content):
    other = untrained(tmp_path)
    (tmp_path / NAME).write_text(content)
    with pytest.raises(CheckpointError, match=r"is damaged: .* repeat tupelo faces train"):
        thresholds_of(other)


def test_thresholds_of_other_weights_are_refused(trained, found, tmp_path):
    other = untrained(tmp_path)
    stated = json.loads((trained.folder / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**stated, "identity": "00"}))
    with pytest.raises(CheckpointError, match="was made for other weights"):
        thresholds_of(other)
