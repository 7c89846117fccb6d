"""Files of a data set wherever they lie: named by path, glob or braces, read through a cache.

Local paths are opened as they are. What begins with a scheme goes through fsspec (http and https,
s3 and gs with the extra `remote`, others where a config names them) and is read from whole copies
in a bounded local folder. Nothing that starts a process, and no url inside a url, is ever opened.
"""

import fcntl
import glob
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple

from ldm.manifest import file_hash, fingerprint

SCHEMES = ("http", "https", "s3", "gs")
_PROCESSES = ("pipe", "exec", "shell", "ssh", "scp", "git")
_WRAPPERS = ("reference", "filecache", "simplecache", "blockcache", "dir", "generic", "dask")
_MAX_FILES = 1_000_000
_IDLE_S = 60


class File(NamedTuple):
    """A file as it was found: another ``size`` or ``stamp`` is another file."""

    url: str  # scheme://... or a local path
    size: int | None  # bytes; None where a server does not say
    stamp: str  # time of change, or what a server has for it (etag)
    sha256: str = ""  # of its bytes, where it is known: a copy of others is refused


def find(path: str | Sequence[str], ending: str, schemes: Sequence[str] = SCHEMES) -> list[File]:
    """The files that ``path`` names, in order: a file, glob, brace expression, or list of these.

    A local folder stands for what lies in it with that ``ending``. ``schemes`` are the allowed
    ones. ValueError for what may not be opened, does not exist, or names nothing.
    """
    names = [n.removeprefix("file://") for n in ([path] if isinstance(path, str) else path)]
    for name in names:
        _scheme(name, schemes)
    expanded = [one for name in names for one in _braces_expanded(name)]
    asked = [(one, ending, _scheme(one, schemes)) for one in expanded]
    found: dict[str, File] = {}
    with ThreadPoolExecutor(16) as pool:  # a server takes its time for each answer
        for files in pool.map(_files, asked):
            found.update((file.url, file) for file in files)
    return list(found.values())


def is_url(name: str) -> bool:
    """Whether a name is a url, not a local path; ValueError for one that may not be opened."""
    return not os.path.exists(name) and _scheme(name, SCHEMES) is not None


def read(url: str) -> bytes | None:
    """What a small remote file holds now, None where there is none.

    ValueError where no answer comes, or another.
    """
    system = _file_system(url)
    try:
        data: bytes = system.cat_file(system._strip_protocol(url))
        return data
    except FileNotFoundError:
        return None
    except Exception as error:  # every file system has errors of its own
        raise ValueError(f"{url} cannot be reached: {error or type(error).__name__}.") from error


def names_of(files: Sequence[File]) -> list[str]:
    """The name of each file below the folder that is common to all."""
    first, last = min(file.url for file in files), max(file.url for file in files)
    differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    start = first.rfind("/", 0, next(differ, len(first))) + 1
    return [file.url[start:] for file in files]


def fingerprint_of(files: Sequence[File]) -> str:
    """What stands for these files: names, sizes, times of change; a moved folder is the same."""
    named = zip(names_of(files), files, strict=True)
    return fingerprint([(name, file.size, file.stamp) for name, file in named])


