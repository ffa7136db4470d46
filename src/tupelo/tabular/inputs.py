"""Checks that the learners for tables share; what scikit-learn checks itself is left to it."""

from collections.abc import Collection
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from sklearn.utils.multiclass import check_classification_targets

from tupelo.errors import InputError


def classes_of(y: Any, *, at_least: int = 1) -> tuple[ndarray, Int[ndarray, " n"]]:
    """The classes in order, and the number of the class of each row.

    Args:
        y: n labels of any kind that can be ordered.
        at_least: so many classes are needed.

    Raises:
        InputError: fewer classes.
        ValueError: y is no classification target, in scikit-learn's words.

    >>> classes_of(["b", "a", "b"])
    (array(['a', 'b'], dtype='<U1'), array([1, 0, 1]))
    """
    check_classification_targets(y)
    classes, numbers = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) < at_least:
        raise InputError(
            f"y must hold at least {at_least} classes, got {len(classes)} class: a metric is "
            f"learned from rows that differ in class"
        )
    return classes, numbers.astype(np.int64).reshape(-1)


def unit_rows(X: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """Rows divided by their Euclidean length.

    Raises:
        InputError: a row is all zeros, which has no direction.

    >>> unit_rows(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", X, X))
    # of tiny and huge numbers the squares leave the range of floats
    odd = ~((lengths > 1e-150) & (lengths < 1e150))
    if odd.any():
        largest = np.abs(X[odd]).max(axis=1, initial=0.0)
        if not largest.all():
            row = int(np.flatnonzero(odd)[largest == 0.0][0])
            raise InputError(
                f"normalize='l2' needs rows that are not all zeros, row {row} is; leave such rows "
                "out, or give normalize=None"
            )
        scaled = X.copy()
        scaled[odd] /= largest[:, None]
        return scaled / np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return X / lengths[:, None]


def as_pairs(pairs: Any, features: int) -> Float[ndarray, "n 2 d"]:
    """Pairs of rows as an array (n, 2, d).

    Raises:
        InputError: another shape, no numbers, or a number that is not finite.
    """
    try:
        given = np.asarray(pairs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"pairs must be numbers of shape (n, 2, {features}): {error}") from error
    if given.ndim != 3 or given.shape[1:] != (2, features):
        raise InputError(
            f"pairs must be of shape (n, 2, {features}), two rows of {features} features each, "
            f"got {given.shape}"
        )
    if not np.isfinite(given).all():
        place = tuple(int(at[0]) for at in np.nonzero(~np.isfinite(given)))
        raise InputError(f"pairs must be finite, got {given[place]} at {list(place)}")
    return given


def check_name(argument: str, value: Any, known: Collection[str | None]) -> None:
    """An option is one of these names.

    Raises:
        InputError: it is not; close names are given.

    >>> check_name("layer", "opmml", ["opml", "moml"])
    Traceback (most recent call last):
    ...
    tupelo.errors.InputError: layer must be 'opml' or 'moml', got 'opmml'; did you mean 'opml'?
    """
    if (value is None or isinstance(value, str)) and value in known:
        return
    names = [name for name in known if name is not None]
    close = get_close_matches(str(value), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listed = [repr(name) for name in known]
    allowed = " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
    raise InputError(f"{argument} must be {allowed}, got {value!r}{hint}")


def check_number(
    argument: str,
    value: Any,
    *,
    above: float | int | None = None,
    at_least: float | int | None = None,
    below: float | int | None = None,
    at_most: float | int | None = None,
    whole: bool = False,
) -> None:
    """A number lies in its range.

    Args:
        argument: its name.
        value: what came.
        above, at_least: bound from below, of which one is given at most.
        below, at_most: bound from above, of which one is given at most.
        whole: only integers.

    Raises:
        InputError: it does not, or is no finite number.

    >>> check_number("gamma", -1.0, above=0)
    Traceback (most recent call last):
    ...
    tupelo.errors.InputError: gamma must be a number > 0, got -1.0
    """
    kind = Integral if whole else Real
    if isinstance(value, kind) and not isinstance(value, bool | np.bool_):
        number = float(value)  # pyright: ignore[reportArgumentType]
        high_enough = (above is None or number > above) and (at_least is None or number >= at_least)
        low_enough = (below is None or number < below) and (at_most is None or number <= at_most)
        if np.isfinite(number) and high_enough and low_enough:
            return
    bounds = {">": above, ">=": at_least, "<": below, "<=": at_most}
    said = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
    noun = "a whole number" if whole else "a number"
    raise InputError(f"{argument} must be {f'{noun} {said}'.rstrip()}, got {value!r}")
