import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tupelo.data.official import fetching, unpacking
from tupelo.data.official.unpacking import is_archive, unpack
from tupelo.errors import DataError

FILES = {"top/a.txt": b"a" * 1000, "top/deep/b.txt": b"b" * 2000, "c.txt": b"c"}


def zipped(path: Path, files=None, *, mode=None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files or FILES).items():
            member = zipfile.ZipInfo(name)
            if mode is not None:
                member.external_attr = mode << 16
            archive.writestr(member, content)
    return path


def tarred(path: Path, files=None, *, kind=tarfile.REGTYPE, link="") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (files or FILES).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


ARCHIVES = {"x.zip": zipped, "x.tgz": tarred, "x.tar.gz": tarred}


@pytest.mark.parametrize("name", ARCHIVES)
def test_content_and_a_second_time(tmp_path, name):
    archive = ARCHIVES[name](tmp_path / name)
    target = tmp_path / "set"
    seen = []
    assert is_archive(name)
    assert unpack(archive, target, lambda *what: seen.append(what))
    assert content(target) == FILES
    assert hidden(target) == [f".{name}.unpacked"]
    assert seen[-1][0] == f"unpacking {name}"
    (target / "c.txt").write_text("mine")
    assert not unpack(archive, target)
    assert (target / "c.txt").read_text() == "mine"
    ARCHIVES[name](archive, {"c.txt": b"changed"})
    assert unpack(archive, target)
    assert (target / "c.txt").read_text() == "changed"


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt", "C:/evil.txt"],
)
def test_nothing_is_written_outside(tmp_path, make, name):
    archive = make(tmp_path / f"x{'.zip' if make is zipped else '.tgz'}", {"a": b"1", name: b"2"})
    with pytest.raises(DataError, match=r"is not unpacked: its member .* would be written outside"):
        unpack(archive, tmp_path / "deep" / "set")
    assert not list(tmp_path.rglob("evil*"))
    assert content(tmp_path / "deep" / "set") == {}
    assert hidden(tmp_path / "deep" / "set") == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = tarred(tmp_path / "x.tgz", {"a": b""}, kind=kind, link="/etc/passwd")
    with pytest.raises(DataError, match="its member 'a' is a link or a device"):
        unpack(archive, tmp_path / "set")
    assert content(tmp_path / "set") == {}


def test_links_in_a_zip_are_refused(tmp_path):
    archive = zipped(tmp_path / "x.zip", {"a": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="its member 'a' is a link or a device"):
        unpack(archive, tmp_path / "set")


@pytest.mark.parametrize("name", ARCHIVES)
def test_truncated_archives_leave_nothing(tmp_path, name):
    archive = ARCHIVES[name](tmp_path / name)
    archive.write_bytes(archive.read_bytes()[:90])
    with pytest.raises(
        DataError, match=r"is damaged or incomplete: .*; delete it and get it again"
    ):
        unpack(archive, tmp_path / "set")
    assert content(tmp_path / "set") == {}
    assert hidden(tmp_path / "set") == []


def test_a_locked_zip(tmp_path):
    archive = zipped(tmp_path / "x.zip")
    data = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit that says encrypted
        place = -1
        while (place := data.find(mark, place + 1)) >= 0:
            data[place + flags] |= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"cannot be unpacked here: .*password.*; unpack it with"):
        unpack(archive, tmp_path / "set")


def test_a_full_disk(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "x.zip")
    usage = type("usage", (), {"free": 10})
    with monkeypatch.context() as patch:
        patch.setattr(fetching.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(DataError, match=r"x.zip needs 0 MiB in .* 0 are free; make room"):
            unpack(archive, tmp_path / "set")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unpacking.shutil, "copyfileobj", full)
        with pytest.raises(
            DataError, match="cannot be unpacked: No space left on device; what was"
        ):
            unpack(archive, tmp_path / "set")
    assert content(tmp_path / "set") == {}
    assert unpack(archive, tmp_path / "set")


def test_a_tar_that_grows_is_stopped_before_the_disk_is_full(tmp_path, monkeypatch):
    archive = tarred(tmp_path / "x.tgz", {"a.bin": bytes(100), "bomb.bin": bytes(5_000_000)})
    assert archive.stat().st_size < 10_000
    usage = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"x.tgz: bomb.bin needs 5 MiB in .*, 1 are free; make ro"):
        unpack(archive, tmp_path / "set")
    assert content(tmp_path / "set") == {}
    assert hidden(tmp_path / "set") == []


@pytest.mark.parametrize("make", [zipped, tarred])
def test_no_file_may_run_as_another_user(tmp_path, make):
    archive = tmp_path / ("x.zip" if make is zipped else "x.tgz")
    if make is zipped:
        zipped(archive, {"a": b"1"}, mode=stat.S_IFREG | 0o6777)
    else:
        with tarfile.open(archive, "w:gz") as packed:
            member = tarfile.TarInfo("a")
            member.mode = 0o6777
            packed.addfile(member)
    unpack(archive, tmp_path / "set")
    assert (tmp_path / "set" / "a").stat().st_mode & 0o7111 == 0


def test_it_joins_what_is_there(tmp_path):
    target = tmp_path / "set"
    (target / "top").mkdir(parents=True)
    (target / "top" / "mine.txt").write_text("mine")
    (target / "top" / "a.txt").write_text("old")
    unpack(zipped(tmp_path / "x.zip"), target)
    assert content(target) == {**FILES, "top/mine.txt": b"mine"}


def test_an_end_while_moving_is_gone_on_from(tmp_path, monkeypatch):
    archive, target = zipped(tmp_path / "x.zip"), tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "_move", lambda folder, target: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            unpack(archive, target)
    assert content(target / hidden(target)[0]) == FILES
    monkeypatch.setattr(unpacking, "_extract", lambda *_: pytest.fail("it was complete"))
    unpack(archive, target)
    assert content(target) == FILES
    assert hidden(target) == [".x.zip.unpacked"]


@pytest.mark.slow
def test_killed_half_way(tmp_path):
    archive = zipped(tmp_path / "x.zip", {f"many/{n}.bin": os.urandom(9000) for n in range(300)})
    target = tmp_path / "set"
    code = (
        "import sys, time; from pathlib import Path; "
        "from tupelo.data.official.unpacking import unpack; "
        "unpack(Path(sys.argv[1]), Path(sys.argv[2]), lambda *_: time.sleep(0.01))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(archive), str(target)])
    partial = target / ".x.zip.partial" / "many"
    deadline = time.monotonic() + 60
    while not (partial.exists() and len(list(partial.iterdir())) > 20):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (target / "many").exists()
    unpack(archive, target)
    assert len(list((target / "many").iterdir())) == 300
    assert hidden(target) == [".x.zip.unpacked"]
