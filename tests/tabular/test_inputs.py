"""Checks shared by the learners for tables."""

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.tabular.inputs import check_name, check_number, classes_of, unit_rows


def test_classes_keep_their_labels():
    classes, numbers = classes_of(np.array([[3], [1], [3]]).ravel())
    assert classes.tolist() == [1, 3]
    assert numbers.tolist() == [1, 0, 1]


def test_too_few_classes():
    with pytest.raises(InputError, match="y must hold at least 2 classes, got 1 class"):
        classes_of([1, 1, 1], at_least=2)


def test_regression_targets_are_refused():
    with pytest.raises(ValueError, match="continuous"):
        classes_of([0.5, 1.5, 0.25])


def test_unit_rows():
    X = np.random.default_rng(0).normal(size=(20, 5)) * 10.0 ** np.arange(-5, 15)[:, None]
    assert np.allclose(np.linalg.norm(unit_rows(X), axis=1), 1.0, rtol=1e-15)


@pytest.mark.parametrize("factor", [1e-200, 1e-310, 1e200, 1e307])
def test_unit_rows_of_numbers_whose_squares_leave_the_range(factor):
    X = np.array([[3.0, 4.0], [3.0 * factor, 4.0 * factor]])
    assert np.allclose(unit_rows(X), [[0.6, 0.8], [0.6, 0.8]], rtol=1e-9)


def test_a_row_of_zeros_is_named():
    X = np.ones((4, 2))
    X[2] = 0.0
    with pytest.raises(InputError, match="row 2 is; leave such rows out"):
        unit_rows(X)


def test_no_rows():
    assert unit_rows(np.empty((0, 3))).shape == (0, 3)


def test_names():
    check_name("normalize", None, ["l2", None])
    with pytest.raises(InputError, match=r"normalize must be 'l2' or None, got 'z'$"):
        check_name("normalize", "z", ["l2", None])
    with pytest.raises(InputError, match="solver must be 'highs', got 'high'; did you mean"):
        check_name("solver", "high", ["highs"])


@pytest.mark.parametrize("value", [["opml"], {"opml": 1}, np.array(["opml", "moml"]), 3, True])
def test_what_is_no_name(value):
    with pytest.raises(InputError, match=r"^layer must be 'opml' or 'moml', got "):
        check_name("layer", value, {"opml": 1, "moml": 2})


@pytest.mark.parametrize(
    ("value", "options", "said"),
    [
        (0, {"above": 0}, "must be a number > 0, got 0"),
        (float("nan"), {}, "must be a number, got nan"),
        (float("inf"), {"at_least": 0}, "must be a number >= 0, got inf"),
        ("1", {"at_least": 0}, "must be a number >= 0, got '1'"),
        (True, {"at_least": 0}, "must be a number >= 0, got True"),
        (1.5, {"at_least": 1, "whole": True}, "must be a whole number >= 1, got 1.5"),
        (0.25, {"above": 0, "below": 0.25}, "must be a number > 0 and < 0.25, got 0.25"),
        (2, {"at_most": 1}, "must be a number <= 1, got 2"),
    ],
)
def test_numbers_out_of_range(value, options, said):
    with pytest.raises(InputError, match=f"^gamma {said}$"):
        check_number("gamma", value, **options)


def test_numbers_of_numpy_are_numbers():
    check_number("n", np.int64(3), at_least=1, whole=True)
    check_number("gamma", np.float32(0.5), above=0)
