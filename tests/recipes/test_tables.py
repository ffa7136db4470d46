"""Tables are read as their authors meant them, or refused."""

import builtins
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from tupelo.errors import DataError, InputError, MissingExtra
from tupelo.recipes.tables import Table, check_pairs_of_each, labelled, read, texts_of

CSV = "id,size,colour,kind\n1, 2.5 ,red,a\n2,,blue,b\n3,-1e3,?,a\n4,4,red,b\n"


def written(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table_of(**columns) -> Table:
    return Table("table.csv", {name: np.asarray(values) for name, values in columns.items()})


def texts(*values):
    return np.array(values, dtype=object)


def test_numbers_and_texts(tmp_path):
    table = read(written(tmp_path, CSV))
    assert list(table.columns) == ["id", "size", "colour", "kind"]
    assert np.array_equal(table.columns["size"], [2.5, np.nan, -1000, 4], equal_nan=True)
    assert table.columns["colour"].tolist() == ["red", "blue", None, "red"]
    assert len(table) == 4
    assert table.name == "table.csv"


@pytest.mark.parametrize("mark", ["", "?", "NA", "nan", "N/A", "null", "NULL"])
def test_marks_of_missing_values(tmp_path, mark):
    table = read(written(tmp_path, f"a,b\n1,x\n{mark},{mark}\n"))
    assert np.isnan(table.columns["a"][1])
    assert table.columns["b"][1] is None


@pytest.mark.parametrize("cell", ["1_0", "none", "0x10", "1,5", "-"])
def test_what_is_no_number_is_text(tmp_path, cell):
    table = read(written(tmp_path, f'a,b\n1,2\n"{cell}",3\n'))
    assert table.columns["a"].tolist() == ["1", cell]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("table.csv.gz", lambda text: gzip.compress(text.encode())),
        ("table.tsv", lambda text: text.replace(",", "\t").encode()),
        ("table.txt", lambda text: text.replace(",", ";").encode()),
        ("TABLE.CSV", lambda text: text.replace("\n", "\r\n").encode("utf-8-sig")),
    ],
)
def test_other_files_hold_the_same(tmp_path, name, change):
    usual = read(written(tmp_path, CSV))
    other = read(written(tmp_path, change(CSV), name))
    assert list(other.columns) == list(usual.columns)
    for column, values in usual.columns.items():
        assert texts_of(other.columns[column]).tolist() == texts_of(values).tolist()


def test_parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "table.parquet"
    columns = {
        "whole": pa.array([1, None, 3]),
        "text": pa.array(["a", None, " "]),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "flag": pa.array([True, False, None]),
        "day": pa.array([0, 1, 2], pa.date32()),
        "nothing": pa.nulls(3),
    }
    parquet.write_table(pa.table(columns), path)
    table = read(path)
    assert np.array_equal(table.columns["whole"], [1, np.nan, 3], equal_nan=True)
    assert table.columns["text"].tolist() == ["a", None, None]
    assert table.columns["kind"].tolist() == ["x", "y", "x"]
    assert table.columns["flag"].tolist() == ["True", "False", None]
    assert table.columns["day"].tolist() == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert np.isnan(table.columns["nothing"]).all()


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[tables\]'"):
        read(written(tmp_path, b"PAR1", "table.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "", "has no rows below its header"),
        ("t.csv", "a,b\n", "has no rows below its header"),
        ("t.csv", "a,b\n1,2\n3\n", "row 3: 1 cells where the header has 2"),
        ("t.csv", "a,a\n1,2\n", "has two columns called 'a'"),
        ("t.csv", "a,\n1,2\n", "column 2 has no name"),
        ("t.csv", "a\n1\ninf\n", "column a must be finite, row 3 is inf"),
        ("t.csv", b"a\n\xff\xfe\n", "must be UTF-8 text"),
        ("t.csv.gz", b"\x1f\x8b\x08", "cannot be read"),
        ("t.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("t.parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, said):
    with pytest.raises(DataError, match=said):
        read(written(tmp_path, content, name))


def test_no_file_and_no_table(tmp_path):
    with pytest.raises(InputError, match=r"nothing.csv is no file; give a table"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"table.xlsx must end in .csv"):
        read(written(tmp_path, "a", "table.xlsx"))


def test_rows_without_a_class_are_set_aside(tmp_path):
    table = read(written(tmp_path, "x,y\n1,a\n2,\n3,b\n4,?\n5,a\n"))
    data = labelled(table, "y")
    assert data.y.tolist() == ["a", "b", "a"]
    assert data.places.tolist() == [0, 2, 4]
    assert data.unlabelled.columns["x"].tolist() == [2, 4]
    assert data.unlabelled_places.tolist() == [1, 3]
    assert data.notes == ("2 rows without y are not learned from",)


def test_classes_that_are_numbers_are_read_as_written():
    data = labelled(table_of(x=[1.0, 2, 3], y=[2.0, 4.0, 2.0]), "y")
    assert data.y.tolist() == ["2", "4", "2"]


def test_columns_are_left_out_or_taken_as_names(tmp_path):
    table = read(written(tmp_path, CSV))
    data = labelled(table, "kind", drop=["id"], categories=["size"])
    assert list(data.table.columns) == ["size", "colour"]
    assert data.table.columns["size"].tolist() == ["2.5", None, "-1000", "4"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "knd"}, r"--target knd: table.csv has no such column; did you mean kind\?"),
        ({"target": "q"}, "has no such column; it has id, size, kind, one"),
        ({"target": "kind", "drop": ["siz"]}, r"--drop siz: .*did you mean size\?"),
        ({"target": "kind", "categories": ["siz"]}, r"--category siz: .*did you mean size\?"),
        ({"target": "kind", "drop": ["kind"]}, "--drop kind is the target itself"),
        ({"target": "one"}, "must hold at least two classes, all are 'z'"),
        ({"target": "kind", "drop": ["id", "size", "one"]}, "has no column left to learn from"),
    ],
)
def test_wrong_columns(options, said):
    table = table_of(id=[1.0, 2], size=[3.0, 4], kind=texts("a", "b"), one=texts("z", "z"))
    with pytest.raises(InputError, match=said):
        labelled(table, **options)


def test_measurements_are_no_classes():
    x = np.arange(200.0)
    for y, count in ((x / 7, 200), (np.floor(x / 2), 100)):
        with pytest.raises(InputError, match=f"--target y holds {count} different numbers in 200"):
            labelled(table_of(x=x, y=y), "y")
    labelled(table_of(x=x, y=x % 50), "y")
    labelled(table_of(x=x, y=(x % 3) / 2), "y")


def test_a_class_with_one_row():
    data = labelled(table_of(x=[1.0, 2, 3, 4], y=texts("a", "b", "a", "c")), "y")
    with pytest.raises(InputError, match="--target y: classes 'b', 'c' have one row"):
        check_pairs_of_each(data)
    data = labelled(table_of(x=[1.0, 2, 3], y=texts("a", "b", "a")), "y")
    with pytest.raises(InputError, match="class 'b' has one row"):
        check_pairs_of_each(data)


@pytest.mark.data
def test_every_uci_table_is_read():
    if "TUPELO_DATA" not in os.environ:
        pytest.skip("TUPELO_DATA is not set")
    folder = Path(os.environ["TUPELO_DATA"]) / "uci"
    for path in sorted(folder.glob("*.csv*")):
        table = read(path)
        data = labelled(table, "class")
        assert len(data.y) == len(table), path.name