class LocalCopies:
    """A folder of whole copies of remote files, shared by processes, at most ``max_bytes`` large.

    ``directory`` is $LDM_CACHE or ~/.cache/ldm where it is None. The longest unused copies make
    room. One that somebody has open stays; downloads under way at the same time may exceed the
    bound by what is not yet written of them.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        max_bytes: int = 50 * 10**9,
        attempts: int = 4,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        default = os.environ.get("LDM_CACHE") or "~/.cache/ldm"
        self._directory = Path(directory or default).expanduser() / "files"
        self._max_bytes, self._attempts, self._wait = max_bytes, attempts, wait

    def open(self, file: File) -> BinaryIO:
        """The file, open for reading; fetched first where it is remote and no copy is there.

        ValueError when it cannot be fetched or does not fit.
        """
        if "://" not in file.url:
            return open(file.url, "rb")
        copy = self._directory / _copy_name(file)
        while True:
            try:
                opened = copy.open("rb")
            except FileNotFoundError:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._fetch(file, copy)
                continue
            fcntl.flock(opened, fcntl.LOCK_SH)  # released when it is closed, or its process ends
            if _is(opened, copy):  # not removed between opening and locking
                os.utime(copy)  # the order of removal
                return opened
            opened.close()

    def _fetch(self, file: File, copy: Path) -> None:
        part = copy.with_suffix(".part")
        with part.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Another process is fetching it. When that is done this file is the copy, which the
                # other one may keep open for long: only a shared lock is to be had then.
                fcntl.flock(lock, fcntl.LOCK_SH)
                return
            if not _is(lock, part):
                return  # it was replaced or removed before it was locked
            if copy.exists():  # it was new, after another process had just done all this
                part.unlink()
                return
            try:
                self._make_room(file)
                self._download(file, part)
                with part.open("rb") as written:
                    os.fsync(written.fileno())
                os.replace(part, copy)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def _download(self, file: File, part: Path) -> None:
        system = _file_system(file.url)
        for attempt in range(1, self._attempts + 1):
            try:
                system.get_file(system._strip_protocol(file.url), str(part))
                size = part.stat().st_size
                if file.size is not None and size != file.size:
                    raise OSError(f"{size} bytes came instead of {file.size}")
                if file.sha256 and file_hash(part) != file.sha256:
                    raise OSError(f"its sha256 is not {file.sha256}, which is recorded for it")
                return
            except Exception as error:  # every file system has errors of its own
                if attempt == self._attempts or isinstance(error, FileNotFoundError):
                    raise ValueError(
                        f"{file.url} could not be fetched, attempt {attempt}: "
                        f"{error or type(error).__name__}. Run the same command again when it can "
                        "be reached; what is done is kept."
                    ) from error
                self._wait(2.0**attempt)

    def _make_room(self, file: File) -> None:
        needed, copies = file.size or 0, []
        for path in self._directory.iterdir():
            try:
                stat = path.stat()
            except FileNotFoundError:  # removed by another process
                continue
            needed += stat.st_size
            if path.suffix != ".part":
                copies.append((stat.st_mtime_ns, stat.st_size, path))
        for _, size, path in sorted(copies):
            if needed <= self._max_bytes:
                return
            if _remove_unused(path):
                needed -= size
        if needed > self._max_bytes:
            raise ValueError(
                f"no room for {file.url} ({(file.size or 0) / 1e9:.2f} GB) in {self._directory}: "
                f"{needed / 1e9:.2f} GB are in use at once. Type a data.cache_gb above that."
            )


def _files(asked: tuple[str, str, str | None]) -> list[File]:
    name, ending, scheme = asked
    files = list(_local(name, ending) if scheme is None else _remote(name, scheme))
    if not files:
        raise ValueError(
            f"data.path={name} names no file; give a file, a folder with {ending} files, a glob "
            f"such as DIR/*{ending}, or a list."
        )
    return files


def _braces_expanded(name: str) -> list[str]:
    if "{" not in name or os.path.exists(name):
        return [name]
    from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

    count = 1  # before anything is expanded, which would take all memory
    for group in re.findall(r"\{([^{}]*)\}", name):
        limits = re.fullmatch(r"(-?\d{1,12})\.\.(-?\d{1,12})(\.\..*)?", group)
        count *= abs(int(limits[2]) - int(limits[1])) + 1 if limits else group.count(",") + 1
    if count > _MAX_FILES:
        raise ValueError(f"data.path={name} names {count} files; at most {_MAX_FILES} are read.")
    try:
        return list(braceexpand(name))
    except UnbalancedBracesError as error:
        raise ValueError(f"data.path={name} has braces that are not closed.") from error


def _scheme(name: str, schemes: Sequence[str]) -> str | None:
    """The scheme of a url, None for a local path; ValueError where it may not be opened."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", name)
    if "::" in name or "${" in name or "$(" in name:
        raise ValueError(
            f"{name} holds '::' or '$': a url inside another and what would be replaced are not "
            "opened. Give the plain url."
        )
    if match is None:
        return None
    scheme = match[1].lower()
    if scheme in (*_PROCESSES, *_WRAPPERS):
        raise ValueError(
            f"{name}: {scheme}: starts a process or hides another url, and is never opened. Copy "
            f"the files here, or give one of {', '.join(SCHEMES)}."
        )
    if scheme not in schemes or not name[match.end() :].startswith("//"):
        raise ValueError(
            f"{name} begins with none of {', '.join(f'{s}://' for s in schemes)}. ldm prepare "
            "opens others that data.schemes names; a local name with a colon is written ./NAME."
        )
    return scheme


def _local(name: str, ending: str) -> Iterator[File]:
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        inside = os.listdir(path)
        paths = [os.path.join(path, n) for n in inside if n.endswith(ending) and n[0] != "."]
    else:
        paths = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    for path in sorted(paths):
        found = os.stat(path)
        if S_ISREG(found.st_mode):  # a pipe or a device would be read for ever
            yield File(path, found.st_size, str(found.st_mtime_ns))


def _remote(url: str, scheme: str) -> Iterator[File]:
    system = _file_system(url)
    is_web = scheme.startswith("http")
    try:
        if "*" in url or (not is_web and ("?" in url or "[" in url)):
            for name, info in sorted(system.glob(url, detail=True).items()):
                # The listing of a web page knows names only.
                yield _described(
                    system.unstrip_protocol(name), system.info(name) if is_web else info
                )
        else:
            yield _described(url, system.info(system._strip_protocol(url)))
    except FileNotFoundError as error:  # fsspec raises it also where no server answers
        reason = f" ({error.__cause__})" if error.__cause__ else ""
        raise ValueError(f"data.path={url} does not exist or cannot be reached{reason}.") from error
    except Exception as error:  # every file system has errors of its own
        raise ValueError(f"data.path={url} cannot be listed: {error or type(error)}") from error


def _described(url: str, info: dict[str, Any]) -> File:
    names = ("ETag", "etag", "Last-Modified", "LastModified", "updated", "created", "mtime")
    stamp = next((str(info[name]) for name in names if info.get(name)), "")
    return File(url, info.get("size"), stamp)


def _file_system(url: str) -> Any:
    import fsspec

    scheme = url.partition("://")[0].lower()
    more: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        # A large file may take its time, as long as something comes.
        more["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=_IDLE_S, sock_read=_IDLE_S)
    try:
        return fsspec.filesystem(scheme, **more)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{url} cannot be opened: {error}. For s3 and gs type: pip install 'ldm[remote]'"
        ) from error


def _copy_name(file: File) -> str:
    return hashlib.sha256("\n".join(map(str, file)).encode()).hexdigest()[:40]


def _is(opened: Any, path: Path) -> bool:
    """Whether an open file is the one that bears this name now."""
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_unused(path: Path) -> bool:
    try:
        with path.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(opened, path):
                path.unlink()
    except FileNotFoundError:
        pass
    except BlockingIOError:
        return False
    return True
