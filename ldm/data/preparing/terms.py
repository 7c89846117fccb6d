"""Under which licences, and from which sources, samples come: read in their metadata, counted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_LICENCE, _SOURCE = ("licence", "license"), ("source", "dataset")
_MOST = 100  # names that are told apart; texts that are no such names would be as many as samples
_LONGEST = 120  # characters
OTHERS = "others"


class Terms(NamedTuple):
    """What a sample says of itself; "" where it says nothing."""

    licence: str
    source: str


def terms_of(meta: Mapping[str, Any]) -> Terms:
    """Those in the columns licence (or license) and source (or dataset); of a url the host."""
    lower = {str(key).lower(): value for key, value in meta.items()}

    def first(columns: Iterable[str]) -> str:
        found = [str(lower[name]).strip() for name in columns if lower.get(name)]
        return found[0][:_LONGEST] if found else ""

    source = first(_SOURCE)
    return Terms(first(_LICENCE), urlsplit(source).netloc or source if "://" in source else source)


def counts_of(terms: Iterable[tuple[Terms, int]]) -> dict[str, dict[str, int]]:
    """{"licences": {name: samples}, "sources": likewise} of terms and how often each comes.

    Samples that say nothing are in neither, and a table of none is left out. The most frequent
    names are kept, the rest are ``OTHERS``.
    """
    tables: dict[str, Counter[str]] = {"licences": Counter(), "sources": Counter()}
    for (licence, source), count in terms:
        tables["licences"][licence] += count
        tables["sources"][source] += count
    found = {}
    for name, table in tables.items():
        del table[""]
        kept = dict(sorted(table.most_common(_MOST)))
        rest = table.total() - sum(kept.values())
        if kept:
            found[name] = kept | ({OTHERS: rest} if rest else {})
    return found
