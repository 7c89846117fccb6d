"""Files of the repository that pages point to: each becomes a page, so that no link leads out.

A page writes `[draw](../../ldm/diffusion/schedule.py#NoiseSchedule.draw)`, which works wherever the
repository is browsed. Here the file is shown with a heading for every class and function; a name
after # that the file does not have ends the build.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_CODE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.M | re.S)
_LEXERS = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sbatch": "bash", ".toml": "toml"}
_HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File

    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for path, _ in outward(page.content_string, page.src_uri):
            if files.get_file_from_path(place(path)) is None:
                file = File.generated(config, place(path), content=shown(path))
                files.append(file)
                waiting.append(file)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    here = page.file.src_uri

    def replaced(match: re.Match[str]) -> str:
        path = _outside(match[2], here)
        if path is None:
            return match[0]
        _require(path, (match[3] or "#")[1:], here)
        target = posixpath.relpath(place(path), posixpath.dirname(here) or ".")
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    return _LINK.sub(replaced, markdown)


def place(path: str) -> str:
    """Where the page of a file lies: `ldm/random.py` is source/ldm/random.py.md."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path.removesuffix('.md')}.md"


def outward(markdown: str, here: str) -> Iterator[tuple[str, str]]:
    """Files outside docs/ that a page at ``here`` points to, each with what follows #."""
    for match in _LINK.finditer(_CODE.sub("", markdown)):
        if (path := _outside(match[2], here)) is not None:
            yield path, (match[3] or "#")[1:]


def _outside(target: str, here: str) -> str | None:
    """The file of the repository that a link leads to; None where that is a page beside it."""
    if "://" in target or target.startswith(("mailto:", "/")):
        return None
    is_source = here.startswith("source/")  # a file of the repository: its links begin there
    base = here.removeprefix("source/") if is_source else f"docs/{here}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(base), target))
    if path.startswith("docs/") and not is_source:
        return None
    return path if (ROOT / path).is_file() else None


def _require(path: str, name: str, here: str) -> None:
    from mkdocs.exceptions import PluginError

    if name and path.endswith(".py") and name not in _names((ROOT / path).read_text()):
        raise PluginError(f"{here}: {path} has no {name}")


def _definitions(text: str) -> Iterator[tuple[str, int, int]]:
    """Names of classes, their methods and functions, with the lines at which each begins."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, _first(node), 2
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", _first(inner), 3


def _first(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _names(text: str) -> set[str]:
    return {name for name, _, _ in _definitions(text)}


def shown(path: str) -> str:
    """The page of a file: code in pieces under headings, Markdown as it is."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return _HIDDEN + text
    lexer = _LEXERS.get(Path(path).suffix, "text")
    lines = text.splitlines()
    pieces = list(_definitions(text)) if lexer == "python" else []
    page = [
        f"{_HIDDEN}# {path}\n",
        *_piece(lines, 0, pieces[0][1] - 1 if pieces else len(lines), lexer),
    ]
    for i, (name, first, depth) in enumerate(pieces):
        end = pieces[i + 1][1] - 1 if i + 1 < len(pieces) else len(lines)
        page += [f"{'#' * depth} {name} {{ #{name} }}\n", *_piece(lines, first - 1, end, lexer)]
    return "\n".join(page)


def _piece(lines: list[str], first: int, end: int, lexer: str) -> list[str]:
    while end > first and not lines[end - 1].strip():
        end -= 1
    if end == first:
        return []
    return [f'````{lexer} linenums="{first + 1}"', *lines[first:end], "````\n"]
