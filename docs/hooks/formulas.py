"""Formulas in pages: `$...$` in a line and `$$...$$` by themselves become MathML.

Markdown never sees them: they are set aside before it runs and put into the HTML after it. Code is
left alone. A dollar sign that is none of this is written `\\$`.
"""

import re
from typing import Any

from docs.hooks.mathml import mathml

# What is code comes first, so that no formula begins in it.
_PARTS = re.compile(
    r"(?P<fence>^(?P<mark>```+|~~~+).*?^(?P=mark)[ \t]*$)"
    r"|(?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<escaped>\\\$)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$",
    re.M | re.S,
)
_PLACE = "xFORMULAx{}x"
_PLACES = re.compile(r"(<p>)?xFORMULAx(\d+)x(?(1)(</p>)?)")


def set_aside(markdown: str) -> tuple[str, list[str]]:
    """The page with a word in place of each formula, and the formulas as MathML."""
    found: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "&#36;"
        tex = match["block"] or match["inline"]
        if tex is None:
            return match[0]
        found.append(mathml(tex, display=match["block"] is not None))
        place = _PLACE.format(len(found) - 1)
        return f"\n\n{place}\n\n" if match["block"] else place

    return _PARTS.sub(replaced, markdown), found


def put_back(html: str, found: list[str]) -> str:
    """The HTML with its formulas; those that stand alone may scroll sideways."""

    def replaced(match: re.Match[str]) -> str:
        formula = found[int(match[2])]
        if match[1] and match[3] and 'display="block"' in formula:
            return f'<div class="formula">{formula}</div>'
        return (match[1] or "") + formula + (match[3] or "")

    return _PLACES.sub(replaced, html)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    from mkdocs.exceptions import PluginError

    try:
        text, page.formulas = set_aside(markdown)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error
    return text


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    return put_back(html, page.formulas)
