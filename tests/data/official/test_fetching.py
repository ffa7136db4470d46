"""Fetching from a small server on loopback that cuts, ignores ranges, or gives other files."""

import hashlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tupelo.data.official import fetching
from tupelo.data.official.fetching import fetch
from tupelo.errors import DataError, InputError

CONTENT = np.random.default_rng(0).bytes(1_500_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """What it does is set by its attributes; what it was asked is kept."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.ranges = True
        self.cuts: list[int] = []  # bytes after which the next answers break off
        self.delay = 0.0
        self.busy = 0  # how many answers say that it is
        self.answer = 503  # when it is busy
        self.elsewhere: list[str] = []  # where the next answers lead
        self.asked: list[str | None] = []

    def handle_error(self, request, client_address):
        """A client that went away is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.elsewhere:
            self.send_response(302)
            self.send_header("Location", server.elsewhere.pop())
            self.end_headers()
            return
        if self.path != "/file.bin":
            self.send_error(404)
            return
        if server.busy:
            server.busy -= 1
            self.send_error(server.answer)
            return
        start = 0
        fresh = self.headers.get("If-Range", server.etag) == server.etag
        if wanted and server.ranges and fresh:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        for place in range(0, len(body), 50_000):
            self.wfile.write(body[place : place + 50_000])
            self.wfile.flush()
            time.sleep(server.delay)
        self.close_connection = True

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_whole_file(server, tmp_path):
    seen = []
    path = fetch(
        server.url,
        tmp_path / "deep" / "file.bin",
        size=len(CONTENT),
        md5=MD5,
        progress=lambda *what: seen.append(what),
    )
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]
    assert seen[-1] == ("fetching file.bin", len(CONTENT), len(CONTENT))


def test_a_cut_connection_goes_on_where_it_stopped(server, tmp_path):
    server.cuts = [400_000, 300_000]
    assert fetch(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=700000-"]


def test_what_arrived_is_kept_for_the_next_time(server, tmp_path):
    server.cuts = [400_000, 0]
    with pytest.raises(DataError, match=r"400,000 bytes are kept in .*f.part: repeat the command"):
        fetch(server.url, tmp_path / "f", md5=MD5, attempts=1)
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=400000-"


def test_a_server_that_ignores_ranges(server, tmp_path):
    server.ranges, server.cuts = False, [400_000]
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-"]


def test_another_version_is_begun_anew(server, tmp_path):
    server.cuts = [400_000, 0]
    with pytest.raises(DataError):
        fetch(server.url, tmp_path / "f", attempts=1)
    server.etag, server.content = '"two"', bytes(900_000)
    assert fetch(server.url, tmp_path / "f").read_bytes() == bytes(900_000)


def test_a_kept_part_that_is_longer_than_the_file(server, tmp_path):
    (tmp_path / "f.part").write_bytes(bytes(len(CONTENT) + 9))
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT) + 9}-", None]


def test_a_kept_part_that_is_whole(server, tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "f", md5=MD5, size=len(CONTENT))
    assert server.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"md5": "0" * 32}, rf"its md5 is {MD5}, published is 0{{32}}"),
        ({"sha256": "0" * 64}, rf"its sha256 is {SHA256}, published is 0{{64}}"),
        ({"size": 7}, r"it has \d+,\d+ bytes, 7 belong to it"),
    ],
)
def test_another_file_is_set_aside(server, tmp_path, options, message):
    with pytest.raises(DataError, match=rf"{message}; it is set aside as .*f\.wrong: repeat"):
        fetch(server.url, tmp_path / "f", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["f.wrong"]
    assert fetch(server.url, tmp_path / "f", md5=MD5).exists()


def test_what_cannot_be_fetched(server, tmp_path):
    with pytest.raises(DataError, match="answers 404 Not Found: the file has moved or is away"):
        fetch(server.url + "x", tmp_path / "f")
    with pytest.raises(InputError, match=r"url must begin with http:// or https://, got file:/x"):
        fetch("file:/x", tmp_path / "f")
    server.cuts = [0, 0, 0]
    with pytest.raises(DataError, match="the connection closed at 0 of 1,500,000 bytes; 0 bytes"):
        fetch(server.url, tmp_path / "f", attempts=3)
    assert server.cuts == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.busy = 2
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT
    server.busy = 9
    with pytest.raises(DataError, match="cannot be fetched: Service Unavailable; 0 bytes are kept"):
        fetch(server.url, tmp_path / "f", attempts=2)


def test_a_server_that_asks_for_patience(server, tmp_path):
    server.busy, server.answer = 1, 429
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT


def test_redirects_lead_to_web_addresses_only(server, tmp_path):
    server.elsewhere = [server.url]
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT
    (tmp_path / "secret").write_text("secret")
    server.elsewhere = [f"file://{tmp_path}/secret"]
    with pytest.raises(DataError, match=r"answers 302 .*Redirection to url 'file:"):
        fetch(server.url, tmp_path / "g")
    server.elsewhere = [f"ftp://127.0.0.1:{server.server_port}/file.bin"] * 2
    asked = len(server.asked)
    with pytest.raises(DataError, match="cannot be fetched: unknown url type: ftp"):
        fetch(server.url, tmp_path / "g", attempts=2)
    assert len(server.asked) == asked + 2
    assert not (tmp_path / "g").exists()


def test_another_file_without_end_is_not_waited_for(server, tmp_path):
    with pytest.raises(DataError, match="7 belong to it; it is set aside"):
        fetch(server.url, tmp_path / "f", size=7)
    assert (tmp_path / "f.wrong").stat().st_size < len(CONTENT)


def test_a_network_that_fails_while_reading_is_no_full_disk(server, tmp_path, monkeypatch):
    read = http.client.HTTPResponse.read
    broken = [OSError(113, "No route to host")]

    def reading(self, amount=None):
        if broken and (tmp_path / "f.part").stat().st_size:
            raise broken.pop()
        return read(self, amount)

    monkeypatch.setattr(http.client.HTTPResponse, "read", reading)
    assert fetch(server.url, tmp_path / "f", md5=MD5).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_full_disk_is_seen_first(server, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"f needs 1 MiB in .* 0 are free; make room"):
        fetch(server.url, tmp_path / "f")


@pytest.mark.slow
def test_killed_half_way(server, tmp_path):
    server.delay = 0.03
    code = (
        "import sys; from pathlib import Path; from tupelo.data.official.fetching import fetch; "
        "fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    target = tmp_path / "f"
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(target)])
    partial = tmp_path / "f.part"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 200_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = partial.stat().st_size
    assert not target.exists()
    server.delay = 0.0
    assert fetch(server.url, target, md5=MD5).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={kept}-"
