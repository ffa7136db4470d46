import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tupelo.data.official import preparing
from tupelo.data.official.catalogue import entry
from tupelo.data.official.preparing import prepare
from tupelo.errors import DataError, InputError


def pack(folder: Path, archive: Path, top: str = "") -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, Path(top) / path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, top or ".")


def without_checksums(known):
    archives = tuple(replace(each, md5="", sha256="", size=None) for each in known.archives)
    return replace(known, archives=archives)


@pytest.fixture
def published(made, tmp_path):
    """The archives of a small data set as its publisher names them, and its entry."""

    def make(name: str, where: Path):
        tree = made(name, f"source-{name}")
        where.mkdir(exist_ok=True)
        if name == "cub200":
            pack(tree.folder, where / "CUB_200_2011.tgz", "CUB_200_2011")
        elif name == "sop":
            pack(tree.folder, where / "Stanford_Online_Products.zip", "Stanford_Online_Products")
        elif name == "omniglot":
            for half in ("images_background", "images_evaluation"):
                pack(tree.folder / half, where / f"{half}.zip", half)
        elif name == "inshop":
            pack(tree.folder / "Img" / "img", where / "img.zip", "img")
            shutil.copy(tree.folder / "Eval" / "list_eval_partition.txt", where)
        elif name == "cars196":
            pack(tree.folder / "car_ims", where / "car_ims.tgz", "car_ims")
            shutil.copy(tree.folder / "cars_annos.mat", where)
        elif name == "market1501":
            pack(tree.folder, where / "Market-1501-v15.09.15.zip", "Market-1501-v15.09.15")
        elif name == "miniimagenet":
            pack(tree.folder / "images", where / "images.zip", "images")
            for part in ("train", "val", "test"):
                shutil.copy(tree.folder / f"{part}.csv", where)
        elif name == "lfw":
            pack(tree.folder / "lfw_funneled", where / "lfw-funneled.tgz", "lfw_funneled")
            shutil.copy(tree.folder / "pairs.txt", where)
        elif name == "vehicleid":
            pack(tree.folder, where / "VehicleID_V1.0.zip", "VehicleID_V1.0")
        shutil.rmtree(tree.folder)
        return without_checksums(tree.known)

    return make


NAMES = (
    "cub200", "cars196", "sop", "inshop", "vehicleid", "market1501", "omniglot", "miniimagenet",
    "lfw",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_archives_in_the_folder_of_data_sets(published, tmp_path, name):
    root = tmp_path / "data"
    known = published(name, root)
    prepared = prepare(name, root, known=known)
    assert prepared.report.ok, prepared.report.findings
    assert prepared.lacking == ()
    assert prepared.folder == root / name
    again = prepare(name, root, known=known)
    assert again.done == ("it is in order: nothing to do",)


def test_archives_in_the_folder_of_the_data_set(published, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    known = published("inshop", root / "inshop")
    prepared = prepare("inshop", root, known=known)
    assert prepared.report.ok
    assert (root / "inshop" / "Img" / "img").is_dir()


def test_a_tree_that_lost_files_is_mended(published, tmp_path):
    root = tmp_path / "data"
    known = published("sop", root)
    prepare("sop", root, known=known)
    lost = next((root / "sop").rglob("*.JPG"))
    lost.unlink()
    prepared = prepare("sop", root, known=known)
    assert prepared.report.ok
    assert lost.exists()
    assert "unpacked" in prepared.done[0]


def test_what_is_lacking_is_named(published, tmp_path):
    root = tmp_path / "data"
    known = published("omniglot", root)
    (root / "images_evaluation.zip").unlink()
    prepared = prepare("omniglot", root, known=known)
    assert [each.name for each in prepared.lacking] == ["images_evaluation.zip"]
    assert not prepared.report.ok
    nothing = prepare("sop", tmp_path / "empty")
    assert [each.name for each in nothing.lacking] == ["Stanford_Online_Products.zip"]
    assert nothing.done == ()
    assert not (tmp_path / "empty").exists()


def test_another_archive_is_refused(published, tmp_path):
    root = tmp_path / "data"
    published("sop", root)
    with pytest.raises(DataError, match=r"Products.zip is not the published file: its md5 is"):
        prepare("sop", root)


def test_download_only_when_wanted_and_offered(published, tmp_path, monkeypatch):
    source, root = tmp_path / "publisher", tmp_path / "data"
    known = published("cub200", source)
    md5 = hashlib.md5((source / "CUB_200_2011.tgz").read_bytes()).hexdigest()
    known = replace(known, archives=(replace(known.archives[0], md5=md5),))
    asked = []

    def fetch(url, target, *, size, md5, sha256, progress):
        asked.append((url, target.name, md5))
        target.parent.mkdir(parents=True)
        return Path(shutil.copy(source / target.name, target))

    monkeypatch.setattr(preparing, "fetch", fetch)
    assert not prepare("cub200", root, known=known).report.ok
    assert asked == []
    prepared = prepare("cub200", root, known=known, download=True)
    assert asked == [(entry("cub200").archives[0].url, "CUB_200_2011.tgz", md5)]
    assert prepared.report.ok
    assert prepared.done[0].startswith("fetched ")
    with pytest.raises(InputError, match=r"--download: PKU VehicleID is not offered as plain fil"):
        prepare("vehicleid", root, download=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file cannot be used: .*; choose another folder, or chan"):
        prepare("mnist", tmp_path / "file", download=True)
