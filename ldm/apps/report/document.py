"""What all our pages are made of: one HTML file that carries its style, script and pictures."""

from html import escape
from importlib import resources

# The page may show and run what it carries, and load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def document(name: str, body: str) -> str:
    """A whole page about what is called ``name``."""
    style, script = (_resource(file) for file in ("style.css", "hover.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} · report</title><style>{style}</style></head><body>\n"
        f"{body}\n<script>{script}</script></body></html>\n"
    )


def _resource(name: str) -> str:
    return resources.files("ldm.apps.report").joinpath(name).read_text(encoding="utf-8")


def section(heading: str, content: str) -> str:
    """A part of a page under its heading."""
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"
