import numpy as np
import pytest
from PIL import Image

from tupelo.data import images, known
from tupelo.errors import DataError, InputError


def test_classes_up_to_100_train(made):
    tree = made("cub200")
    data = known("cub200", root=tree.root)
    assert data.test.class_names == ("101.Emu", "200.Fox")
    assert sorted(data.train.class_names + data.val.class_names) == [
        "001.Ant", "002.Bee", "099.Cat", "100.Dog",
    ]  # fmt: skip
    assert (len(data.train), len(data.val), len(data.test)) == (6, 6, 6)
    assert data.gallery is None
    assert data.notes == ()
    place = data.test.paths.index("images/101.Emu/Emu_1.jpg")
    assert data.test.class_names[data.test.labels[place]] == "101.Emu"


def test_boxes_cut_the_pictures(made):
    tree = made("cub200")
    data = known("cub200", root=tree.root, boxes=True)
    assert data.test.size == (4, 6)
    path = data.test.paths[2]
    expected = np.asarray(Image.open(tree.folder / path).crop((2, 3, 8, 7))).transpose(2, 0, 1)
    found = (data.test.batch([2]).images[0] * 255).round().numpy()
    assert np.array_equal(found, expected)
    assert known("cub200", root=tree.root).test.size == (10, 12)


@pytest.mark.parametrize("where", ["cub200", "CUB_200_2011", "cub200/CUB_200_2011"])
def test_it_is_found_by_its_published_names(made, where):
    tree = made("cub200", where)
    assert len(known("cub200", root=tree.root).test) == 6
    assert len(images(tree.folder).test) == 6, "images() knows the layout by itself"
    assert len(known("cub200", root=tree.folder).test) == 6, "root may be the folder itself"


def test_exact_copies_of_the_published_lists_are_kept(made):
    tree = made("cub200")
    copy = (tree.folder / "images/101.Emu/Emu_0.jpg").read_bytes()
    (tree.folder / "images/200.Fox/Fox_0.jpg").write_bytes(copy)
    data = images(tree.folder)
    assert len(data.test) == 6
    assert data.bad == ()
    assert data.notes == (
        "1 exact copies of other pictures are kept: the published lists name them",
    )


def test_lists_that_do_not_agree(made):
    tree = made("cub200")
    labels = tree.folder / "image_class_labels.txt"
    labels.write_text(labels.read_text().replace("\n5 2\n", "\n"))
    with pytest.raises(DataError, match=r"picture 5 of images.txt has no class or box in the oth"):
        images(tree.folder)
    labels.write_text("1\n")
    with pytest.raises(DataError, match=r"labels.txt, line 1 must have 2 fields, it is '1'"):
        images(tree.folder)
    (tree.folder / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes.txt is missing; unpack the archive"):
        images(tree.folder)


def test_what_it_does_not_have(made):
    tree = made("cub200")
    with pytest.raises(InputError, match=r"variant='large' is not known: cub200 has none"):
        known("cub200", root=tree.root, variant="large")
    with pytest.raises(InputError, match=r"labels='alphabet' is for Omniglot only"):
        known("cub200", root=tree.root, labels="alphabet")
