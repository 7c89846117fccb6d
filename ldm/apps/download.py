"""One file from the network to its place: resumed where it broke off, whole or not there."""

import fcntl
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ldm.apps.errors import UserError
from ldm.manifest import file_hash
from ldm.weights import PublishedFile, what_else

_ATTEMPTS = 4
_CHUNK_BYTES = 1 << 20
_SILENT_SECONDS = 60.0


class Unreachable(UserError):
    """A file cannot be had from here; what there is of it already is kept."""


def download(file: PublishedFile, path: Path) -> Iterator[int]:
    """Fetch ``file`` to ``path``, which is written at the end; yields how many bytes are here.

    Until then they are in ``<path>.part``, from where the next attempt, or the next call after a
    kill, goes on. UserError for anything but the published file, such as a web page, and where
    another process is fetching it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("ab") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{path} is being fetched by another process; wait for it.") from error
        try:
            yield from _whole(file.url, opened)
        except Unreachable:
            if not opened.tell():
                part.unlink()
            raise
        opened.flush()
        os.fsync(opened.fileno())
        if (found := _what_else(part, file)) is not None:
            part.unlink()
            raise UserError(f"{file.url} gave {found} It was not kept.")
        os.replace(part, path)


def _whole(url: str, opened: BinaryIO) -> Iterator[int]:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            yield from _rest(url, opened)
            return
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == _ATTEMPTS:
                said = f"{url}: the connection broke off {attempt} times ({error})."
                raise Unreachable(said) from error
            time.sleep(2.0**attempt)


def _rest(url: str, opened: BinaryIO) -> Iterator[int]:
    """Append what is missing; ConnectionError where the server gives less than it promised."""
    start = opened.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_SILENT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing
        raise Unreachable(f"{url}: the server says {error.code}, {error.reason}.") from error
    except urllib.error.URLError as error:
        raise Unreachable(f"{url} cannot be reached: {error.reason}.") from error
    with response:
        if response.headers.get_content_type() == "text/html":  # of a portal that wants a login
            raise Unreachable(f"{url} gave a web page, not the file.")
        if start and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            opened.seek(0)  # this server knows only whole files
            opened.truncate()
        promised = opened.tell() + int(response.headers.get("Content-Length", 0))
        while chunk := response.read(_CHUNK_BYTES):
            opened.write(chunk)
            yield opened.tell()
    if opened.tell() < promised:
        raise ConnectionError(f"{opened.tell():,} of {promised:,} bytes came")


def _what_else(part: Path, file: PublishedFile) -> str | None:
    """What was fetched, in words, where it is not the published file."""
    if file.path.endswith(".json"):
        try:
            json.loads(part.read_bytes())
        except ValueError as error:
            return f"what is no JSON ({error})."
    else:
        with part.open("rb") as opened:
            head = opened.read(64)
        if (found := what_else(head, Path(file.path).suffix)) is not None:
            return found
    if file.sha256 is not None and (sha256 := file_hash(part)) != file.sha256:
        return (
            f"another file than the published one: {part.stat().st_size:,} bytes whose sha256 "
            f"starts with {sha256[:8]}, expected {file.sha256[:8]}."
        )
    return None
