"""Lists of triplets: how they are drawn, checked, written and read."""

import numpy as np
import pytest

from tupelo.errors import DataError, InputError
from tupelo.generative import TripletList, random_triplets, read_triplets

LABELS = np.repeat(np.arange(4), [2, 3, 10, 25])


def triplets(*rows: tuple[int, int, int]) -> TripletList:
    return TripletList(*np.array(rows, dtype=np.int64).T)


def test_drawn_triplets_are_what_they_should_be():
    drawn = random_triplets(LABELS, 4000, seed=3)
    drawn.check(LABELS)
    assert not (drawn.anchor == drawn.positive).any()
    assert np.bincount(LABELS[drawn.anchor]).tolist() == [1000] * 4
    pairs = {(a, p) for a, p in zip(drawn.anchor, drawn.positive, strict=True) if a < 2}
    assert pairs == {(0, 1), (1, 0)}  # a class of two still has its positives


def test_positives_and_negatives_are_uniform():
    drawn = random_triplets(LABELS, 40_000)
    of = drawn.anchor == 2  # of a class of three: 10,000 / 3 anchors
    positives = np.bincount(drawn.positive[of], minlength=5)
    assert positives[3] + positives[4] == of.sum()
    assert abs(positives[3] / of.sum() - 0.5) < 0.05
    negatives = np.bincount(drawn.negative[LABELS[drawn.anchor] == 3], minlength=40)
    assert (negatives[15:] == 0).all()
    assert np.abs(negatives[:15] / 10_000 - 1 / 15).max() < 0.01  # pictures, not classes


def test_a_rest_goes_to_some_classes():
    counts = np.bincount(LABELS[random_triplets(LABELS, 10).anchor])
    assert sorted(counts) == [2, 2, 3, 3]
    one = [LABELS[random_triplets(LABELS, 1, seed=seed).anchor[0]] for seed in range(40)]
    assert set(one) == {0, 1, 2, 3}  # not always the first


def test_the_same_seed_draws_the_same_list():
    one, same, other = (random_triplets(LABELS, 50, seed=seed) for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest


def test_only_chosen_classes_give_anchors_and_only_some_pictures_take_part():
    labels = np.array([0, 0, 0, 1, 2, 2])
    drawn = random_triplets(labels, 60, classes=[0, 2])
    assert set(labels[drawn.anchor]) == {0, 2}
    assert 3 in drawn.negative
    among = random_triplets(labels, 60, among=[0, 2, 4, 5])
    assert set(among.rows.ravel()) == {0, 2, 4, 5}
    among.check(labels)


def test_swapping_exchanges_positives_and_negatives():
    drawn = random_triplets(LABELS, 20)
    swapped = drawn.swapped()
    assert np.array_equal(swapped.positive, drawn.negative)
    assert np.array_equal(swapped.negative, drawn.positive)
    with pytest.raises(InputError, match="a positive must have the label of its anchor"):
        swapped.check(LABELS)


def test_a_written_list_is_read_back(tmp_path):
    drawn = random_triplets(LABELS, 20)
    path = drawn.write(tmp_path / "triplets.csv")
    assert path.read_text().startswith("anchor,negative,positive\n")
    assert read_triplets(path).digest == drawn.digest


def test_files_of_the_authors_are_read_in_their_order(tmp_path):
    path = tmp_path / "train_triplets.txt"
    path.write_text("0 5 1\n2 7 3\n")
    columns = ("anchor", "negative", "positive")
    assert read_triplets(path, columns=columns).rows.tolist() == [[0, 1, 5], [2, 3, 7]]
    with pytest.raises(
        InputError, match=r"must be named anchor, negative, positive .* got no names"
    ):
        read_triplets(path)
    with pytest.raises(InputError, match="got anchor, far, near"):
        read_triplets(path, columns=("anchor", "far", "near"))


def test_a_file_that_a_spreadsheet_saved_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfanchor,negative,positive\r\n0,5,1\r\n\r\n")
    assert read_triplets(path).rows.tolist() == [[0, 1, 5]]


@pytest.mark.parametrize(
    "content",
    [
        b"anchor,negative,positive\n1,2\n",
        b"anchor,negative,positive\n1,2,x\n",
        b"anchor,negative,positive\n1,2,99999999999999999999\n",
        b"anchor,negative,positive\n1,2,3,4\n1,2,3,4\n1,2,3,4\n",
    ],
)
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match="must hold three whole numbers a line"):
        read_triplets(tmp_path / "t.csv")


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long.csv").write_bytes(b"1" * 200_000)
    for name in ("t.csv", "long.csv", "none.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            read_triplets(tmp_path / name)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: random_triplets(np.zeros(9, np.int64), 5), "at least 2 classes, got 1"),
        (lambda: random_triplets(np.array([0, 0, 1]), 5), r"at least 2 pictures, got class \[1\]"),
        (lambda: random_triplets(LABELS, 0), "count must be at least 1 triplet, got 0"),
        (lambda: random_triplets(LABELS, 5, classes=[]), "at least one class of .* got none"),
        (lambda: random_triplets(LABELS, 5, classes=[0, 9]), r"and no other, got \[9\]"),
        (lambda: random_triplets(LABELS, 5, among=[0, 1, 40]), "of the 40 labels, got 0 to 40"),
        (lambda: random_triplets(LABELS, 5, among=[0, 1, -1]), "of the 40 labels, got -1 to 1"),
        (lambda: random_triplets(LABELS, 5, among=[0, 1, 2, 1]), "each position once, got 1 again"),
        (
            lambda: random_triplets(np.eye(3, dtype=bool), 5),
            r"one class number a picture .*\(3, 3\)",
        ),
        (lambda: triplets((1, 1, 2)), r"not be its own positive, got picture 1 .*\(1 such"),
        (lambda: triplets((1, 0, -2)), "positions must be >= 0, got -2"),
        (lambda: TripletList(*np.zeros((3, 0), np.int64)), "must hold at least one, got 0"),
        (
            lambda: TripletList(np.array([0, 1]), np.array([1, 0]), np.array([5])),
            r"must be equally long, got \[2, 2, 1\]",
        ),
        (lambda: triplets((0, 1, 40)).check(LABELS), "below the number of pictures, 40, got 40"),
        (
            lambda: triplets((0, 1, 5), (0, 2, 5)).check(LABELS),
            "a positive must have the label of its anchor, but in triplet 1 .* label 0 and the "
            r"positive 1 \(1 of 2 triplets\); are its columns in the order anchor, negative, ",
        ),
        (
            lambda: triplets((2, 3, 4)).check(LABELS),
            "a negative must have another label than its anchor, .* label 1 and the negative 1",
        ),
    ],
)
def test_impossible_lists_are_refused(build, text):
    with pytest.raises(InputError, match=text):
        build()
