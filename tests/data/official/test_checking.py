import csv
import gzip
import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tupelo import data as tupelo_data
from tupelo.data import images
from tupelo.data.official import mnist
from tupelo.data.official.catalogue import Count, entry
from tupelo.data.official.checking import check_data_set
from tupelo.errors import DataError, InputError

from .conftest import MADE, idx, write
from .conftest import mnist as make_mnist

needs_data = pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="TUPELO_DATA is not set")


def checked(tree, **options):
    return check_data_set(tree.known.name, tree.root, known=tree.known, **options)


def wrong(report):
    return [(one.kind, one.path) for one in report.findings if one.wrong]


@pytest.mark.parametrize("name", MADE)
def test_whole_trees_are_in_order(made, name):
    tree = made(name)
    known = replace(tree.known, archives=())  # small lists have not the published checksums
    report = check_data_set(name, tree.root, deep=True, known=known)
    assert wrong(report) == []
    assert report.ok
    assert report.form == "official"
    found = {part.name: (part.listed, part.here, part.classes) for part in report.parts}
    for part, count in tree.known.counts.items():
        listed, here, classes = found[part]
        assert listed == here
        assert classes == count.classes
        assert count.pictures in (None, listed)


@pytest.mark.parametrize("name", MADE)
def test_published_counts_are_not_those_of_a_small_tree(made, name):
    tree = made(name)
    report = check_data_set(name, tree.root)
    assert {path for kind, path in wrong(report) if kind == "count"} == set(tree.known.counts)


@pytest.mark.parametrize("name", ["cub200", "cars196", "sop", "inshop", "vehicleid", "lfw"])
def test_missing_and_empty_files_are_named(made, name):
    tree = made(name)
    pictures = sorted(tree.folder.rglob("*.[jJ][pP][gG]"))
    pictures[0].unlink()
    pictures[1].write_bytes(b"")
    report = checked(tree)
    names = [path.relative_to(tree.folder).as_posix() for path in pictures]
    assert ("missing", names[0]) in wrong(report)
    assert ("empty", names[1]) in wrong(report)
    assert not report.ok
    part = next(one for one in report.findings if one.kind == "part")
    assert "are here; " in part.message
    assert "missing or empty, first " in part.message
    assert part.advice.startswith(f"unpack the archive again: tupelo datasets prepare {name}")


def test_counts_of_what_is_here(made):
    tree = made("sop")
    shutil.rmtree(tree.folder / "bicycle_final")
    report = checked(tree)
    train = report.parts[0]
    assert (train.name, train.listed, train.here, train.classes) == ("train", 10, 6, 5)
    assert report.findings[0].message == (
        "train: the list names 10 pictures, 6 are here; 4 missing or empty, first "
        "bicycle_final/2_0.JPG"
    )


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("cub200", "classes.txt"),
        ("cub200", "bounding_boxes.txt"),
        ("sop", "Ebay_test.txt"),
        ("vehicleid", "train_test_split/test_list_2400.txt"),
        ("miniimagenet", "val.csv"),
    ],
)
def test_missing_lists_are_named(made, name, lost):
    tree = made(name)
    (tree.folder / lost).unlink()
    report = checked(tree)
    assert wrong(report) == [("missing", lost)]


@pytest.mark.parametrize(("name", "mark"), [("cub200", "image_class_labels.txt")])
def test_a_tree_that_is_not_recognised(made, name, mark):
    tree = made(name)
    (tree.folder / mark).unlink()
    report = checked(tree)
    assert report.form == "missing"
    assert wrong(report) == [("missing", str(tree.folder)), ("missing", mark)]
    assert "expected its folder there as cub200/, CUB_200_2011/" in report.findings[0].message


@pytest.mark.parametrize(
    ("where", "name", "told"),
    [
        (
            "cub200/more/deep/CUB_200_2011",
            "cub200",
            "but it begins in {}: give that folder as root",
        ),
        ("omniglot/a/python", "omniglot", "but it begins in {}: give that folder as root"),
        ("cub200/Stanford_Online_Products", "sop", ", it looks like sop"),
    ],
)
def test_a_tree_too_deep_or_of_another_set(made, where, name, told):
    tree = made(name, where=where)
    wanted = where.split("/")[0]
    (finding,) = check_data_set(wanted, tree.root).findings
    assert told.format(tree.folder) in finding.message
    with pytest.raises(DataError, match=re.escape(told.format(tree.folder))):
        tupelo_data.known(wanted, root=tree.root)


