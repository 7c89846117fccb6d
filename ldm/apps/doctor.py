"""`ldm doctor`: what this machine offers and what in its installation does not fit.

Nothing heavy is imported here: libraries, compilers and loaders are tried in other processes.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ldm.apps.diagnoses import compiling, disk_speed, limits, loading, network
from ldm.apps.installation import (
    extras,
    lightning,
    python_version,
    requirements,
    torch_pair,
    version_of,
    weights,
)
from ldm.apps.machine import Check, accelerators, cores_and_memory, disk, shared_memory
from ldm.apps.probe import try_libraries

HELP = """ldm doctor: what this machine and installation offer, what does not fit, and what to type

usage: ldm doctor [key=value ...]

examples:
  ldm doctor
  ldm doctor run_dir=/scratch data.root=LATENTS data.workers=4
  ldm doctor network=true weights_dir=WEIGHTS out=doctor.json

settings:
  run_dir=DIR         where runs are to be written: its disk is measured; else the present directory
  data.root=DIR       image shards or latents: the rate at which they are read
  data.workers=N      with so many processes (0); with data.root=
  images_per_second=N what a training run takes, as `ldm train` prints it: whether they are enough
  weights_dir=DIR     pretrained files: whether they are intact
  network=true        try the servers of pretrained files; otherwise no connection is opened
  quick=true          versions, devices and limits alone: nothing is compiled, written or read
  out=FILE            all findings as JSON, too

Findings are ok, warn (something is slower, or missing) or fail (something breaks): exit code 1."""


@dataclass(frozen=True)
class Asked:
    """What the doctor is asked to look at."""

    run_dir: str | None = None
    root: str | None = None
    workers: int = 0
    images_per_second: float | None = None
    weights_dir: str | None = None
    network: bool = False
    quick: bool = False
    out: str | None = None


def report(asked: Asked) -> list[Check]:
    """All findings, what others depend on first."""
    with ThreadPoolExecutor(2) as pool:  # each tries something in a process of its own
        libraries = pool.submit(try_libraries)
        trial = None if asked.quick else pool.submit(compiling.tried)
        probes = libraries.result()
        vision, torch = probes["torchvision"], probes["torch"]
        unfit = vision.error if vision.tried else ""
        place = Path(asked.run_dir or os.getcwd())
        found = [
            python_version(),
            torch_pair(version_of("torch"), version_of("torchvision"), unfit),
            requirements(),
            lightning(probes["pytorch_lightning"]),
            *accelerators(torch),
            *limits.driver(),
            cores_and_memory(),
            *limits.quota(),
            *limits.open_files(),
            *shared_memory(),
        ]
        disks = [_disk(place)]
        if place.is_dir() and not asked.quick:
            disks.append(disk_speed.disk_speed(place))  # while the trial goes on
        if trial is not None and not torch.error:
            on_gpu = bool(torch.facts["devices"])
            found.append(compiling.compiling(trial.result(), on_gpu=on_gpu))
    found += [*disks, network.settings()]
    if asked.network:
        found += network.tried(network.hosts())
    if asked.root is not None:
        found.append(loading.loading(asked.root, asked.workers, asked.images_per_second))
    return [*found, *extras(), weights(asked.weights_dir)]


def _disk(place: Path) -> Check:
    if not place.is_dir():
        return Check("disk", "fail", f"there is no directory {place}", "Make it, or give run_dir=.")
    return disk(place)


def main(arguments: Sequence[str]) -> int:
    """Print the report as a table; 1 if anything fails."""
    if any(word in ("-h", "--help") for word in arguments):
        print(HELP)
        return 0
    asked = understood(arguments)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    with console.status("trying libraries, compiler and disk"):
        checks = report(asked)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}
    for check in checks:
        found = escape(check.detail) + (f"\n[dim]{escape(check.remedy)}[/]" if check.remedy else "")
        table.add_row(f"[{colour[check.status]}]{check.status}[/]", check.name, found)
    console.print(table)
    failed = [check.name for check in checks if check.status == "fail"]
    console.print(f"Needs mending: {', '.join(failed)}." if failed else "Ready.", highlight=False)
    if asked.out is not None:
        from ldm.manifest import write_json

        write_json(asked.out, {"ready": not failed, "findings": [asdict(c) for c in checks]})
    return 1 if failed else 0


def understood(arguments: Sequence[str]) -> Asked:
    """The settings of the command; UserError for one that it has not."""
    from ldm.apps.errors import UserError, suggestion

    keys = {
        "run_dir": "run_dir", "data.root": "root", "data.workers": "workers",
        "images_per_second": "images_per_second", "weights_dir": "weights_dir",
        "network": "network", "quick": "quick", "out": "out",
    }  # fmt: skip
    asked = Asked()
    for word in arguments:
        key, _, text = word.partition("=")
        if key not in keys or not text:
            shown = f"{key}= needs a value." if key in keys else suggestion(key, keys)
            raise UserError(f"`ldm doctor` does not take {word!r}. {shown}")
        changed: dict[str, Any] = {keys[key]: _value(key, text)}
        asked = replace(asked, **changed)
    _require_use(asked)
    return asked


def _require_use(asked: Asked) -> None:
    """UserError for settings that would change nothing."""
    from ldm.apps.errors import UserError

    if asked.root is None:
        for key, given in (
            ("data.workers", asked.workers != Asked.workers),
            ("images_per_second", asked.images_per_second is not None),
        ):
            if given:
                raise UserError(f"{key}= is about the loader: give data.root=DIR, too.")
    elif asked.quick:
        raise UserError("quick=true reads nothing: leave out quick=true, or data.root=.")


def _value(key: str, text: str) -> Any:
    from ldm.apps.errors import UserError

    if key in ("network", "quick"):
        if text not in ("true", "false"):
            raise UserError(f"{key}={text} does not fit: it must be true or false.")
        return text == "true"
    if key in ("data.workers", "images_per_second"):
        kind = int if key == "data.workers" else float
        try:
            number = kind(text)
        except ValueError:
            number = -1
        if number < 0:
            raise UserError(f"{key}={text} does not fit: it must be a number of at least 0.")
        return number
    return os.path.expanduser(text)
