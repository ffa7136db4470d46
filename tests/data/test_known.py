import gzip
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tupelo.data import images, known
from tupelo.data.compact import recognise
from tupelo.errors import DataError, InputError

from .conftest import png

needs_data = pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="TUPELO_DATA is not set")

# Counts as the READMEs beside the data state them; the copies found in them are left out.
FACTS = {
    "mnist": (70_000, 10, 0, 1, (28, 28)),
    "fashion_mnist": (70_000, 10, 0, 1, (28, 28)),
    "omniglot": (32_460, 1_623, 1, 1, (105, 105)),
    "cars196": (8_144, 196, 11, 3, (64, 64)),
    "cub200_half": (5_902, 100, 0, 3, (72, 72)),
    "cub200": (5_902, 100, 0, 3, (72, 72)),
    "tiny_imagenet_fewshot": (6_400, 200, 0, 3, (64, 64)),
    "lfw": (13_233, 5_749, 0, 3, (64, 64)),
    "orl_faces": (400, 40, 0, 1, (112, 92)),
}
TEST_CLASSES = {
    "omniglot": 659,
    "cars196": 98,
    "cub200_half": 42,
    "cub200": 42,
    "tiny_imagenet_fewshot": 50,
}


@needs_data
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", FACTS)
def test_counts_are_those_of_the_readme(name):
    data = known(name)
    n, n_classes, n_bad, channels, size = FACTS[name]
    parts = [data.train, data.validation, data.test]
    assert sum(map(len, parts)) + len(data.bad) == n
    assert len(data.bad) == n_bad
    assert all(item.reason.startswith("duplicate") for item in data.bad)
    names = set().union(*(part.class_names for part in parts))
    assert len(names) == n_classes
    assert data.train.channels == channels
    assert data.train.size == size
    if name in TEST_CLASSES:
        assert data.test.n_classes == TEST_CLASSES[name]
    half = any("not comparable with papers" in note for note in data.notes)
    assert half == (name in {"cub200", "cub200_half", "cars196"})
    if name not in {"mnist", "fashion_mnist"}:
        assert sum(part.n_classes for part in parts) == n_classes


@needs_data
@pytest.mark.data
@pytest.mark.slow
def test_mnist_splits():
    official = known("mnist")
    assert (len(official.train), len(official.val), len(official.test)) == (51_000, 9_000, 10_000)
    assert official.test.labels[:6].tolist() == [7, 2, 1, 0, 4, 1]
    apart = known("mnist", split={"test": list("6789"), "val": list("45")})
    assert apart.train.class_names == tuple("0123")
    assert sum(map(len, (apart.train, apart.val, apart.test))) == 70_000
    assert known("fashion_mnist").test.class_names[9] == "9 Ankle boot"


@needs_data
@pytest.mark.data
@pytest.mark.slow
def test_omniglot_by_alphabet_and_character():
    characters = known("omniglot")
    alphabets = [
        {name.split("/")[0] for name in part.class_names}
        for part in (characters.train, characters.val, characters.test)
    ]
    assert sum(map(len, alphabets)) == 50
    assert len(alphabets[2]) == 20
    data = known("omniglot", labels="alphabet")
    assert data.test.n_classes == 20
    assert data.train.n_classes + data.val.n_classes == 30
    assert 0.8 < data.test.batch(range(50)).images.mean() < 1, "black ink on white"


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"name must be one of cub200, .*, got 'cifar'"):
        known("cifar")
    monkeypatch.delenv("TUPELO_DATA", raising=False)
    with pytest.raises(DataError, match="no folder to read mnist from: give root=, or set TUP"):
        known("mnist")
    monkeypatch.setenv("TUPELO_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"lfw is not in .*: expected its folder there as lfw/"):
        known("lfw")


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.tobytes()


@pytest.fixture
def tiny_mnist(tmp_path):
    rng = np.random.default_rng(0)
    for mark, n in (("train", 80), ("t10k", 20)):
        pictures = rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)
        labels = (np.arange(n) % 5).astype(np.uint8)
        for name, array in ((f"images-idx{3}", pictures), (f"labels-idx{1}", labels)):
            path = tmp_path / f"{mark}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array)))
    return tmp_path


def unpacked(folder: Path):
    for path in folder.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    return folder


def test_idx_folders_with_and_without_gz(tiny_mnist):
    one = images(tiny_mnist)
    assert (len(one.train), len(one.val), len(one.test)) == (70, 10, 20)
    assert one.train.paths[0].startswith("train/")
    two = images(unpacked(tiny_mnist))
    assert one.train.batch(range(9)).images.equal(two.train.batch(range(9)).images)
    large = images(tiny_mnist, size=8, channels=3)
    assert large.train.batch([0]).images.shape == (1, 3, 8, 8)
    classes = images(tiny_mnist, split={"test": ["3", "4"]}, validation=0)
    assert classes.train.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-labels-idx1-ubyte", b"\0\0\x0d\x01", "is not an idx file of bytes with 1 axes"),
        ("train-labels-idx1-ubyte", None, "cannot be read"),
        ("train-labels-idx1-ubyte", idx(np.zeros(80, np.uint8))[:-1], "truncated: 79 of 80 bytes"),
        ("train-labels-idx1-ubyte", idx(np.zeros(79, np.uint8)), "80 pictures but 79 labels"),
    ],
)
def test_damaged_idx(tiny_mnist, name, content, message):
    path = unpacked(tiny_mnist) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        images(tiny_mnist)


