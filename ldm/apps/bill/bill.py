"""A bill of materials, and how bills of what a model was made from become its own."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ldm.manifest import read_json

FILE = "materials.json"
TRAINING, INIT, FROZEN = "training", "init", "frozen input"
EVALUATION, TOKENIZER = "evaluation", "tokenizer"
UNKNOWN = "unknown"
_KEYS = {  # of an entry, without which nothing can be said of it
    "pretrained": {"name", "role", "licence", "trained_on", "for"},
    "data": {"source", "fingerprint", "num_samples", "num_held_out", "licences", "for"},
}
_NAMES = {
    "run_text_encoder": "text encoder",
    "run_autoencoder": "autoencoder",
    "run_diffusion": "denoiser",
    "latents": "latent cache",
}


class Bill(NamedTuple):
    """Entries are plain mappings, as they are written as JSON.

    ``pretrained``: name, file, sha256 (or fingerprint, of folders), licence, trained_on, role (one
    of those above, then what it does), for (what was made with it); origin, where it is an input.
    ``data``: source, fingerprint, num_samples, num_held_out, licences and sources ({name:
    samples}), for.
    """

    pretrained: list[dict[str, Any]]
    data: list[dict[str, Any]]

    @property
    def in_training(self) -> list[dict[str, Any]]:
        """Weights of others that the model holds, began with, or learned by."""
        return [part for part in self.pretrained if role(part) not in (EVALUATION, TOKENIZER)]

    @property
    def is_from_scratch(self) -> bool:
        """Whether there is no such weight."""
        return not self.in_training

    def as_json(self) -> dict[str, Any]:
        """What is written of it."""
        whole = {"pretrained": self.pretrained, "data": self.data}
        return whole | {"from_scratch": self.is_from_scratch}


def read_bill(path: Path) -> Bill:
    """The bill in a file; ValueError where that holds another thing, or not all of one."""
    found = read_json(path)
    whole = isinstance(found, Mapping) and all(
        isinstance(found.get(name), list)
        and all(isinstance(entry, Mapping) and keys <= entry.keys() for entry in found[name])
        for name, keys in _KEYS.items()
    )
    if not whole:
        raise ValueError(
            f"{path} is no bill of materials of ldm, or a damaged one. Delete it: what it said is "
            "then read from the manifests."
        )
    return Bill(found["pretrained"], found["data"])


def in_words(kind: str) -> str:
    """What an artefact of a kind is called on a bill."""
    return _NAMES.get(kind, kind)


def role(part: Mapping[str, Any]) -> str:
    """The first word of what a part does."""
    return str(part["role"]).partition(":")[0]


def sums(bills: Iterable[Bill]) -> Bill:
    """All entries once: what several were made with says so of each."""
    every = [*bills]
    return Bill(
        _merged((part for bill in every for part in bill.pretrained), ("name", "role")),
        _merged((part for bill in every for part in bill.data), ("source",)),
    )


def _merged(entries: Iterable[dict[str, Any]], keys: Iterable[str]) -> list[dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    names = [*keys, "sha256", "fingerprint"]
    for entry in entries:
        same = found.setdefault(tuple(entry.get(name) for name in names), {**entry, "for": []})
        same["for"] = sorted({*same["for"], *entry.get("for", [])})
    return [*found.values()]
