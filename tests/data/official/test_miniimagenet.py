import pytest

from tupelo.data import images, known
from tupelo.errors import DataError

from .conftest import write


def test_official_validation_classes(made):
    data = known("miniimagenet", root=made("miniimagenet").root)
    assert [part.n_classes for part in (data.train, data.val, data.test)] == [3, 2, 2]
    assert data.val.class_names == ("n01532832", "n01532833")
    assert data.val.paths[0] == "images/n0153283200000001.jpg"


def test_another_table(made):
    tree = made("miniimagenet")
    write(tree.folder / "val.csv", "name,label\n")
    with pytest.raises(DataError, match=r"val.csv must begin with filename,label, it begins with"):
        images(tree.folder)


def test_tables_of_ones_own_are_not_taken_for_it(made, tmp_path):
    folder = made("miniimagenet").folder
    rows = [
        f"images/{path.name},{'ab'[place % 2]}"
        for place, path in enumerate(sorted((folder / "images").iterdir()))
    ]
    for name in ("val.csv", "test.csv"):
        (folder / name).unlink()
    write(folder / "train.csv", "filename,label\n" + "\n".join(rows))
    data = images(folder, columns={"path": "filename"}, split="items", validation=0, test=0)
    assert data.train.class_names == ("a", "b")
