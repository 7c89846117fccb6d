"""`ldm run`: a whole road as a list of commands; what is finished is skipped."""

import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.child import run_child
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.main import execute
from ldm.apps.report.page import write_report
from ldm.manifest import FILE_NAME, fingerprint, read_json, write_json

STATE, TIMINGS, METRICS = "steps.json", "timings.json", "metrics.json"


def run(config: DictConfig, *, config_dir: str | None = None) -> int:
    """Run a recipe's steps in order and write its report; the code of the first that fails.

    The commands know themselves what is finished, except evaluation: it is skipped when nothing
    that it was made from has changed.
    """
    out = Path(config.out)
    steps: Any = OmegaConf.to_container(config.steps, resolve=True)
    for step in steps:  # every mistake in settings is found before the first step runs
        compose(step["command"], step["arguments"], config_dir=config_dir)
    out.mkdir(parents=True, exist_ok=True)
    state = _read(out / STATE)
    timings = _read(out / TIMINGS)
    for number, step in enumerate(steps, 1):
        name = step["name"]
        key = fingerprint([step["arguments"], _made_so_far(out)])
        made = (out / METRICS).is_file()
        if step["command"] == "evaluate" and state.get(name) == key and made:
            print(f"[{number}/{len(steps)}] {name}: finished already", flush=True)
            continue
        print(f"[{number}/{len(steps)}] {name}", flush=True)
        begun = time.monotonic()
        code = _execute(step["command"], step["arguments"], config_dir)
        timings[name] = round(timings.get(name, 0.0) + time.monotonic() - begun, 1)
        write_json(out / TIMINGS, timings)
        if code:
            return code
        state[name] = key
        write_json(out / STATE, state)
    page = write_report(out)
    print(f"pictures: {out / 'samples' / 'grid.png'}   report: {page}   numbers: {out / METRICS}")
    return 0


def _execute(command: str, arguments: list[str], config_dir: str | None) -> int:
    """One step: in this process, or in one of its own when it starts several itself."""
    if command == "train":
        config = compose(command, arguments, config_dir=config_dir)
        if config.devices * config.num_nodes > 1:
            more = ["--config-dir", config_dir] if config_dir else []
            words = [sys.executable, "-m", "ldm.apps.main", command, *arguments, *more]
            return run_child(words)
    return execute(command, arguments, config_dir=config_dir)


def _made_so_far(out: Path) -> dict[str, str]:
    """The fingerprints of all artefacts in the recipe's directory."""
    return {
        str(path.relative_to(out)): read_json(path)["fingerprint"]
        for path in sorted(out.glob(f"*/{FILE_NAME}"))
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged; delete it and run the same command.")
    return found
