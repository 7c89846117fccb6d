"""Parts as the shipped configurations describe them."""

from typing import Any

from omegaconf import OmegaConf

from ldm.apps.build import build
from ldm.apps.config_files import config_root


def shipped(group: str, name: str, /, **changes: Any) -> Any:
    """The part that a shipped configuration describes, with other settings."""
    node = OmegaConf.load(config_root() / group / f"{name}.yaml")
    return build(node, **changes)  # type: ignore[arg-type]
