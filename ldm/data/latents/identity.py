"""What a latent cache was made from, against what is asked for now (design law 2)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm.data.latents.cache import KIND
from ldm.manifest import Manifest, read_manifest


def finished(
    directory: str | Path, *, settings: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str]]
) -> Manifest | None:
    """The manifest if the cache is complete and made from exactly this; None if there is none.

    ValueError naming the difference if it was made from something else.
    """
    directory = Path(directory)
    if not (directory / "manifest.json").is_file():
        return None
    found = read_manifest(directory, kind=KIND)
    made_from = {name: value["fingerprint"] for name, value in found.inputs.items()}
    refuse_difference(directory, "was made", found.settings, made_from, settings, inputs)
    return found


def refuse_difference(
    directory: Path,
    what: str,
    found: Mapping[str, Any],
    made_from: Mapping[str, str],
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, str]],
) -> None:
    """ValueError for the first input by its fingerprint, or setting, that is another one now."""
    remedy = (
        f"Delete {directory} and run the same command again, or choose another out= for a second "
        "cache."
    )
    for name in dict.fromkeys([*inputs, *made_from]):
        now = inputs.get(name, {}).get("fingerprint")
        if made_from.get(name) != now:
            raise ValueError(
                f"the latent cache {directory} {what} from {_another(name)} "
                f"({made_from.get(name)}, now {now}). {remedy}"
            )
    for name in dict.fromkeys([*settings, *found]):
        if found.get(name) != settings.get(name):
            raise ValueError(
                f"the latent cache {directory} {what} with {name}={found.get(name)!r}, now "
                f"{settings.get(name)!r}. {remedy}"
            )


def _another(name: str) -> str:
    return f"other {name}" if name.endswith("s") else f"another {name}"
