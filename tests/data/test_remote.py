"""Names become files, forbidden ones sentences; copies are whole, bounded and shared."""

import http.server
import multiprocessing
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from ldm.data import remote
from ldm.data.remote import File, LocalCopies, find

MEMORY = ("memory",)


@pytest.fixture
def store():
    """fsspec's file system in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def _copies(tmp_path: Path, max_bytes: int = 10**6, **more) -> LocalCopies:
    return LocalCopies(tmp_path / "cache", max_bytes, wait=lambda seconds: None, **more)


def _cached(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "files").iterdir())


def test_local_files_by_folder_glob_braces_and_list(tmp_path):
    for name in ("b0.tar", "b1.tar", "a.tar", "a.txt", ".hidden.tar", "odd{1}.tar"):
        (tmp_path / name).write_text(name)

    def names(*path: str) -> list[str]:
        given = [str(tmp_path / p) for p in path]
        return [Path(f.url).name for f in find(given if len(path) > 1 else given[0], ".tar")]

    assert names("") == ["a.tar", "b0.tar", "b1.tar", "odd{1}.tar"]
    assert names("b*.tar") == names("b{0..1}.tar") == ["b0.tar", "b1.tar"]
    assert names("b1.tar", "a.tar", "b*") == ["b1.tar", "a.tar", "b0.tar"]
    assert names("odd{1}.tar") == ["odd{1}.tar"]
    (file,) = find(f"file://{tmp_path}/a.tar", ".tar")
    assert file.size == 5 and [file] == find(str(tmp_path / "a.tar"), ".tar")


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    for path in (tmp_path, tmp_path / "a.tar", "/dev/zero"):
        with pytest.raises(ValueError, match="names no file"):
            find(str(path), ".tar")


@pytest.mark.parametrize("scheme", ["sftp", "ftps", "hdfs"])
def test_other_schemes_are_opened_where_they_are_named(scheme, monkeypatch):
    system = SimpleNamespace(_strip_protocol=str, info=lambda path: {"size": 4})
    monkeypatch.setattr(remote, "_file_system", lambda url: system)
    with pytest.raises(ValueError, match=r"none of .*data\.schemes"):
        find(f"{scheme}://host/a.tar", ".tar")
    assert find(f"{scheme}://host/a.tar", ".tar", (scheme,))[0].size == 4


@pytest.mark.parametrize(
    "path, message",
    [
        ("pipe:cat /etc/passwd", "never opened"),
        ("PIPE:cat x.tar", "never opened"),
        ("exec:ls", "never opened"),
        ("ssh://host/a.tar", "never opened"),
        ("simplecache://x", "never opened"),
        ("simplecache::s3://b/a.tar", "url inside another"),
        ("a.tar::pipe:ls", "url inside another"),
        ("${HOME}/a.tar", "would be replaced"),
        ("s3://b/$(ls).tar", "would be replaced"),
        ("ftp://host/a.tar", "none of http://, https://, s3://, gs://"),
        ("s3:b/a.tar", "begins with none of"),
        ("file:///nowhere/a.tar", "names no file"),
        ("/nowhere/a.tar", "names no file"),
        ("/nowhere/{a.tar", "not closed"),
        ("/nowhere/{0..99999999}.tar", "names 100000000 files"),
    ],
)
def test_what_is_not_opened_is_explained(path, message):
    for given in (path, [path, "/nowhere"]):
        with pytest.raises(ValueError, match=message):
            find(given, ".tar")
    if "never" in message:  # not even where a config names it
        with pytest.raises(ValueError, match=message):
            find(path, ".tar", (path.partition(":")[0].lower(),))


def test_remote_files_by_glob_and_braces(store):
    for name in ("b0.tar", "b1.tar", "c.tar"):
        store.pipe(f"/bucket/{name}", name.encode())
    globbed = find("memory://bucket/b*.tar", ".tar", MEMORY)
    assert [file.url for file in globbed] == ["memory:///bucket/b0.tar", "memory:///bucket/b1.tar"]
    braced = find("memory://bucket/b{0,1}.tar", ".tar", MEMORY)
    assert [(f.url, f.size) for f in braced] == [(f"memory://bucket/b{n}.tar", 6) for n in (0, 1)]
    assert all(file.stamp for file in braced + globbed)
    for missing in ("memory://bucket/x.tar", "memory://bucket/x*.tar"):
        with pytest.raises(ValueError, match=r"does not exist|names no file"):
            find(missing, ".tar", MEMORY)


def test_the_fingerprint_moves_with_the_folder_and_notices_changes(tmp_path):
    files = [File(f"/a/x/{n}.tar", 1, "t") for n in (10, 11, 12)]
    moved = [file._replace(url=file.url.replace("/a/x", "s3://b/y")) for file in files]
    assert remote.fingerprint_of(files) == remote.fingerprint_of(moved)
    for change in ({"size": 2}, {"stamp": "u"}, {"url": "/a/x/9.tar"}):
        assert remote.fingerprint_of(files[:1]) == remote.fingerprint_of(moved[:1])
        changed = [*files[:2], files[2]._replace(**change)]
        assert remote.fingerprint_of(changed) != remote.fingerprint_of(files)


def test_copies_are_made_once_and_anew_when_the_file_changed(tmp_path, store):
    store.pipe("/b/a.tar", b"one")
    store.pipe("/c/a.tar", b"two")
    copies = _copies(tmp_path)
    first, other = find(["memory://b/a.tar", "memory://c/a.tar"], ".tar", MEMORY)
    with copies.open(first) as a, copies.open(other) as b:
        assert (a.read(), b.read()) == (b"one", b"two")  # the same base name
    store.rm("/b/a.tar")
    with copies.open(first) as a:
        assert a.read() == b"one"
    store.pipe("/b/a.tar", b"three")
    with copies.open(find("memory://b/a.tar", ".tar", MEMORY)[0]) as a:
        assert a.read() == b"three"
    assert not [path for path in _cached(tmp_path) if path.suffix]


def test_the_longest_unused_copies_make_room_but_none_in_use(tmp_path, store):
    for name in "abcd":
        store.pipe(f"/b/{name}.tar", bytes(40))
    a, b, c, d = find("memory://b/*.tar", ".tar", MEMORY)
    copies = _copies(tmp_path, 100)
    in_use = copies.open(a)
    copies.open(b).close()
    copies.open(c).close()  # takes the place of b, though a is the oldest
    assert sum(path.stat().st_size for path in _cached(tmp_path)) == 80
    store.rm("/b", recursive=True)
    with copies.open(a) as again, copies.open(c) as still:
        assert again.read() == bytes(40) == still.read()
    with pytest.raises(ValueError, match="could not be fetched"):
        copies.open(b)
    store.pipe("/b/d.tar", bytes(40))
    still = copies.open(d)
    with pytest.raises(ValueError, match=r"no room for memory.*data.cache_gb"):
        copies.open(c)
    in_use.close()
    still.close()


def _read(copies: LocalCopies, file: File) -> bytes:
    with copies.open(file) as opened:
        return opened.read()


class _Server:
    """A local web server with one file, which breaks off after ``cut`` bytes ``faults`` times."""

    def __init__(self, body: bytes, faults: int = 0, cut: int = 0) -> None:
        outer = self
        self.gets = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                known = self.path == "/a.tar?version=1"
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"e"')
                self.end_headers()

            def do_GET(self) -> None:
                outer.gets += 1
                self.do_HEAD()
                self.wfile.write(body[:cut] if outer.gets <= faults else body)

            def log_message(self, *args) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/a.tar?version=1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> "_Server":
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_server_that_breaks_off_is_asked_again(tmp_path):
    with _Server(bytes(range(256)) * 4000, faults=2, cut=5000) as server:
        (file,) = find(server.url, ".tar")
        assert (file.size, file.stamp) == (1_024_000, '"e"')
        assert _read(_copies(tmp_path, 10**7), file) == bytes(range(256)) * 4000
        assert server.gets == 3 and len(_cached(tmp_path)) == 1


def test_what_cannot_be_fetched_is_said_and_leaves_nothing(tmp_path):
    with _Server(bytes(9000), faults=99, cut=5000) as server:
        (file,) = find(server.url, ".tar")
        with pytest.raises(ValueError, match=r"a\.tar.* could not be fetched, attempt 3.*again"):
            _copies(tmp_path, attempts=3).open(file)
        with pytest.raises(ValueError, match="does not exist"):
            find(server.url + "0", ".tar")
    assert not _cached(tmp_path)
    with pytest.raises(ValueError, match="does not exist or cannot be reached .*onnect"):
        find(server.url, ".tar")


def test_a_file_of_another_size_than_announced_is_no_copy(tmp_path, store):
    store.pipe("/b/a.tar", b"one")
    (file,) = find("memory://b/a.tar", ".tar", MEMORY)
    with pytest.raises(ValueError, match="3 bytes came instead of 4"):
        _copies(tmp_path).open(file._replace(size=4))


def _fetch_in_process(directory: str, file: File, start, results) -> None:
    start.wait()
    results.put(len(_read(LocalCopies(directory, 10**7), file)))


def test_processes_share_one_download(tmp_path):
    context = multiprocessing.get_context("fork")
    with _Server(bytes(3_000_000)) as server:
        (file,) = find(server.url, ".tar")
        start, results = context.Event(), context.Queue()
        arguments = (str(tmp_path / "cache"), file, start, results)
        readers = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(3)]
        for reader in readers:
            reader.start()
        start.set()
        assert [results.get(timeout=30) for _ in readers] == [3_000_000] * 3
        for reader in readers:
            reader.join()
        assert server.gets == 1 and len(_cached(tmp_path)) == 1


def test_who_waits_for_a_download_need_not_wait_for_its_reader(tmp_path, store, monkeypatch):
    store.pipe("/b/a.tar", b"one")
    (file,) = find("memory://b/a.tar", ".tar", MEMORY)
    copies, opened = _copies(tmp_path), []
    fetching, waiting, reading = (threading.Event() for _ in range(3))
    flock, download = remote.fcntl.flock, LocalCopies._download

    def first() -> None:
        opened.append(copies.open(file))  # and stays open
        reading.set()

    def download_while_waited_for(*arguments) -> None:
        fetching.set()
        assert waiting.wait(10)
        download(*arguments)

    def lock_late(lock, operation) -> None:
        if threading.current_thread() is second and not waiting.is_set():
            waiting.set()
            assert reading.wait(10)
        flock(lock, operation)

    monkeypatch.setattr(LocalCopies, "_download", download_while_waited_for)
    monkeypatch.setattr(remote.fcntl, "flock", lock_late)
    second = threading.Thread(target=lambda: opened.append(copies.open(file)), daemon=True)
    threading.Thread(target=first, daemon=True).start()
    assert fetching.wait(10)
    second.start()
    second.join(10)
    assert [one.read() for one in opened] == [b"one"] * 2
    for one in opened:
        one.close()


def test_what_a_killed_download_left_is_overwritten(tmp_path, store):
    store.pipe("/b/a.tar", b"whole")
    (file,) = find("memory://b/a.tar", ".tar", MEMORY)
    copies = _copies(tmp_path)
    _read(copies, file)
    (copy,) = _cached(tmp_path)
    os.rename(copy, copy.with_suffix(".part"))
    copy.with_suffix(".part").write_bytes(b"half of something longer")
    assert _read(copies, file) == b"whole" and _cached(tmp_path) == [copy]


def test_local_files_are_opened_where_they_are(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"here")
    (file,) = find(str(tmp_path), ".tar")
    assert _read(_copies(tmp_path), file) == b"here" and not (tmp_path / "cache").exists()
