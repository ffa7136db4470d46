"""What the columns of a table become, against what one would write by hand."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import StandardScaler

from tupelo.errors import InputError
from tupelo.tabular.columns import Columns


def texts(*values):
    return np.array(values, dtype=object)


TABLE = {
    "colour": texts("red", "green", None, "red", "blue"),
    "size": np.array([1.0, np.nan, 3.0, 10.0, 2.0]),
    "old": texts("no", "yes", "no", "no", None),
    "same": np.ones(5),
    "empty": np.full(5, np.nan),
    "blank": texts(None, None, "x", "x", None),
}
BY_HAND = np.array(
    [
        # size, blue, green, red, old=yes
        [1.0, 0, 0, 1, 0],
        [2.5, 0, 1, 0, 1],
        [3.0, 0, 0, 1, 0],
        [10.0, 0, 0, 1, 0],
        [2.0, 1, 0, 0, 0],
    ]
)


def test_numbers_first_then_texts_with_missing_values_filled():
    columns = Columns.of(TABLE, standardize=False)
    assert columns.features == ["size", "colour=blue", "colour=green", "colour=red", "old=yes"]
    assert columns.left_out == ("same", "empty", "blank")
    assert {column.name: column.missing for column in columns.columns} == {
        "size": 1,
        "colour": 1,
        "old": 1,
    }
    assert (columns.encode(TABLE) == BY_HAND).all()


def test_standardised_as_scikit_learn_does():
    columns = Columns.of(TABLE)
    assert np.allclose(columns.encode(TABLE), StandardScaler().fit_transform(BY_HAND), atol=1e-15)


def test_a_constant_feature_as_long_as_a_row_is():
    plain, more = Columns.of(TABLE), Columns.of(TABLE, constant=True)
    assert more.features == [*plain.features, "(constant)"]
    X = more.encode(TABLE)
    assert (X[:, :-1] == plain.encode(TABLE)).all()
    assert np.allclose(X[:, -1], np.sqrt(5), rtol=1e-12)  # of five standardised features
    assert np.allclose((X[:, :-1] ** 2).sum(axis=1).mean(), X[0, -1] ** 2)
    assert Columns.of(TABLE, standardize=False, constant=True).constant == pytest.approx(
        np.sqrt((BY_HAND**2).sum(axis=1).mean())
    )


def test_json_keeps_every_bit():
    columns = Columns.of(TABLE, constant=True)
    again = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    assert again == columns
    assert (again.encode(TABLE) == columns.encode(TABLE)).all()


def test_frames_and_arrays_are_rows_too():
    columns = Columns.of(TABLE)
    expected = columns.encode(TABLE)
    assert (columns.encode(pd.DataFrame(TABLE)) == expected).all()
    frame = pl.DataFrame({name: list(values) for name, values in TABLE.items()}, strict=False)
    assert (columns.encode(frame) == expected).all()
    names = [column.name for column in columns.columns]
    array = np.stack([np.asarray(TABLE[name], dtype=object) for name in names], axis=1)
    assert (columns.encode(array) == expected).all()


def test_order_of_new_columns_does_not_matter():
    columns = Columns.of(TABLE)
    turned = dict(reversed(TABLE.items()))
    assert (columns.encode(turned) == columns.encode(TABLE)).all()


def test_a_text_never_seen_is_as_good_as_missing():
    columns = Columns.of(TABLE, standardize=False)
    new = {"size": [np.nan], "colour": ["violet"], "old": [None]}
    assert columns.encode(new).tolist() == [[2.5, 0, 0, 1, 0]]


def test_no_rows_are_no_features():
    assert Columns.of(TABLE).encode({name: values[:0] for name, values in TABLE.items()}).shape == (
        0,
        5,
    )


def test_a_missing_column_is_named():
    columns = Columns.of(TABLE)
    with pytest.raises(InputError, match=r"column colour, as when .*; did you mean color\?"):
        columns.encode({"size": [1], "color": ["red"], "old": ["no"]})
    with pytest.raises(InputError, match="columns size, colour, as when"):
        columns.encode({"old": ["no"]})
    with pytest.raises(InputError, match=r"these 3 in this order, got shape \(2, 2\)"):
        columns.encode(np.ones((2, 2)))


def test_text_where_numbers_were():
    columns = Columns.of(TABLE)
    new = {"size": ["large"], "colour": ["red"], "old": ["no"]}
    with pytest.raises(InputError, match="column size must hold numbers, as when"):
        columns.encode(new)
    with pytest.raises(InputError, match="column size must be finite, row 0 is inf"):
        columns.encode(new | {"size": [np.inf]})


def test_identifiers_are_refused():
    names = texts(*(f"person {n}" for n in range(40)))
    with pytest.raises(InputError, match=r"column name holds 40 different texts in 40 rows.*drop"):
        Columns.of({"name": names, "size": np.arange(40.0)})


def test_nothing_to_learn_from():
    with pytest.raises(InputError, match=r"no column can tell rows apart.*columns are same"):
        Columns.of({"same": np.ones(3)})
