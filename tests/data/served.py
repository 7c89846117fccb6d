"""A local web server over a directory, as tests of remote files need it."""

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class Served:
    """Where a directory is served, and how often each of its files was asked for."""

    def __init__(self, directory: Path) -> None:
        self.gets: Counter[str] = Counter()
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.gets[self.path.lstrip("/")] += 1
                super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        handler = partial(Handler, directory=str(directory))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """Serve a directory while the block runs, or until it is stopped."""
    server = Served(directory)
    try:
        yield server
    finally:
        server.stop()
