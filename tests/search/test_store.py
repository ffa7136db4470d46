"""Crash safety: what readers find while a writer works, dies or is kept out."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.search import killed

from tupelo import search
from tupelo.errors import CheckpointError, InputError
from tupelo.search import Items, store

KILLED = Path(__file__).with_name("killed.py")


def kills(folder, each, seed):
    result = subprocess.run(
        [sys.executable, KILLED, folder, str(each), str(seed)],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    done = re.findall(r"(\w+) (\d+)/\d+", result.stdout)
    assert [name for name, _ in done] == ["build", "add", "rebuild"]
    return sum(int(count) for _, count in done)


def test_a_writer_killed_at_some_moment_leaves_old_or_new(folder):
    writer = subprocess.Popen(
        [sys.executable, KILLED, folder],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with writer:
        assert writer.stdout.readline() == "built\n"
        time.sleep(random.uniform(0, 0.3))
        writer.kill()
    index = search.open(folder)
    turn = min(int(label.split()[1]) for label in index.labels(index.paths())) % 1_000
    assert any(killed.holds(folder, content) for content in killed.states(turn))
    index.rebuild()  # no lock is left


@pytest.mark.slow
def test_a_writer_killed_at_51_random_moments_leaves_old_or_new(tmp_path):
    assert kills(tmp_path, 17, seed=int.from_bytes(os.urandom(4))) >= 50


class Dead(BaseException):
    """A writer that ends here; a kill leaves the same files."""


def dying(monkeypatch, name):
    def die(*_, **__):
        raise Dead

    monkeypatch.setattr(store, name, die)


@pytest.mark.parametrize("place", ["flush", "write_pointer", "_flush"])
@pytest.mark.parametrize("operation", ["add", "delete", "rebuild", "build"])
def test_a_write_that_dies_before_its_pointer_changes_nothing(
    index, folder, items, queries, monkeypatch, operation, place
):
    work = {
        "add": lambda: index.add(Items(queries, [f"new/{row}" for row in range(6)])),
        "delete": lambda: index.delete(index.paths("shop/1*")),
        "rebuild": lambda: index.rebuild(approximate=True),
        "build": lambda: search.build(folder, Items(queries, list("abcdef")), overwrite=True),
    }[operation]
    before = index.search(queries, 5), index.paths(), index.info().version
    with monkeypatch.context() as patch:
        dying(patch, place)
        with pytest.raises(Dead):
            work()
    fresh = search.open(folder)
    for reader in (index, fresh):
        assert (reader.search(queries, 5), reader.paths(), reader.info().version) == before
    work()
    assert (fresh.search(queries, 5), fresh.paths()) != before[:2]
    assert (index.search(queries, 5), index.paths()) == (fresh.search(queries, 5), fresh.paths())
    size = {"add": 606, "delete": 489, "rebuild": 600, "build": 6}[operation]
    assert len(index) == size


def test_what_a_dead_writer_left_is_removed_by_the_next_write_and_by_no_reader(
    index, folder, queries, monkeypatch
):
    with monkeypatch.context() as patch:
        dying(patch, "write_pointer")
        with pytest.raises(Dead):
            index.rebuild()
    (folder / ".index.json.writing").write_text("{")
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 5  # pointer, its half, lock, two tables
    search.open(folder).search(queries, 3)
    assert sorted(path.name for path in folder.iterdir()) == left
    index.delete("shop/3.png")
    assert len(list(folder.iterdir())) == 3


def test_an_add_that_died_and_is_repeated_adds_once(index, queries, monkeypatch):
    new = Items(queries, [f"new/{row}" for row in range(6)])
    for _ in range(2):
        with monkeypatch.context() as patch:
            dying(patch, "write_pointer")
            with pytest.raises(Dead):
                index.add(new)
    assert len(index) == 600
    assert index.add(new) == 6
    assert index.add(new) == 0
    assert len(index) == 606


def test_a_second_writer_is_refused_and_readers_are_not(index, folder, items, queries):
    other = search.open(folder)
    with store.writing(folder):
        with pytest.raises(CheckpointError, match="is being written by another process; wait"):
            other.add(items)
        with pytest.raises(CheckpointError, match="is being written by another process"):
            search.build(folder, items, overwrite=True)
        assert len(search.open(folder).search(queries, 3)) == 6
    assert other.add(items) == 0


def test_two_readers_during_rebuilds_and_adds_see_one_content_or_the_other(folder, queries):
    contents = [Items(queries + turn, [f"{turn}/{row}" for row in range(6)]) for turn in range(2)]
    index = search.build(folder, contents[0])
    answers = []
    for content in contents:
        search.build(folder, content, overwrite=True)
        answers.append(index.search(queries, 4))
    stop, wrong, rounds = threading.Event(), [], [0, 0]

    def read(number):
        own = search.open(folder) if number else index
        while not stop.is_set():
            try:
                found = own.search(queries, 4)
                if found not in answers:
                    wrong.append(found)
                own.thumbnails(own.paths()[:1])
            except InputError as error:  # the path was of the content before
                if "no item has the path" not in str(error):
                    wrong.append(error)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)
            rounds[number] += 1

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(8):
        search.build(folder, contents[turn % 2], overwrite=True)
        search.open(folder).rebuild()
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert min(rounds) > 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "index.json is damaged"),
        ("[]", "index.json is damaged"),
        ('{"format": 1}', "index.json is damaged .KeyError"),
        ('{"format": 99}', "has format 99, this version reads up to 1; update tupelo"),
    ],
)
def test_a_damaged_or_newer_pointer_is_told(index, folder, items, text, message):
    (folder / "index.json").write_text(text)
    for use in (lambda: search.open(folder), lambda: len(index), lambda: index.add(items)):
        with pytest.raises(CheckpointError, match=message):
            use()
    search.build(folder, items, overwrite=True)
    assert len(index) == 600


@pytest.mark.parametrize("name", ["../other", "items-xyz", 3])
def test_a_pointer_names_a_table_of_its_own_folder(index, folder, name):
    body = json.loads((folder / "index.json").read_text()) | {"table": name}
    (folder / "index.json").write_text(json.dumps(body))
    with pytest.raises(CheckpointError, match="is damaged"):
        search.open(folder)


def test_a_folder_without_an_index_is_told(tmp_path, items):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError, match="holds no index; make one: tupelo index RUN"):
            search.open(place)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match=r"is no index and holds holiday.jpg; give a new or an"):
        search.build(tmp_path, items)
    with pytest.raises(InputError, match=r"is no index and holds holiday.jpg"):
        search.build(tmp_path, items, overwrite=True)
    with pytest.raises(InputError, match="is no index and holds"):
        search.build(tmp_path / "holiday.jpg", items)


@pytest.mark.parametrize("part", ["data", "_versions", "_indices"])
@pytest.mark.parametrize("how", ["cut", "removed", "noise"])
def test_a_damaged_table_is_one_error(folder, items, queries, part, how):
    search.build(folder, items, approximate=True)
    (table,) = folder.glob("*.lance")
    files = [path for path in (table / part).rglob("*") if path.is_file()]
    assert files
    for path in files:
        if how == "removed":
            path.unlink()
        elif how == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))

    def use():
        index = search.open(folder)
        index.search(queries, 3, exact=part != "_indices")

    with pytest.raises(CheckpointError, match="build it again: tupelo index RUN SOURCE --rebuild"):
        use()
    search.build(folder, items, overwrite=True).search(queries, 3)


def test_a_missing_table_or_version_is_told(index, folder, queries):
    pointer = store.read_pointer(folder)
    store.write_pointer(folder, replace(pointer, version=9))
    with pytest.raises(CheckpointError, match=r"cannot be read .*Version 9 no longer exists"):
        search.open(folder)
    store.write_pointer(folder, pointer)
    shutil.rmtree(folder / f"{pointer.table}.lance")
    with pytest.raises(CheckpointError, match="was not found"):
        search.open(folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        index.search(queries, 3, where="label = 'class1'")


def test_rows_that_were_altered_are_told(folder, queries, monkeypatch):
    monkeypatch.setattr("tupelo.search.index.unit_rows", lambda z, _: np.float32(z))
    monkeypatch.setattr("tupelo.search.items.unit_rows", lambda z, _: np.float32(z))
    index = search.build(folder, Items(queries, list("abcdef")))
    with pytest.raises(CheckpointError, match="damaged: it holds rows whose length is not 1"):
        index.search(queries, 1)


def test_a_full_disk_is_told_and_changes_nothing(index, folder, items, queries, monkeypatch):
    class Full:
        def create_table(self, *_):
            raise RuntimeError("lance error: No space left on device, /a/b.rs:1:2")

    before = index.search(queries, 3)
    with monkeypatch.context() as patch:
        patch.setattr(store, "connect", lambda _: Full())
        message = (
            r"could not be written .lance error: No space left on device. and is as it was; make"
        )
        with pytest.raises(CheckpointError, match=message):
            search.build(folder, items, overwrite=True)
    assert index.search(queries, 3) == before


def test_a_folder_that_cannot_be_written_is_told(index, folder, items, queries, monkeypatch):
    def no(*_, **__):
        raise OSError(30, "Read-only file system")

    before = index.search(queries, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no)
        with pytest.raises(CheckpointError, match=r"could not be written .*Read-only file system"):
            index.add(Items(queries, list("abcdef")))
    assert index.search(queries, 3) == before


def test_a_damaged_table_is_told_by_a_rebuild(folder, queries):
    search.build(folder, Items(queries, list("abcdef")))
    for path in folder.glob("*.lance/data/*"):
        os.truncate(path, path.stat().st_size - 200)
    with pytest.raises(CheckpointError, match="build it again: tupelo index RUN SOURCE --rebuild"):
        search.open(folder).rebuild()


def test_every_new_file_and_folder_is_flushed_before_the_pointer_is_renamed(
    tmp_path, items, queries, monkeypatch
):
    folder, flushed, replace_file = tmp_path / "new" / "index", [], Path.replace
    flush = store._flush
    monkeypatch.setattr(store, "_flush", lambda path: (flushed.append(Path(path)), flush(path)))

    def replaced(path, target):
        (table,) = folder.glob("*.lance")
        made = set(table.rglob("*")) - seen
        assert made | {table, folder, path} <= set(flushed)
        assert any("_indices" in each.parts and each.is_dir() for each in made) or seen
        return replace_file(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    seen = set()
    index = search.build(folder, items, approximate=True)
    assert {tmp_path, tmp_path / "new", folder} <= set(flushed)
    assert flushed[-1] == folder  # the rename itself
    seen = {path for path in folder.rglob("*") if path.is_file() or "_indices" in path.parts}
    flushed.clear()
    index.add(Items(queries, list("abcdef")))
    assert not {path for path in flushed if path in seen} - {folder / store.POINTER}


def test_writing_to_an_index_that_is_gone_makes_no_folder(index, folder, items):
    shutil.rmtree(folder)
    for work in (lambda: index.add(items), lambda: index.delete("a"), index.rebuild):
        with pytest.raises(CheckpointError, match="holds no index"):
            work()
    assert not folder.exists()


def test_opening_follows_a_pointer_that_is_replaced_meanwhile(index, folder, items, monkeypatch):
    stale = store.read_pointer(folder)
    search.build(folder, items, overwrite=True)
    index.delete(items.paths[:1])  # the table of the stale pointer is removed
    first = iter([stale])
    read = store.read_pointer
    monkeypatch.setattr(store, "read_pointer", lambda place: next(first, None) or read(place))
    assert len(search.open(folder)) == 599
