"""A number and how it was obtained: two values are comparable only if their protocols are equal."""

import math
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from torch import Tensor

from ldm.manifest import VERSION, fingerprint

_PACKAGES = (
    "torch", "torchvision", "torchmetrics", "open_clip_torch", "timm", "pillow", "scikit-learn",
)  # fmt: skip
# What is measured, not how: models are there to be compared.
JUDGED = frozenset(
    (
        "model", "autoencoder", "schedule", "text_encoder", "text_encoder_2", "class_encoder",
        "latents", "samples",
    )
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions of what computes metrics here; packages that are not installed are left out."""
    found = {"ldm": VERSION, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def record(value: float | Tensor, **protocol: Any) -> dict[str, Any]:
    """An entry of metrics.json: {"value": ..., "protocol": {..., "versions": {...}, "hash": ...}}.

    ``protocol`` is JSON-able: features and their hash, number of images, reference, resize,
    weights (ema or raw), sampler, steps, guidance, seed. The hash stands for all of it, so nothing
    in it may depend on where files lie. A number by weights that are not published ones
    ("unpublished_weights", see ``ldm.weights.FoundFile``) has also {"valid": False, "why": ...}.
    ValueError for a value that is NaN or infinite.
    """
    if not math.isfinite(value):
        raise ValueError(f"A metric came to {float(value)}, which is no number to write down.")
    whole = {**protocol, "versions": versions()}
    entry = {"value": float(value), "protocol": {**whole, "hash": fingerprint(whole)}}
    flat = _flat(protocol)
    unknown = sorted({str(flat[k]) for k in flat if k.split(".")[-1] == "unpublished_weights"})
    if unknown:
        why = f"{', '.join(unknown)}: not a published file (allow_unknown_weights=true)"
        entry |= {"valid": False, "why": why}
    return entry


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The keys in which the protocols of two records differ, sorted, as in "versions.torch".

    A key that only one of them has counts as different unless it is None. The numbers may be
    compared where nothing differs but ``versions.*`` and what is ``JUDGED``.
    """
    return [*unlike(a, b)]


def unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Both values of each of the ``differences``; "" for a key that one of them lacks."""
    first, second = _flat(a["protocol"]), _flat(b["protocol"])
    return {
        key: (first.get(key, ""), second.get(key, ""))
        for key in sorted(first.keys() | second.keys())
        if key != "hash" and first.get(key) != second.get(key)
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            # A list and the tuple it was before JSON are the same.
            flat[f"{prefix}{key}"] = list(item) if isinstance(item, tuple) else item
    return flat
