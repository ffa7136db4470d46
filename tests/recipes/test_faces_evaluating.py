"""LFW and YouTube Faces on made-up lists, and LFW itself with pixels for features."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tupelo import evaluation
from tupelo.data.official import lfw
from tupelo.data.official.protocol import pair_list
from tupelo.errors import DataError, InputError
from tupelo.recipes import faces_evaluating as job
from tupelo.recipes.face_features import Faces


def faces(names, rows):
    return Faces(names, "here", {"features": "made"}, lambda places, _: rows[places])


def listed(n_folds=3, each=8, seed=0):
    """Pairs of 20 people with three pictures each."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_folds):
        for place in range(2 * each):
            one, other = rng.choice(20, 2, replace=False)
            a, b = rng.choice(3, 2, replace=False)
            other, same = (one, True) if place < each else (other, False)
            found.append((f"p{one}/{a}.jpg", f"p{other}/{b}.jpg", same))
    return pair_list(found, np.repeat(np.arange(n_folds) + 1, 2 * each).tolist())


def made(spread, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"db/p{person}/{number}.jpg" for person in range(20) for number in range(3)]
    rows = np.repeat(rng.normal(size=(20, 16)), 3, axis=0)
    return faces(names, rows + rng.normal(scale=spread, size=rows.shape))


