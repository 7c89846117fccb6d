"""Of which commit the running code is, and how it differs from it."""

import hashlib
import os
import subprocess
import threading
from pathlib import Path
from typing import Any, NamedTuple

LARGEST_DIFF = 1_000_000  # bytes that are kept
_SECONDS = 1.0  # for each call; a file system that is slower than that goes without
_MOST_UNTRACKED = 20  # file names
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


class Code(NamedTuple):
    """The checkout that ldm runs from: facts for a record, and its changes since the commit.

    ``facts`` are commit (None where it is unknown), dirty, untracked (names of files),
    diff_sha256, and diff_is_cut where only the beginning of the diff is here. Of what git did not
    answer there are none, and why says why.
    """

    facts: dict[str, Any]
    diff: str


def running_code(root: Path | None = None) -> Code:
    """That of the checkout at ``root``, by default the one this package lies in."""
    root = Path(__file__).resolve().parents[3] if root is None else root
    if not (root / ".git").exists():
        return Code({"commit": None, "why": "ldm runs from an installed package, no checkout"}, "")
    facts: dict[str, Any] = {"commit": None}
    unanswered, diff = [], b""
    for name, ask in {"rev-parse": _commit, "status": _status, "diff": _diff}.items():
        try:  # each by itself: a slow one costs its own answer alone
            more, diff = ask(root)
            facts |= more
        except OSError as error:
            unanswered.append(f"git {name}: {error}")
    if unanswered:
        facts["why"] = "; ".join(unanswered)
    return Code(facts, diff.decode(errors="replace"))


def _commit(root: Path) -> tuple[dict[str, Any], bytes]:
    return {"commit": _git(root, "rev-parse", "--verify", "HEAD")[0].decode().strip()}, b""


def _status(root: Path) -> tuple[dict[str, Any], bytes]:
    lines = _git(root, "status", "--porcelain")[0].decode(errors="replace").splitlines()
    untracked = [line[3:] for line in lines if line.startswith("??")]
    found = {"dirty": len(untracked) < len(lines), "untracked": untracked[:_MOST_UNTRACKED]}
    return found, b""


def _diff(root: Path) -> tuple[dict[str, Any], bytes]:
    diff, cut = _git(root, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color")
    found = {"diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None}
    if cut:
        found["diff_is_cut"] = f"after {LARGEST_DIFF} bytes, of which the checksum is"
    return found, diff


def _git(root: Path, *words: str) -> tuple[bytes, bool]:
    """What git prints, up to ``LARGEST_DIFF``, and whether there was more; OSError if it fails."""
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=os.environ | _QUIET) as process:
        assert process.stdout is not None and process.stderr is not None
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        try:
            output = process.stdout.read(LARGEST_DIFF + 1)
            if cut := len(output) > LARGEST_DIFF:
                process.kill()
            said = process.stderr.read().decode(errors="replace").strip()
            code = process.wait()
        finally:
            timer.cancel()
    if code and not cut:
        raise OSError(said or f"no answer within {_SECONDS:g} s")
    return output[:LARGEST_DIFF], cut
