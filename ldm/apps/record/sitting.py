"""One sitting of a run: noted while the run begins, written into its directory and checkpoints.

``RUN/record.json`` is {"sittings": [...], "packages": {fingerprint: {name: version}}}. The code's
changes since its commit are ``RUN/git.diff``, of a later sitting with others ``RUN/git.2.diff``.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.credentials import without_credentials
from ldm.apps.paths import from_root
from ldm.apps.record.code import Code, running_code
from ldm.apps.record.environment import environment
from ldm.apps.record.file import RECORD, Typed, read_record
from ldm.manifest import atomic, fingerprint, write_json

_SHOWN = 4  # packages in the line about versions


class Sitting:
    """What is noted of a sitting; git and files are asked beside what a start does anyway."""

    def __init__(self, config: DictConfig, typed: Typed) -> None:
        self._config, self._typed = config, typed
        self._begun = datetime.now(UTC).isoformat(timespec="seconds")
        threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="record")
        self._code = threads.submit(running_code)
        self._environment = threads.submit(environment, config.accelerator)
        threads.shutdown(wait=False)

    def write(self, run: Path, inputs: Mapping[str, Mapping[str, str]], step: int) -> None:
        """Add the sitting, which begins at ``step``, to the run's record.

        A line says where code or versions are others than in the sitting before.
        """
        record = read_record(run)
        code, here = self._code.result(), dict(self._environment.result())
        installed = here.pop("packages")
        record["packages"][version := fingerprint(installed)] = installed
        entry = self._facts(inputs) | {
            "step": step,
            "git": code.facts | _kept_diff(run, code, record["sittings"]),
            "environment": here | {"packages": version},
        }
        if record["sittings"] and (said := _changes(record, record["sittings"][-1], entry)):
            print(f"{run}: since the sitting before, {said}", flush=True)
        record["sittings"].append(entry)
        write_json(run / RECORD, record)

    def for_checkpoints(self, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        """The same in plain values, whole: a checkpoint may be all that is left of a run."""
        code = self._code.result()
        config: Any = OmegaConf.to_container(from_root(self._config), resolve=True)
        return self._facts(inputs) | {
            "config": without_credentials(config),
            "git": code.facts | {"diff": code.diff},
            "environment": self._environment.result(),
        }

    def _facts(self, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        config_dir = self._typed.config_dir
        return {
            "begun": self._begun,
            "command": without_credentials(sys.argv),
            "overrides": without_credentials(self._typed.words),
            "config_dir": None
            if config_dir is None
            else os.path.abspath(os.path.expanduser(config_dir)),
            "launch_directory": str(Path.cwd()),
            "inputs": without_credentials(inputs),
        }


def _kept_diff(run: Path, code: Code, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the diff, unless an earlier sitting had the same; the name of its file."""
    if not code.diff:
        return {"diff": None}
    for entry in before:
        if entry["git"].get("diff_sha256") == code.facts["diff_sha256"]:
            return {"diff": entry["git"]["diff"]}
    name = f"git.{len(before) + 1}.diff" if before else "git.diff"
    with atomic(run / name) as temporary:
        temporary.write_text(code.diff, encoding="utf-8")
    return {"diff": name}


def _changes(
    record: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, Any]
) -> str | None:
    """What of code and versions is another, in words; None where all is the same."""
    clauses = [*_changed_code(before["git"], now["git"])]
    first, second = (
        record["packages"].get(entry["environment"]["packages"], {})
        | {"python": entry["environment"]["python"]}
        for entry in (before, now)
    )
    moved = [
        f"{name} {first.get(name, 'none')} -> {second.get(name, 'none')}"
        for name in sorted(first | second, key=lambda name: (name not in ("python", "torch"), name))
        if first.get(name) != second.get(name)
    ]
    if moved:
        more = f", {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        clauses.append(f"versions are others: {', '.join(moved[:_SHOWN])}{more}")
    return " and ".join(clauses) or None


def _changed_code(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    both = f"{_commit(before)} -> {_commit(now)}"
    if None in (before["commit"], now["commit"]):
        if before["commit"] != now["commit"]:
            why = before.get("why") or now["why"]
            yield f"git could not be asked of which commit the code is ({both}; {why})"
    elif before["commit"] != now["commit"]:
        yield f"the code is of another commit ({both})"
    elif "diff_sha256" not in before or "diff_sha256" not in now:
        yield f"git could not be asked whether the code was changed, at commit {_commit(now)}"
    elif before["diff_sha256"] != now["diff_sha256"]:
        yield f"the code was changed, at the same commit ({_commit(now)})"


def _commit(code: Mapping[str, Any]) -> str:
    if code["commit"] is None:
        return "unknown"
    return code["commit"][:7] + (" with changes" if code.get("diff_sha256") else "")