def test_folders_that_must_not_be_read(made, monkeypatch, caplog):
    tree = made("cub200")
    closed = str(tree.folder / "images" / "101.Emu")
    scan, stat = os.scandir, Path.stat

    def scandir(path="."):
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return scan(path)

    def stat_of(self, **options):
        if str(self).startswith(f"{closed}/"):
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "stat", stat_of)
    report = checked(tree)
    found = [one for one in report.findings if one.kind == "unreadable"]
    assert [one.path for one in found] == [f"images/101.Emu/Emu_{each}.jpg" for each in range(3)]
    assert found[0].advice == "change the permissions of its folder"
    assert f"{closed} is left out: Permission denied" in caplog.text
    closed = str(tree.folder)
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        checked(tree)
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        tupelo_data.known("cub200", root=tree.root)
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        images(tree.folder)


def test_damaged_lists_and_loops_of_links(made):
    tree = made("vehicleid")
    path = tree.folder / "train_test_split" / "train_list.txt"
    path.write_text(path.read_text().replace(" 3\n", " three\n"))
    (tree.folder / "image" / "loop").symlink_to(tree.folder)
    (finding,) = [one for one in checked(tree).findings if one.wrong]
    assert finding.kind == "list"
    assert "a list of the data set is damaged or of another version" in finding.message
    tree = made("cub200")
    (tree.folder / "images" / "loop").symlink_to(tree.folder)
    (tree.folder / "images" / "lost.jpg").symlink_to(tree.folder / "nowhere")
    assert checked(tree).ok


def test_nothing_there_but_an_archive(tmp_path):
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"x")
    report = check_data_set("cub200", tmp_path)
    assert not report.ok
    assert [one.kind for one in report.findings] == ["missing", "archive"]
    assert report.findings[1].message == "is there, but not unpacked"


def test_files_in_no_list_are_told_but_are_no_error(made):
    tree = made("cub200")
    write(tree.folder / "images" / "101.Emu" / "more.jpg")
    write(tree.folder / "images" / ".DS_Store", b"x")
    report = checked(tree)
    assert report.ok
    assert [(one.kind, one.path) for one in report.findings] == [
        ("unlisted", "images/101.Emu/more.jpg")
    ]
    market = checked(made("market1501"))
    assert [one.path for one in market.findings] == ["bounding_box_test/notes.txt"]


def test_deep_finds_pictures_that_do_not_decode(made):
    tree = made("inshop")
    path = next((tree.folder / "Img").rglob("*.jpg"))
    path.write_bytes(path.read_bytes()[:200])
    assert checked(tree).ok
    assert wrong(checked(tree, deep=True)) == [
        ("damaged", path.relative_to(tree.folder).as_posix())
    ]


def test_deep_compares_archives(made):
    tree = made("sop")
    (tree.root / "Stanford_Online_Products.zip").write_bytes(b"x")
    assert checked(tree).ok
    (finding,) = [one for one in checked(tree, deep=True).findings if one.wrong]
    assert finding.kind == "checksum"
    assert "published is 7f73d41a2f44250d4779881525aea32e" in finding.message


def test_truncated_partition(made):
    tree = made("inshop")
    path = tree.folder / "Eval" / "list_eval_partition.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-4]))
    found = {one.kind: one.message for one in checked(tree).findings if one.wrong}
    assert found["list"] == "its first line promises 20 pictures, it names 16"
    assert found["count"] == ("gallery: 2 pictures of 1 classes are listed, 6 of 3 belong to it")


def test_characters_without_all_drawings(made):
    tree = made("omniglot")
    (tree.folder / "images_evaluation/Ge/character02/0002_07.png").unlink()
    findings = [one for one in checked(tree).findings if one.wrong]
    assert ("count", "images_evaluation/Ge/character02") in wrong(checked(tree))
    assert any("19 drawings, 20 belong to each character" in one.message for one in findings)


def test_pairs_of_missing_faces(made):
    tree = made("lfw")
    (tree.folder / "lfw_funneled/Ann_Ace/Ann_Ace_0003.jpg").unlink()
    report = checked(tree)
    assert ("list", "pairs.txt") in wrong(report)
    assert ("missing", "lfw_funneled/Ann_Ace/Ann_Ace_0003.jpg") in wrong(report)
    (tree.folder / "lfw-names.txt").unlink()
    assert {kind for kind, _ in wrong(checked(tree))} == {"list", "count"}


