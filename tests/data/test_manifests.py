import sys
import zipfile

import numpy as np
import pytest

from tupelo.data import images
from tupelo.errors import DataError, InputError, MissingExtra

from .conftest import png


@pytest.fixture
def pictures(tmp_path):
    for number in range(24):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    return tmp_path


def write(folder, header, rows, name="set.csv"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
    return path


def rows(n=24, k=4):
    return [f"{number}.png,class {number // k}" for number in range(n)]


def all_of(data):
    return [part for part in (data.train, data.val, data.test) if part is not None]


def test_path_and_label(pictures):
    data = images(write(pictures, "path,label", rows()))
    assert sum(part.n_classes for part in all_of(data)) == 6
    assert sum(map(len, all_of(data))) == 24
    assert data.train.class_names[0].startswith("class ")


def test_own_column_names_tabs_and_absolute_paths(pictures):
    body = [f"{pictures / row.split(',')[0]}\t{row.split(',')[1]}\tz" for row in rows()]
    path = write(pictures, "file\tspecies\tnote", body, "set.tsv")
    data = images(path, columns={"path": "file", "label": "species"})
    assert sum(map(len, all_of(data))) == 24


def test_query_and_gallery_column(pictures, caplog):
    body = []
    for place, row in enumerate(rows()):
        part = "train" if row[-1] in "012" else ("query", "gallery")[place % 2]
        body.append(f"{row},{part},{'g' if place in (0, len(rows()) - 1) else ''}")
    data = images(write(pictures, "path,label,split,group", body), validation=0)
    assert data.test.class_names == data.gallery.class_names
    assert set(data.test.class_names).isdisjoint(data.train.class_names)
    assert set(data.test.paths).isdisjoint(data.gallery.paths)
    (note,) = data.notes
    assert note.startswith("the split is kept as given, but 1 groups have pictures on")


def test_split_column(pictures):
    words = ["train"] * 16 + ["test"] * 8
    body = [f"{row},{word}" for row, word in zip(rows(), words, strict=True)]
    data = images(write(pictures, "path,label,split", body))
    assert data.test.class_names == ("class 4", "class 5")
    assert data.val.n_classes == data.train.n_classes == 2


def test_group_column_keeps_groups_whole(pictures):
    body = [f"{row},{'' if number == 0 else number // 8}" for number, row in enumerate(rows())]
    data = images(write(pictures, "path,label,group", body), validation=0.3, test=0.3)
    groups = [set(part.groups.tolist()) - {-1} for part in all_of(data)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 3


def test_boxes_cut_and_make_items(pictures):
    body = [f"0.png,{label},{x},0,4,5" for x, label in zip(range(8), "aabbccdd", strict=True)]
    body += ["1.png,a,,,,"]
    data = images(
        write(pictures, "path,label,x,y,w,h", body), split="items", validation=0, test=0, size=5
    )
    assert len(data.train) == 9
    data = images(
        write(pictures, "path,label,x,y,w,h", body[:-1]), split="items", validation=0, test=0
    )
    assert data.train.size == (5, 4)


def test_bad_boxes_and_labels_are_listed(pictures):
    body = [f"{row},0,0,5,5" for row in rows()]
    body[0] = "0.png,class 0,a,0,5,5"
    body[1] = "1.png,class 0,0,0,-5,5"
    body[4] = "4.png,class 1,50,50,5,5"
    body[8] = "8.png,,0,0,5,5"
    body[12] = "gone.png,class 3,0,0,5,5"
    body[16] = ",class 4,0,0,5,5"
    data = images(
        write(pictures, "path,label,x,y,w,h", body), allow_bad=0.5, split="items", test=0,
        validation=0,
    )  # fmt: skip
    assert sorted(item.reason.split(":")[0] for item in data.bad) == [
        "box is not four numbers",
        "box misses the picture",
        "box needs a positive width and height",
        "file not found",
        "no label",
        "no path in row 17",
    ]


def test_tags(pictures):
    body = [f"{n}.png,{'red|' if n % 2 else ''}{'round' if n % 3 else 'flat'}" for n in range(24)]
    data = images(write(pictures, "path,label", body), split="items", validation=0.2, test=0.2)
    train = data.train
    assert train.class_names == ("flat", "red", "round")
    assert train.labels.dtype == np.bool_
    assert train.labels.shape == (len(train), 3)
    for path, row in zip(train.paths, train.labels, strict=True):
        number = int(path.removesuffix(".png"))
        assert row.tolist() == [number % 3 == 0, number % 2 == 1, number % 3 != 0]
    assert train.batch([0, 1]).labels.shape == (2, 3)
    with pytest.raises(DataError, match=r'shared tags tie all classes together.*split="items"'):
        images(write(pictures, "path,label", body), split="classes")


def test_parquet_reads_as_csv(pictures):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {
            "path": [f"{number}.png" for number in range(24)],
            "label": [number // 4 for number in range(24)],
            "x": [0] * 23 + [None],
            "y": [0] * 23 + [None],
            "w": [6] * 23 + [None],
            "h": [6] * 23 + [None],
        }
    )
    parquet.write_table(table, pictures / "set.parquet")
    data = images(pictures / "set.parquet", size=6)
    assert sum(map(len, all_of(data))) == 24
    (pictures / "set.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"set.parquet cannot be read as Parquet"):
        images(pictures / "set.parquet")


def test_parquet_without_pyarrow(pictures, monkeypatch):
    (pictures / "set.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"needs pyarrow: pip install tupelo\[tables\]"):
        images(pictures / "set.parquet")


def test_manifest_inside_a_zip(pictures):
    with zipfile.ZipFile(pictures / "set.zip", "w") as archive:
        archive.writestr("top/set.csv", "\n".join(["path,label", *rows(24, 4)]))
        archive.writestr("top/other.csv", "a,b\n1,2\n")
        for number in range(24):
            archive.write(pictures / f"{number}.png", f"top/{number}.png")
    data = images(pictures / "set.zip")
    assert sum(map(len, all_of(data))) == 24
    assert data.train.paths[0].startswith("top/")


@pytest.mark.parametrize(
    ("header", "body", "columns", "error", "message"),
    [
        ("file,label", rows(), {}, DataError, "has no column path; it has file, label; name"),
        ("path,label", rows(), {"label": "kind"}, DataError, "has no column kind"),
        ("path,label", rows(), {"colour": "c"}, InputError, r"columns names \['colour'\]; fields"),
        ("path,label,x", [f"{row},1" for row in rows()], {}, DataError, "all of the box columns"),
        ("path,label", ["0.png"], {}, DataError, "a row has 1 fields where the header has 2"),
        ("path,label", [], {}, DataError, "has no row with a path and a label"),
        (
            "path,label,split",
            [f"{row},later" for row in rows()],
            {},
            DataError,
            r"split must be train, validation or test \(or query and gallery\), found \['later'\]",
        ),
    ],
)
def test_refusals(pictures, header, body, columns, error, message):
    with pytest.raises(error, match=message):
        images(write(pictures, header, body), columns=columns)


def test_more_refusals(pictures):
    (pictures / "set.csv").write_bytes("path,label\nä.png,b\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"set.csv must be UTF-8 text"):
        images(pictures / "set.csv")
    write(pictures, "path,label", rows(), "one.csv")
    write(pictures, "path,label", rows(), "two.csv")
    with pytest.raises(DataError, match=r"several tables could be the manifest: one.csv, two.csv"):
        images(pictures)
