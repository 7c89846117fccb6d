"""Network: told by the environment, tried only when asked, and never with a password shown."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ldm.apps.diagnoses import network


def test_nothing_is_said_where_nothing_is_set() -> None:
    check = network.settings({})
    assert check.status == "ok" and "not tried" in check.detail and "network=true" in check.remedy


def test_what_makes_it_offline_and_which_proxy() -> None:
    given = {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "0",
        "https_proxy": "http://me:secret@proxy:3128", "NO_PROXY": "localhost",
    }  # fmt: skip
    said = network.settings(given).detail
    assert "offline by HF_HUB_OFFLINE;" in said and "NO_PROXY=localhost" in said
    assert "https_proxy=http://...@proxy:3128" in said and "secret" not in said


def test_certificates_that_are_not_there() -> None:
    check = network.settings({"SSL_CERT_FILE": "/nowhere/ca.pem"})
    assert check.status == "warn" and "unset SSL_CERT_FILE" in check.remedy


@pytest.fixture
def server() -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403 if self.path == "/closed" else 200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    serving = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()


def test_servers_are_tried(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    urls = {"open": f"{server}/", "closed": f"{server}/closed", "gone": "http://127.0.0.1:9/"}
    found = {check.name: check for check in network.tried(urls)}
    assert found["open"].status == found["closed"].status == "ok"  # it answers
    assert found["gone"].status == "warn" and "HTTPS_PROXY" in found["gone"].remedy


def test_every_server_of_pretrained_files_is_known() -> None:
    hosts = network.hosts()
    assert {"huggingface.co", "download.pytorch.org"} <= {*hosts}
    assert all(url.startswith("https://") for url in hosts.values())