def test_pairs_in_folds():
    pairs, found = listed(), made(0.8)
    judged = job.judge_lfw(found, pairs, about={"list": "made.txt"})
    rows = found.rows(np.arange(60), None)
    place = {name.removeprefix("db/"): row for row, name in enumerate(found.names)}
    scores = []
    for one, other in pairs.pairs:
        a, b = rows[place[pairs.names[one]]], rows[place[pairs.names[other]]]
        scores.append(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert judged.scores == pytest.approx(scores, abs=1e-12)
    expected = evaluation.fold_accuracy(np.array(scores), pairs.same, pairs.folds)
    assert judged.accuracy == expected
    told = json.loads(json.dumps(judged.as_json()))
    assert told["accuracy"] == expected.accuracy
    assert (told["pairs"], told["folds"], told["list"]) == (48, 3, "made.txt")
    assert told["tar_at_far"]["0.001"] is None  # of 24 impostors
    assert told["tar_at_far"]["0.1"] == judged.roc.tar_at(0.1)
    assert not told["collapsed"]
    assert job.judge_lfw(made(0.01), pairs).accuracy.accuracy == 1.0


def test_centred_scores_are_those_of_the_fold_judged():
    pairs, found = listed(), made(0.8)
    shifted = faces(found.names, found.rows(np.arange(60), None) + 5)
    judged = job.judge_lfw(shifted, pairs, center=True)
    names = [f"db/{name}" for name in pairs.names]
    rows = shifted.rows(np.array([found.names.index(name) for name in names]), None)
    all_scores = evaluation.centred_scores(rows, pairs.pairs, pairs.folds)
    own = [all_scores[fold - 1, pair] for pair, fold in enumerate(pairs.folds)]
    assert judged.scores == pytest.approx(own)
    assert judged.accuracy == evaluation.fold_accuracy(all_scores, pairs.same, pairs.folds)
    assert judged.accuracy.accuracy > job.judge_lfw(shifted, pairs).accuracy.accuracy
    assert judged.as_json()["center"] is True


def test_a_list_of_one_fold():
    one, apart, found = listed(1), listed(1, seed=1), made(0.8)
    judged = job.judge_lfw(found, one, choose_on=apart)
    threshold = job.judge_lfw(found, apart).threshold
    assert judged.threshold == threshold
    assert judged.at == evaluation.accuracy_at(judged.scores, one.same, threshold)
    assert judged.notes == ()
    own = job.judge_lfw(found, one)
    assert own.notes == (job.OPTIMISTIC,)
    assert own.at >= judged.at
    assert own.as_json()["threshold"] == own.threshold
    with pytest.raises(InputError, match="--center takes the mean of other folds, and this list"):
        job.judge_lfw(found, one, center=True)
    with pytest.raises(InputError, match="--threshold-pairs is for a list of one fold; this one"):
        job.judge_lfw(found, listed(), choose_on=apart)


def test_a_collapsed_model_is_chance_and_told():
    found = made(0)
    same = faces(found.names, np.ones((60, 4)))
    for n_folds in (1, 3):
        judged = job.judge_lfw(same, listed(n_folds))
        told = judged.as_json()
        assert (told["accuracy"], told["collapsed"], told["eer"]) == (0.5, True, 0.5)
        assert told["notes"][0] == job.COLLAPSED


def test_missing_pictures_and_nan_features():
    found = made(0.5)
    rows = found.rows(np.arange(60), None)
    with pytest.raises(DataError, match=r"here lacks \d+ of \d+ pictures of the protocol, first p"):
        job.judge_lfw(faces(found.names[3:], rows[3:]), listed())
    rows[:9] = np.nan
    with pytest.raises(InputError, match=r"rows must be finite and not zero; \d of"):
        job.judge_lfw(faces(found.names, rows), listed())


def videos():
    rng = np.random.default_rng(0)
    names, rows, found = [], [], []
    for person in range(12):
        centre = rng.normal(size=8)
        for video in range(2):
            for frame in range(6):
                names.append(f"db/p{person}/{video}/0.{frame}.jpg")
                rows.append(centre + rng.normal(scale=0.7, size=8))
    for person in range(12):
        found.append((f"p{person}/0", f"p{person}/1", True))
        found.append((f"p{person}/0", f"p{(person + 1) % 12}/1", False))
    return faces(names, np.array(rows)), pair_list(found, np.repeat([1, 2, 3], 8).tolist())


def test_videos():
    found, pairs = videos()
    judged = job.judge_ytf(found, pairs)
    rows = found.rows(np.arange(144), None)
    z = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def mean(video):
        chosen = [f"/{video}/" in f"/{name}" for name in found.names]
        total = z[chosen].sum(axis=0)
        return total / np.linalg.norm(total)

    expected = [mean(pairs.names[one]) @ mean(pairs.names[other]) for one, other in pairs.pairs]
    assert judged.scores == pytest.approx(expected)
    assert judged.accuracy == evaluation.fold_accuracy(judged.scores, pairs.same, pairs.folds)
    assert judged.as_json()["frames"] == 144
    few = job.judge_ytf(found, pairs, frames=2)
    assert few.as_json()["frames"] == 48
    by_pairs = job.judge_ytf(found, pairs, score=evaluation.frame_pair_scores)
    assert not np.allclose(by_pairs.scores, judged.scores)
    without = faces(found.names[6:], rows[6:])
    with pytest.raises(DataError, match="here lacks the frames of 1 of 24 videos, first p0/0"):
        job.judge_ytf(without, pairs)


@pytest.mark.data
def test_lfw_with_pixels_for_features():
    root = os.environ.get("TUPELO_DATA")
    place = Path(root or "") / "lfw"
    if root is None or not (place / "pairs.txt").is_file():
        pytest.skip("TUPELO_DATA holds no lfw/pairs.txt")
    pairs = lfw.folds(place / "pairs.txt")
    assert (len(pairs.names), len(pairs.same), pairs.n_folds) == (7701, 6000, 10)
    assert lfw.folds(place / "pairsDevTrain.txt").n_folds == 1
    assert len(lfw.folds(place / "pairsDevTest.txt").same) == 1000
    (archive,) = place.glob("*.zip")
    chosen = pairs.folds <= 2  # of ten, so that it takes a second or two
    used = np.unique(pairs.pairs[chosen])
    rows = np.zeros((len(pairs.names), 256), np.float32)
    with zipfile.ZipFile(archive) as pictures:
        for row in used:
            picture = Image.open(io.BytesIO(pictures.read(pairs.names[row]))).convert("L")
            pixels = np.asarray(picture.resize((16, 16)), np.float32)
            rows[row] = (pixels - pixels.mean()).reshape(-1)
    scores = evaluation.pair_scores(rows[used], np.searchsorted(used, pairs.pairs[chosen]))
    found = evaluation.fold_accuracy(scores, pairs.same[chosen], pairs.folds[chosen])
    assert 0.55 < found.accuracy < 0.75  # pixels know little, but something
