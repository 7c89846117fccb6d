"""The navigation: an entry `FOLDER/*` stands for every page of a folder that is not named.

So a page that is added to docs/ is in the handbook without a line in mkdocs.yml, after those with
a place of their own, in the order of their names. `*` alone is docs/ itself.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any


def on_files(files: Any, *, config: Any) -> Any:
    config.nav = expanded(config.nav, [file.src_uri for file in files.documentation_pages()])
    return files


def expanded(nav: list[Any], pages: list[str]) -> list[Any]:
    """``nav`` with every `FOLDER/*` replaced by the pages of that folder it does not name."""
    named = set(_named(nav))

    def walk(entry: Any) -> Iterator[Any]:
        if isinstance(entry, dict):
            ((title, inside),) = entry.items()
            if isinstance(inside, list):
                inside = [one for child in inside for one in walk(child)]
            yield {title: inside}
        elif entry.endswith("*"):
            folder = PurePosixPath(entry).parent
            yield from sorted(
                page for page in pages if PurePosixPath(page).parent == folder and page not in named
            )
        else:
            yield entry

    return [one for entry in nav for one in walk(entry)]


def _named(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, list):
                yield from _named(value)
            else:
                yield value
