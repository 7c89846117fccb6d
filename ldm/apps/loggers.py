"""The programs that a configuration names to show a run, and what they are told of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.bill.bill import FILE as BILL
from ldm.apps.build import build
from ldm.apps.credentials import without_credentials
from ldm.apps.errors import UserError
from ldm.apps.record.file import read_record
from ldm.callbacks.loggers.backend import Backend, Run
from ldm.manifest import read_json


def backends(config: DictConfig) -> dict[str, Backend]:
    """By name, what ``logger=`` names, as yet doing nothing; UserError for what is no logger."""
    found: dict[str, Backend] = {}
    for name, node in (config.logger or {}).items():
        backend = build(node)
        if not hasattr(backend, "rebuilt"):
            raise UserError(f"logger.{name} describes no logger; see configs/logger for those.")
        found[str(name)] = backend
    return found


def require_loggers(config: DictConfig) -> dict[str, Backend]:
    """The same; UserError with what to type where one of them cannot work on this machine."""
    found = backends(config)
    for backend in found.values():
        try:
            backend.require()
        except ValueError as error:
            raise UserError(str(error)) from error
    return found


def run_of(directory: Path, settings: Mapping[str, Any]) -> Run:
    """What is told of a run: its settings, its record of the latest sitting, what it is made of.

    It may leave the machine, and so no password of a url is in it.
    """
    facts = {name: value for name, value in settings.items() if name != "logger"}
    if sittings := read_record(directory)["sittings"]:
        facts["record"] = sittings[-1]
    if (bill := directory / BILL).is_file():
        facts["materials"] = read_json(bill)
    return Run(directory, without_credentials(facts))
