"""Features from the columns of a table: numbers, text one-hot, missing values imputed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tupelo.errors import InputError

# scikit-learn's signatures say less than it takes
_impute: Any = SimpleImputer
_one_hot: Any = OneHotEncoder
_standardise: Any = StandardScaler
CONSTANT = "(constant)"
MANY_TEXTS = 30  # of which each occurs less than twice on average: names, not kinds


@dataclass(frozen=True)
class Column:
    """A column as it was when features were made of it.

    Attributes:
        name: of the column.
        fill: what a missing value becomes: the median, or the most frequent text.
        categories: texts in order, each a feature; of two the second is one; () for numbers.
        missing: values that were missing.
    """

    name: str
    fill: float | str
    categories: tuple[str, ...] = ()
    missing: int = 0

    @property
    def features(self) -> list[str]:
        """Names of the features it becomes."""
        if not self.categories:
            return [self.name]
        shown = self.categories[1:] if len(self.categories) == 2 else self.categories
        return [f"{self.name}={text}" for text in shown]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table become; made by `Columns.of`, kept as plain values.

    Numbers come first, then text, each in the order of the table. scikit-learn's `SimpleImputer`,
    `OneHotEncoder` and `StandardScaler` do the work.

    Attributes:
        columns: those with more than one value.
        left_out: columns without a value, or with one only.
        center: subtracted from features; None: nothing is scaled.
        scale: features are divided by it.
        constant: value of one more feature, the same for all rows; 0: there is none. Learners that
            divide rows by their length then still see how far a row is from the mean, and a row at
            the mean is no row of zeros.
    """

    columns: tuple[Column, ...]
    left_out: tuple[str, ...] = ()
    center: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    constant: float = 0.0

    @classmethod
    def of(
        cls, table: Mapping[str, ndarray], *, standardize: bool = True, constant: bool = False
    ) -> "Columns":
        """Learn medians, texts, means and deviations from a table.

        Args:
            table: columns by name, float64 with NaN for missing, or texts with None for missing.
            standardize: divide features by their standard deviation, around their mean.
            constant: add a constant feature as long as a row of the table is on average.

        Raises:
            InputError: no column has two values, or one holds as many texts as an identifier.

        >>> kind = np.array(["a", "b", "a"], dtype=object)
        >>> table = {"size": np.array([1.0, np.nan, 3.0]), "kind": kind}
        >>> columns = Columns.of(table, standardize=False)
        >>> columns.features
        ['size', 'kind=b']
        >>> columns.encode(table)
        array([[1., 0.],
               [2., 1.],
               [3., 0.]])
        """
        found, empty = [], []
        for name, values in table.items():
            column = _column(name, values)
            if column is None:
                empty.append(name)
            else:
                found.append(column)
        if not found:
            raise InputError(
                "no column can tell rows apart: each must hold at least two different values; "
                f"columns are {', '.join(table) or 'none'}"
            )
        found.sort(key=lambda column: bool(column.categories))
        plain = cls(tuple(found), tuple(empty))
        if standardize:
            scaler = _standardise().fit(plain.encode(table))
            center, scale = (tuple(map(float, each)) for each in (scaler.mean_, scaler.scale_))
            plain = replace(plain, center=center, scale=scale)
        if constant:
            length = np.sqrt(np.square(plain.encode(table)).sum(axis=1).mean())
            plain = replace(plain, constant=float(length))
        return plain

    @property
    def features(self) -> list[str]:
        """Names of the features, such as "size" and "kind=b"."""
        names = [name for column in self.columns for name in column.features]
        return [*names, CONSTANT] if self.constant else names

    def encode(self, rows: Any) -> Float[ndarray, "n d"]:
        """Features of rows; a text that was not known is as good as a missing one.

        Args:
            rows: a mapping of columns, a data frame, or an array with these columns in order.

        Raises:
            InputError: a column is missing, or holds text where numbers are needed.
        """
        table = self._table(rows)
        if not len(table[self.columns[0].name]):
            return np.zeros((0, len(self.features)))  # scikit-learn takes no table without rows
        numbers = [column for column in self.columns if not column.categories]
        texts = [column for column in self.columns if column.categories]
        blocks = []
        if numbers:
            given = np.stack([_numbers(column, table[column.name]) for column in numbers], axis=1)
            imputer = _impute().fit(np.array([[column.fill for column in numbers]]))
            blocks.append(imputer.transform(given))
        if texts:
            given = np.stack([_texts(column, table[column.name]) for column in texts], axis=1)
            usual = np.array([[column.fill for column in texts]], dtype=object)
            imputer = _impute(strategy="most_frequent", missing_values=None).fit(usual)
            encoder = _one_hot(
                categories=[np.array(column.categories, dtype=object) for column in texts],
                drop="if_binary",
                sparse_output=False,
            ).fit(usual)
            blocks.append(encoder.transform(imputer.transform(given)))
        X = np.hstack(blocks)
        if self.center is not None:
            X = (X - np.array(self.center)) / np.array(self.scale)
        return np.insert(X, X.shape[1], self.constant, axis=1) if self.constant else X

    def to_json(self) -> dict[str, Any]:
        """As JSON values; floats are kept exactly."""
        return {
            "columns": [
                {
                    "name": column.name,
                    "fill": column.fill,
                    "categories": list(column.categories),
                    "missing": column.missing,
                }
                for column in self.columns
            ],
            "left_out": list(self.left_out),
            "center": None if self.center is None else list(self.center),
            "scale": None if self.scale is None else list(self.scale),
            "constant": self.constant,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Columns":
        """What `to_json` gave."""
        columns = tuple(
            Column(one["name"], one["fill"], tuple(one["categories"]), one["missing"])
            for one in values["columns"]
        )
        center, scale = (
            None if values[name] is None else tuple(values[name]) for name in ("center", "scale")
        )
        return cls(columns, tuple(values["left_out"]), center, scale, values["constant"])

    def _table(self, rows: Any) -> dict[str, Any]:
        names = [column.name for column in self.columns]
        known = getattr(rows, "columns", None) if not isinstance(rows, Mapping) else list(rows)
        if known is None:
            array = np.asarray(rows, dtype=object)
            if array.ndim != 2 or array.shape[1] != len(names):
                raise InputError(
                    f"rows must be a table with the columns {', '.join(names)}, or an array with "
                    f"these {len(names)} in this order, got shape {array.shape}"
                )
            return {name: array[:, place] for place, name in enumerate(names)}
        absent = [name for name in names if name not in list(known)]
        if absent:
            raise InputError(
                f"rows must have the column{'s' * (len(absent) > 1)} {', '.join(absent)}, as when "
                f"the metric was fitted{near(absent[0], [str(name) for name in known])}"
            )
        return {name: rows[name] for name in names}


def near(name: str, known: Sequence[str]) -> str:
    """A hint with close names, "" where there are none.

    >>> near("clas", ["class", "size"])
    '; did you mean class?'
    """
    close = get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""


def _column(name: str, values: ndarray) -> Column | None:
    """None for a column that says nothing."""
    if values.dtype != object:
        given = values.astype(np.float64).reshape(-1, 1)
        there = given[~np.isnan(given)]
        if not len(there) or (there == there[0]).all():
            return None
        median = _impute(strategy="median").fit(given).statistics_[0]
        return Column(name, float(median), missing=len(given) - len(there))
    there = [text for text in values if text is not None]
    kinds = sorted(set(there))
    if len(kinds) < 2:
        return None
    if len(kinds) > max(MANY_TEXTS, len(there) / 2):
        raise InputError(
            f"column {name} holds {len(kinds)} different texts in {len(there)} rows, as names or "
            f"dates do, such as {kinds[0]!r}: leave it out with --drop {name} (drop=), or make "
            "numbers or fewer texts of it"
        )
    imputer = _impute(strategy="most_frequent", missing_values=None)
    usual = imputer.fit(values.reshape(-1, 1)).statistics_[0]
    return Column(name, str(usual), tuple(kinds), len(values) - len(there))


def _numbers(column: Column, values: Any) -> Float[ndarray, " n"]:
    given = np.asarray(values)
    if given.dtype == object:
        given = np.array([np.nan if value is None else value for value in given], dtype=object)
    try:
        numbers = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"column {column.name} must hold numbers, as when the metric was fitted: {error}"
        ) from error
    if np.isinf(numbers).any():
        row = int(np.flatnonzero(np.isinf(numbers))[0])
        raise InputError(f"column {column.name} must be finite, row {row} is {numbers[row]}")
    return numbers


def _texts(column: Column, values: Any) -> ndarray:
    """Texts that are known; None for others and missing ones."""
    known = set(column.categories)
    given = np.asarray(values, dtype=object)
    return np.array([str(text) if str(text) in known else None for text in given], dtype=object)
