"""Files of features, and finding pictures in them by name."""

import sys

import numpy as np
import pytest

from tupelo.data.features import match, read_features
from tupelo.errors import DataError, MissingExtra

NAMES = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
Z = np.arange(1, 7, dtype=np.float32).reshape(3, 2)


def npz(path, z=Z, names=NAMES):
    np.savez(path, z=z, paths=np.array(names))
    return path


@pytest.mark.parametrize("ending", ["npz", "parquet", "csv"])
def test_every_format(tmp_path, ending):
    path = tmp_path / f"faces.{ending}"
    if ending == "npz":
        npz(path)
    elif ending == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pa.table({"path": NAMES, "label": list("aab"), "z": Z.tolist()}), path)
    else:
        rows = [f"{name},x,{a},{b}" for name, (a, b) in zip(NAMES, Z, strict=True)]
        path.write_text("\n".join(["path,label,0,1", *rows]) + "\n")
    found = read_features(path)
    assert found.names == tuple(NAMES)
    assert np.array_equal(found.rows, Z)


def test_refusals(tmp_path, monkeypatch):
    path = tmp_path / "faces.npz"
    with pytest.raises(
        DataError, match=r"faces.npz is missing; tupelo embed RUN SOURCE --out faces"
    ):
        read_features(path)
    with pytest.raises(DataError, match=r"features must be a file .npz, .parquet or .csv, got"):
        read_features(tmp_path / "faces.pkl")
    wrong = Z.copy()
    wrong[1, 0] = np.nan
    with pytest.raises(DataError, match=r"1 of 3 rows are NaN, .* first that of a/2.jpg \(NaN or"):
        read_features(npz(path, wrong))
    with pytest.raises(DataError, match=r"1 of 3 rows are .* first that of a/1.jpg \(zero\)"):
        read_features(npz(path, Z * [[0], [1], [1]]))
    with pytest.raises(DataError, match=r"holds 1 names twice, first a/1.jpg; keep one of each"):
        read_features(npz(path, names=["a/1.jpg", "a/1.jpg", "b"]))
    with pytest.raises(DataError, match="a row of numbers for each name, got 2 names and float32"):
        read_features(npz(path, names=["a", "b"]))
    with pytest.raises(DataError, match="got 3 names and int64"):
        read_features(npz(path, Z.astype(np.int64)))
    np.savez(path, z=Z)
    with pytest.raises(
        DataError, match=r"has no array .*paths; features are the arrays paths and z"
    ):
        read_features(path)
    np.savez(path, z=Z, paths=np.array(NAMES, object))
    with pytest.raises(DataError, match=r"cannot be read as .npz: Object arrays cannot be loaded"):
        read_features(path)
    path.write_bytes(b"PK\3\4 cut")
    with pytest.raises(DataError, match=r"cannot be read as .npz"):
        read_features(path)
    text = tmp_path / "faces.csv"
    text.write_text("name,0\na,1\n")
    with pytest.raises(
        DataError, match="has no column path; features are path and a column a numb"
    ):
        read_features(text)
    text.write_text("path,0,1\na,1,2\nb,1\n")
    with pytest.raises(DataError, match="line 3 must have a path and 2 numbers, it is 'b,1'"):
        read_features(text)
    text.write_bytes(b"path,0\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="must be UTF-8 text"):
        read_features(text)
    table = tmp_path / "faces.parquet"
    table.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_features(table)
    from pyarrow import parquet
    from pyarrow import table as made

    parquet.write_table(made({"path": ["a", "b"], "z": [[1.0], [1.0, 2.0]]}), table)
    with pytest.raises(DataError, match="must hold rows of equally many numbers"):
        read_features(table)
    parquet.write_table(made({"path": ["a"]}), table)
    with pytest.raises(DataError, match="has no column z"):
        read_features(table)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'tupelo\[tables\]'; .npz needs nothing"):
        read_features(table)


def test_names_are_matched_by_their_last_parts():
    names = ["x/a/1.jpg", "x/a/2.png", "x/b/1.jpg", "crops/17.png", "17/1.jpg"]
    assert match(["a/2.jpg", "a/1.jpg", "b/1.jpg", "17", "17/1.jpg"], names, "here").tolist() == [
        1, 0, 2, 3, 4,
    ]  # fmt: skip
    with pytest.raises(
        DataError, match=r"here lacks 2 of 3 pictures of the protocol, first c/1.jpg"
    ):
        match(["a/1.jpg", "c/1.jpg", "d/1.jpg"], names, "here")
    with pytest.raises(DataError, match=r"here holds several pictures that could be 1.jpg; give"):
        match(["1.jpg"], names, "here")
