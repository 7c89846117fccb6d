"""What is said of a run at its end: the closing line, and what its manifest keeps of it."""

from collections.abc import Mapping
from typing import Any

from ldm.apps.learning import in_words
from ldm.apps.readiness import Rows, reasons_against, verdict

# Beside the closing line; all the others are in the report.
_SAID = {"loss", "retrieval", "psnr", "kl_per_dimension", "posterior_sigma"}
_SAID |= {"quantization_error", "codebook_usage", "codebook_perplexity"}


def said(name: str) -> bool:
    """Whether a number of the last validation is said at a run's end."""
    return name.removeprefix("val/") in _SAID


def closing(stage: str, rows: Rows, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The line, "" for a stage that has none, and facts for the manifest.

    ``rows`` are those of metrics.jsonl, ``settings`` the run's configuration.
    """
    if stage == "autoencoder":
        reasons = reasons_against(rows, settings)
        return verdict(reasons), {"not_ready_because": reasons}
    if stage == "diffusion":
        validated = [row for row in rows if "val/loss" in row]
        return in_words(validated[-1]) if validated else "never validated", {}
    return "", {}
