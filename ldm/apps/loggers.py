"""The programs that a configuration names to show a run, and what they are told of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.callbacks.loggers.backend import Backend, Run
from ldm.manifest import VERSION


def backends(config: DictConfig) -> dict[str, Backend]:
    """By name, what ``logger=`` names, as yet doing nothing; UserError for what is no logger."""
    found: dict[str, Backend] = {}
    for name, node in (config.logger or {}).items():
        backend = build(node)
        if not hasattr(backend, "rebuilt"):
            raise UserError(f"logger.{name} describes no logger; see configs/logger for those.")
        found[str(name)] = backend
    return found


def require_loggers(config: DictConfig) -> None:
    """UserError with what to type where one of them cannot work on this machine."""
    for backend in backends(config).values():
        try:
            backend.require()
        except ValueError as error:
            raise UserError(str(error)) from error


def run_of(config: DictConfig, pretrained: Mapping[str, Any]) -> Run:
    """What is told of a run: its settings, by what it learns, the version of ldm."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    facts = {name: value for name, value in settings.items() if name != "logger"}
    facts |= {"pretrained": dict(pretrained), "made_by": f"ldm {VERSION}"}
    return Run(Path(config.run), facts)
