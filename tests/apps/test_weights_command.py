"""`ldm weights`: what is there, and what comes from a server that may break off."""

import hashlib
import http.server
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ldm import weights
from ldm.apps import download as downloading
from ldm.apps.main import main

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 40_000  # 10 MB, begins as a torch file does


class Server:
    """Serves ``content`` by ranges; of each answer at most ``most`` bytes come."""

    def __init__(self) -> None:
        self.content, self.kind, self.most = CONTENT, "application/octet-stream", len(CONTENT)
        self.ranges = True
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers["Range"]
                outer.asked.append(asked)
                start = int(re.findall(r"\d+", asked)[0]) if asked and outer.ranges else 0
                if start >= len(outer.content):
                    return self.send_error(416)
                self.send_response(206 if start else 200)
                self.send_header("Content-Type", outer.kind)
                self.send_header("Content-Length", str(len(outer.content) - start))
                self.end_headers()
                self.wfile.write(outer.content[start : start + outer.most])
                return None

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/net.pth"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    """A server of the table's only file, net.pth; nobody waits between attempts."""
    server = Server()
    file = weights.PublishedFile(
        path="net.pth",
        url=server.url,
        num_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    network = replace(weights.TABLE["vgg16"], name="net", files=(file,))
    for name in list(weights.TABLE):
        monkeypatch.delitem(weights.TABLE, name)
    monkeypatch.setitem(weights.TABLE, "net", network)
    monkeypatch.setattr(downloading, "time", SimpleNamespace(sleep=lambda seconds: None))
    yield server
    server.stop()


def run(folder: Path, *words: str) -> int:
    return main(["weights", *words, f"weights_dir={folder}"])


def test_a_file_is_fetched_once_with_its_licence_said(tmp_path, server, capsys):
    assert run(tmp_path / "w", "fetch", "net") == 0
    said = capsys.readouterr().out
    assert "licence: BSD-3-Clause" in said and f"{len(CONTENT):,} bytes" in said
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["net.pth"]
    assert weights.find("net", tmp_path / "w").path.read_bytes() == CONTENT
    assert run(tmp_path / "w", "fetch", "all") == 0
    assert "is there" in capsys.readouterr().out and len(server.asked) == 1


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path, server):
    server.most = 4_000_000
    assert run(tmp_path, "fetch", "net") == 0
    assert server.asked == [None, "bytes=4000000-", "bytes=8000000-"]
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_what_came_before_a_kill_is_not_fetched_again(tmp_path, server, capsys):
    server.most = 1_000_000
    assert run(tmp_path, "fetch", "net") == 2
    said = capsys.readouterr().err
    assert "broke off 4 times" in said and f"{server.url}\n    -> {tmp_path / 'net.pth'}" in said
    assert (tmp_path / "net.pth.part").stat().st_size == 4_000_000
    assert not (tmp_path / "net.pth").exists()
    server.most = len(CONTENT)
    assert run(tmp_path, "fetch", "net") == 0
    assert server.asked[-1] == "bytes=4000000-"
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("there", [CONTENT, CONTENT[:100]])
def test_a_server_without_ranges_and_a_part_that_is_whole(tmp_path, server, there):
    server.ranges = len(there) == len(CONTENT)
    (tmp_path / "net.pth.part").write_bytes(there)
    assert run(tmp_path, "fetch", "net") == 0
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "content, kind, said",
    [
        (b"PK" + CONTENT, "application/octet-stream", "another file than the published one"),
        (b"<!doctype html>login", "application/octet-stream", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "text/plain", "Git LFS pointer"),
        (b"please log in", "text/html", "a web page"),
    ],
)
def test_what_is_not_the_file_is_not_kept(tmp_path, server, capsys, content, kind, said):
    server.content, server.kind, server.most = content, kind, len(content)
    assert run(tmp_path, "fetch", "net") == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_url_and_the_place_are_said(tmp_path, server, capsys):
    server.stop()
    assert run(tmp_path, "fetch", "net") == 2
    said = capsys.readouterr().err
    assert "cannot be reached" in said and f"{server.url}\n    -> {tmp_path / 'net.pth'}" in said
    assert not list(tmp_path.iterdir())


def test_two_at_a_time_are_told_apart(tmp_path, server):
    first = downloading.download(weights.TABLE["net"].weights, tmp_path / "net.pth")
    next(first)
    with pytest.raises(ValueError, match="by another process"):
        next(downloading.download(weights.TABLE["net"].weights, tmp_path / "net.pth"))
    list(first)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_list_and_check_say_what_is_there_and_open_no_connection(
    tmp_path, server, capsys, monkeypatch
):
    monkeypatch.setattr(socket, "socket", None)
    for content, state in ((None, "missing"), (CONTENT, "present"), (b"cut", "damaged")):
        if content is not None:
            (tmp_path / "net.pth").write_bytes(content)
        assert run(tmp_path, "list") == run(tmp_path) == 0
        said = capsys.readouterr().out
        assert state in said and (server.url in said) == (state != "present")
        again = f"damaged, to be deleted and then fetched again: {tmp_path / 'net.pth'}"
        assert (again in said) == (state == "damaged")
        assert run(tmp_path, "check") == (2 if state == "damaged" else 0)
        said = capsys.readouterr()
        assert ("Delete them" in said.err) == (state == "damaged")
        assert run(tmp_path, "check", "net") == (0 if state == "present" else 2)
        missing = f"missing: {tmp_path / 'net.pth'}. To get them: ldm weights fetch NAME"
        assert (missing in capsys.readouterr().err) == (state == "missing")
    assert run(tmp_path, "fetch", "net") == 2  # never replaced unasked
    assert "Delete it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["fetch"], "these names, or all: net"),
        (["fetsh"], "'fetch'"),
        (["fetch", "nat"], "'net'"),
        (["list", "weight_dir=x"], "'weights_dir'"),
    ],
)
def test_mistakes_are_answered_with_what_to_type(server, capsys, words, said):
    assert main(["weights", *words]) == 2
    assert said in capsys.readouterr().err
