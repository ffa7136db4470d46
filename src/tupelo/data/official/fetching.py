"""Fetching a published file: resumed where it stopped, compared with its checksum."""

import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tupelo.data.pictures import Progress
from tupelo.errors import DataError, InputError

log = logging.getLogger(__name__)
_CHUNK = 2**18
_SERVER_ERROR = 500  # and above: may pass
_LATER = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)
_STOPPED = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
# Redirects lead to nothing but http and https: not to ftp, which urllib follows by itself.
_HANDLERS = (
    urllib.request.ProxyHandler,
    urllib.request.UnknownHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPErrorProcessor,
)


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    md5: str = "",
    sha256: str = "",
    progress: Progress | None = None,
    attempts: int = 5,
    timeout_seconds: float = 60.0,
) -> Path:
    """Fetch a file; what has arrived is kept beside it as NAME.part and continued next time.

    Args:
        url: http or https.
        target: where it is put once it is whole and right.
        size, md5, sha256: of the file, where known.
        progress: called with what is done, bytes done and bytes in all.
        attempts: how often in a row the connection may break without a byte arriving.
        timeout_seconds: without a byte.

    Raises:
        InputError: the address is not http or https.
        DataError: it cannot be fetched (what arrived is kept), the disk is too small, or what
            arrived is not the published file (it is set aside as NAME.wrong).
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"url must begin with http:// or https://, got {url}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    failures = 0
    while True:
        before = _length(partial)
        try:
            _receive(url, partial, size, progress, timeout_seconds)
            break
        except _STOPPED as error:
            if isinstance(error, urllib.error.HTTPError) and _is_final(error.code):
                raise DataError(
                    f"{url} answers {error.code} {error.reason}: the file has moved or is away; "
                    f"get {target.name} from the data set's page and put it in {target.parent}"
                ) from error
            failures = 0 if _length(partial) > before else failures + 1
            if failures >= attempts:
                raise DataError(
                    f"{url} cannot be fetched: {getattr(error, 'reason', error)}; "
                    f"{_length(partial):,} bytes are kept in {partial}: repeat the command to go on"
                ) from error
            log.info("%s: %s; going on at %d bytes", url, error, _length(partial))
            time.sleep(min(2**failures, 30) / 10)
        except OSError as error:
            raise DataError(f"{partial} cannot be written: {error.strerror}") from error
    found = digest_of(partial, md5, sha256)
    reason = mismatch(_length(partial), found, size, md5, sha256)
    _about(partial).unlink(missing_ok=True)
    if reason:
        aside = target.with_name(f"{target.name}.wrong")
        partial.replace(aside)
        raise DataError(
            f"{url} gave another file than the published one: {reason}; it is set aside as "
            f"{aside}: repeat the command to fetch it anew, or get it from the data set's page"
        )
    partial.replace(target)
    return target


def _is_final(code: int) -> bool:
    return code < _SERVER_ERROR and code not in _LATER


def digest_of(path: Path, md5: str, sha256: str, progress: Progress | None = None) -> str:
    """The digest of a file by the stronger of the two that is known, or nothing."""
    if not (md5 or sha256):
        return ""
    digest = hashlib.sha256() if sha256 else hashlib.md5(usedforsecurity=False)
    total, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(f"comparing {path.name}", done, total)
    return digest.hexdigest()


def mismatch(length: int, found: str, size: int | None, md5: str, sha256: str) -> str:
    """How a file differs from the published one, or nothing."""
    if size is not None and length != size:
        return f"it has {length:,} bytes, {size:,} belong to it"
    wanted, kind = (sha256, "sha256") if sha256 else (md5, "md5")
    if wanted and found != wanted:
        return f"its {kind} is {found}, published is {wanted}"
    return ""


def check_space(folder: Path, wanted: int, what: str) -> None:
    """Refuse what would fill the disk.

    Raises:
        DataError: less is free than wanted.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise DataError(
            f"{what} needs {wanted / 2**20:,.0f} MiB in {folder}, {free / 2**20:,.0f} are free; "
            "make room or choose another --root"
        )


def _receive(
    url: str, partial: Path, size: int | None, progress: Progress | None, timeout_seconds: float
) -> None:
    have = _length(partial)
    request = urllib.request.Request(url, headers={"User-Agent": "tupelo"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        tag = _tag(partial)
        if tag:
            request.add_header("If-Range", tag)
    try:
        response = _opener().open(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        if have == size:
            return  # it was whole already
        partial.unlink()
        raise ConnectionResetError("the kept part fits no longer: beginning anew") from error
    with response:
        start = have if response.status == http.client.PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            partial.unlink()
            raise ConnectionResetError("the server sent another part than was asked for")
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if total is not None:
            check_space(partial.parent, total - start, partial.stem)
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        _about(partial).write_text(json.dumps({"tag": "" if tag.startswith("W/") else tag}))
        done = start
        with partial.open("ab" if start else "wb") as file:  # 200: it ignores ranges, so anew
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                if size is not None and done > size:
                    break  # another file, which may have no end
                if progress is not None:
                    progress(f"fetching {partial.stem}", done, total or done)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done < total and (size is None or done <= size):
            raise ConnectionResetError(f"the connection closed at {done:,} of {total:,} bytes")


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    return opener


def _read(response: http.client.HTTPResponse) -> bytes:
    """Some bytes; whatever breaks here is the network, not the disk."""
    try:
        return response.read(_CHUNK)
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        raise
    except OSError as error:  # no route, a broken TLS record
        raise ConnectionResetError(str(error)) from error


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _about(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _tag(partial: Path) -> str:
    try:
        return str(json.loads(_about(partial).read_text())["tag"])
    except (OSError, ValueError, KeyError):
        return ""
