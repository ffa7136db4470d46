import pytest

from tupelo.data import images, known
from tupelo.errors import DataError, InputError


def test_published_lists(made):
    data = known("sop", root=made("sop").root)
    assert data.test.class_names == ("00011 sofa", "00012 bicycle", "00013 sofa")
    assert data.test.paths[:2] == ("sofa_final/11_0.JPG", "sofa_final/11_1.JPG")
    assert data.train.n_classes + data.val.n_classes == 5
    assert (len(data.train) + len(data.val), len(data.test)) == (10, 6)


def test_a_list_is_missing(made):
    tree = made("sop", "Stanford_Online_Products")
    (tree.folder / "Ebay_test.txt").unlink()
    with pytest.raises(DataError, match=r"Ebay_test.txt is missing"):
        images(tree.folder)


def test_a_damaged_list(made):
    tree = made("sop")
    path = tree.folder / "Ebay_test.txt"
    path.write_text(path.read_text().replace(" 12 ", " twelve "))
    with pytest.raises(DataError, match=r"a list of the data set is damaged .*twelve.*unpack its"):
        images(tree.folder)


def test_it_has_no_boxes(made):
    with pytest.raises(InputError, match="boxes=True needs published bounding boxes, which sop"):
        known("sop", root=made("sop").root, boxes=True)