def test_another_published_count_is_a_note(made):
    tree = made("vehicleid")
    counts = {**tree.known.counts, "train": Count(99, 9, also=(15, 5), why="corrected later")}
    report = check_data_set("vehicleid", tree.root, known=replace(tree.known, counts=counts))
    assert report.ok
    assert report.findings[0].message == "train: corrected later: 15 pictures of 5 classes"


def small_mnist(tmp_path, monkeypatch):
    folder = tmp_path / "mnist"
    counts = make_mnist(folder)
    digests = tuple(
        hashlib.md5(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()
        for name in mnist.FILES
    )
    monkeypatch.setitem(mnist.CONTENT, "mnist", digests)
    return folder, replace(entry("mnist"), counts=counts)


def test_idx_files_by_content(tmp_path, monkeypatch):
    folder, known = small_mnist(tmp_path, monkeypatch)
    assert check_data_set("mnist", tmp_path, known=known, deep=True).ok
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.arange(20, dtype=np.uint8) // 2)))
    report = check_data_set("mnist", tmp_path, known=known)
    assert wrong(report) == [("checksum", path.name)]
    path.write_bytes(path.read_bytes()[:30])
    assert wrong(check_data_set("mnist", tmp_path, known=known))[0][0] == "list"
    path.unlink()
    assert wrong(check_data_set("mnist", tmp_path, known=known))[0] == (
        "missing", "t10k-labels-idx1-ubyte",
    )  # fmt: skip


def test_files_of_the_other_set(tmp_path, monkeypatch):
    folder, known = small_mnist(tmp_path, monkeypatch)
    folder.rename(tmp_path / "fashion_mnist")
    known = replace(known, name="fashion_mnist", folders=())
    report = check_data_set("fashion_mnist", tmp_path, known=known)
    assert sum("it is the file of mnist" in one.message for one in report.findings) == 4


def test_report_as_csv(made, tmp_path):
    tree = made("cub200")
    for path in (tree.folder / "images" / "001.Ant").iterdir():
        path.unlink()
    report = checked(tree)
    report.write(tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.findings) == 4
    assert rows[1]["path"] == "images/001.Ant/Ant_0.jpg"
    assert {row["wrong"] for row in rows} == {"yes"}


def test_a_report_that_cannot_be_written(made, tmp_path):
    report = checked(made("sop"))
    with pytest.raises(DataError, match=r"found.csv cannot be written: No such file or directory"):
        report.write(tmp_path / "nowhere" / "found.csv")


def test_refusals(tmp_path, monkeypatch):
    monkeypatch.delenv("TUPELO_DATA", raising=False)
    with pytest.raises(InputError, match="name must be one of"):
        check_data_set("imagenet", tmp_path)
    with pytest.raises(DataError, match="no folder to read sop from: give root="):
        check_data_set("sop")


def test_compact_form_with_a_file_missing(tmp_path):
    np.savez(
        tmp_path / "orl_faces.npz",
        image=np.random.default_rng(0).integers(0, 256, (8, 6, 5), dtype=np.uint8),
        label=np.repeat(np.arange(4), 2).astype(np.uint8),
        index=np.tile(np.arange(1, 3), 4).astype(np.uint8),
    )
    report = check_data_set("orl_faces", tmp_path)
    assert report.form == "compact"
    assert [one.message for one in report.findings if one.wrong] == [
        "all: 8 pictures of 4 classes are listed, 400 of 40 belong to it"
    ]
    (tmp_path / "orl_faces.npz").write_bytes(b"no zip")
    assert wrong(check_data_set("orl_faces", tmp_path)) == [("list", "orl_faces.npz")]


@needs_data
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("cub200", "compact"), ("cub200_half", "compact"), ("cars196", "compact"),
        ("omniglot", "compact"), ("lfw", "compact"), ("orl_faces", "compact"),
        ("tiny_imagenet_fewshot", "compact"), ("mnist", "official"), ("fashion_mnist", "official"),
    ],
)  # fmt: skip
def test_real_data_is_in_order(name, form):
    report = check_data_set(name, deep=name in ("cub200", "orl_faces", "mnist"))
    assert wrong(report) == []
    assert report.form == form