def test_damaged_gz(tiny_mnist):
    path = tiny_mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        images(tiny_mnist)


def zipped(path, folders, start=0):
    with zipfile.ZipFile(path, "w") as archive:
        for place, folder in enumerate(folders):
            for number in range(3):
                archive.writestr(f"{folder}/{number}.png", png(start + 3 * place + number))


CARS = ("001", "002", "003", "098", "099", "196")
BIRDS = ("001.Ant", "009.Bee", "050.Cat", "100.Dog", "101.Emu", "200.Fox")


def test_cars_and_birds_are_split_by_class_number(tmp_path):
    zipped(tmp_path / "cars196_train_bbox64.zip", CARS)
    with pytest.raises(DataError, match=r"holds cars196_train_bbox64.zip, but what belongs to it"):
        images(tmp_path)
    (tmp_path / "class_names.txt").write_text("".join(f"{number} Car\n" for number in CARS))
    data = images(tmp_path)
    assert data.test.class_names == ("099 Car", "196 Car")
    assert data.train.n_classes == data.val.n_classes == 2
    (tmp_path / "birds").mkdir()
    zipped(tmp_path / "birds" / "cub200_100classes_72.zip", BIRDS)
    assert images(tmp_path / "birds").test.class_names == ("101.Emu", "200.Fox")


def test_tiny_imagenet_has_three_parts_and_lfw_none(tmp_path):
    zipped(tmp_path / "tiny_imagenet_cap32.zip", "abcdef")
    parts = ["train", "val", "test"] * 2
    rows = [f"{name},word {name},{part},\n" for name, part in zip("abcdef", parts, strict=True)]
    header = "wnid,words,split_ours,in_mini_imagenet_as\n"
    (tmp_path / "classes.csv").write_text(header + "".join(rows))
    data = images(tmp_path)
    assert data.val.class_names == ("b word b", "e word e")
    assert data.test.class_names == ("c word c", "f word f")
    (tmp_path / "lfw").mkdir()
    zipped(tmp_path / "lfw" / "lfw_deepfunneled_crop64.zip", "abcdef")
    data = images(tmp_path / "lfw")
    assert [part.n_classes for part in (data.train, data.val, data.test)] == [2, 2, 2]


def test_orl_faces_and_labels_it_does_not_have(tmp_path):
    path = tmp_path / "orl_faces.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        image=rng.integers(0, 256, (40, 6, 5), dtype=np.uint8),
        label=np.repeat(np.arange(10), 4).astype(np.uint8),
        index=np.tile(np.arange(1, 5), 10).astype(np.uint8),
    )
    for source in (tmp_path, path):
        data = images(source)
        assert sum(part.n_classes for part in (data.train, data.val, data.test)) == 10
        assert data.train.size == (6, 5)
    with pytest.raises(InputError, match="labels='alphabet' is for Omniglot only"):
        recognise(path, "alphabet")
    shutil.copy(__file__, path)
    with pytest.raises(DataError, match=r"orl_faces.npz is damaged or not the known data set"):
        images(path)


def test_omniglot_groups_characters_by_alphabet(tmp_path):
    ink = np.random.default_rng(0).random((36, 105 * 105)) < 0.1
    np.savez(
        tmp_path / "omniglot_105.npz",
        bits=np.packbits(ink, axis=1),
        label=np.repeat(np.arange(12), 3).astype(np.int16),
        drawer=np.tile([1, 2, 3], 12).astype(np.uint8),
        class_name=np.array([f"Alphabet{number // 2}/character{number}" for number in range(12)]),
        class_split=np.repeat([0, 1], [8, 4]).astype(np.uint8),
        class_alphabet=(np.arange(12) // 2).astype(np.uint8),
        alphabet_name=np.array([f"Alphabet{number}" for number in range(6)]),
    )
    data = images(tmp_path)
    assert len({name.split("/")[0] for name in data.val.class_names}) == 1
    assert data.test.class_names == tuple(f"Alphabet{n // 2}/character{n}" for n in (8, 9, 10, 11))
    first = data.test.paths.index("Alphabet4/character8/01")
    expected = 1 - ink[24].reshape(105, 105)
    assert np.array_equal(data.test.batch([first]).images[0, 0].numpy(), expected)
    alphabets = images(tmp_path, labels="alphabet")
    assert alphabets.test.class_names == ("Alphabet4", "Alphabet5")
    with pytest.raises(InputError, match='labels must be "class" or "alphabet" for Omniglot'):
        images(tmp_path, labels="drawer")


def test_npz_never_unpickles(tmp_path):
    path = tmp_path / "orl_faces.npz"
    np.savez(path, image=np.array([{}], dtype=object), label=np.zeros(1), index=np.zeros(1))
    with pytest.raises(DataError, match="allow_pickle=False"):
        images(path)
