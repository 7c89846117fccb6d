"""What is installed, and whether it fits together. Findings for `ldm doctor`.

Nothing heavy is imported here: torch, torchvision and Lightning are tried elsewhere (probe.py).
"""

import importlib.metadata
import importlib.util
import os
import re
import sys
from pathlib import Path

from ldm.apps.machine import INSTALL, Check
from ldm.apps.probe import Probe

PAIR = (
    "Install both from the same place in one command: "
    "`pip install --force-reinstall -c constraints.txt torch torchvision`."
)
EXTRAS = {  # importable module -> what it is for, and the extra that installs it
    "sklearn": ("data=digits and its judge", "digits"),
    "matplotlib": ("plots", "demo"),
    "tensorboard": ("logger=tensorboard", "tensorboard"),
}


def python_version(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Whether this Python is one that the project supports (3.11 to 3.13)."""
    text = ".".join(map(str, version))
    if (3, 11) <= version[:2] <= (3, 13):
        return Check("python", "ok", f"{text} at {sys.executable}")
    remedy = "Install Python 3.11, 3.12 or 3.13, and `make setup PYTHON=python3.12`."
    return Check("python", "fail", f"{text}, supported are 3.11 to 3.13", remedy)


def requirements(name: str = "ldm") -> Check:
    """Whether every installed dependency of ``name`` lies within its declared bounds."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return Check("dependencies", "warn", f"{name} is not installed, only on the path", INSTALL)
    needed = [r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]
    installed = {r.name: version_of(r.name) for r in needed}
    wrong = []
    for requirement in needed:
        found = installed[requirement.name]
        if found is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, needed is {requirement.specifier}")
    if wrong:
        return Check("dependencies", "fail", "; ".join(wrong), INSTALL)
    shown = ("pytorch-lightning", "hydra-core", "omegaconf", "webdataset", "open_clip_torch")
    versions = ", ".join(f"{key} {installed[key]}" for key in shown if key in installed)
    return Check("dependencies", "ok", versions or "all within bounds")


def version_of(package: str) -> str | None:
    """The installed version of ``package`` with its local suffix; None if it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_pair(torch: str | None, torchvision: str | None, error: str = "") -> Check:
    """Whether two versions are a pair: torch 2.N goes with torchvision 0.(N+15), of one build.

    ``error`` is what trying them gave; it counts even if the versions look right.
    """
    name = "torch + torchvision"
    if torch is None or torchvision is None:
        missing = "torch" if torch is None else "torchvision"
        return Check(name, "fail", f"{missing} is not installed", INSTALL)
    found = f"torch {torch}, torchvision {torchvision}"
    (numbers, _, build), (vision_numbers, _, vision_build) = (
        version.partition("+") for version in (torch, torchvision)
    )
    minor, vision_minor = (re.match(r"\d+\.(\d+)", v) for v in (numbers, vision_numbers))
    if minor and vision_minor and numbers.startswith("2."):
        wanted = int(minor[1]) + 15
        if int(vision_minor[1]) != wanted:
            detail = f"{found}: torch 2.{minor[1]} goes with torchvision 0.{wanted}"
            return Check(name, "fail", detail, PAIR)
    # Without a suffix the build is the registry's (CUDA, on Linux).
    if build != vision_build and ("cpu" in (build, vision_build) or (build and vision_build)):
        label = [f"+{text}" if text else "the registry's" for text in (build, vision_build)]
        detail = f"{found}: builds differ ({label[0]} and {label[1]})"
        return Check(name, "fail", detail, PAIR)
    if error:
        return Check(name, "fail", f"{found}: {error}", PAIR)
    return Check(name, "ok", found)


def extras() -> list[Check]:
    """Optional packages and how wandb would log; what is absent is no fault."""
    checks = []
    for module, (purpose, extra) in EXTRAS.items():
        if importlib.util.find_spec(module):
            checks.append(Check(module, "ok", f"here, for {purpose}"))
        else:
            remedy = f"Only if you want it: `pip install -c constraints.txt -e '.[{extra}]'`."
            checks.append(Check(module, "ok", f"not installed; {purpose} needs it", remedy))
    mode = os.environ.get("WANDB_MODE", "")
    detail = f"WANDB_MODE={mode}" if mode else "WANDB_MODE is not set; the logger's config decides"
    return [*checks, Check("wandb", "ok", detail)]


def weights(weights_dir: str | None) -> Check:
    """Which pretrained files lie in ``weights_dir``, and whether they are intact."""
    if weights_dir is None:
        remedy = "To check pretrained files: `ldm doctor weights_dir=FOLDER`."
        return Check("weights", "ok", "not asked; training from nothing needs none", remedy)
    if not Path(weights_dir).expanduser().is_dir():
        detail = f"there is no folder {weights_dir}"
        return Check("weights", "fail", detail, "Make it, or give another weights_dir=FOLDER.")
    try:
        from ldm.weights import TABLE, find
    except (ImportError, OSError) as error:
        return Check("weights", "fail", f"cannot be read without torch: {error}", INSTALL)
    intact, absent = [], []
    for name, network in TABLE.items():
        if not (Path(weights_dir).expanduser() / network.weights.path).is_file():
            absent.append(name)
            continue
        try:
            find(name, weights_dir)
        except ValueError as error:
            return Check("weights", "fail", str(error))
        intact.append(name)
    detail = f"intact: {', '.join(intact) or 'none'}; absent: {', '.join(absent) or 'none'}"
    remedy = f"To have one: `ldm weights fetch NAME weights_dir={weights_dir}`." if absent else ""
    return Check("weights", "ok", detail, remedy)


def lightning(found: Probe) -> Check:
    """Whether Lightning imports; it is the first to break when torch and torchvision differ."""
    if not found.error:
        return Check("pytorch_lightning", "ok", "imports")
    if not found.tried:
        return Check("pytorch_lightning", "warn", found.error)
    return Check("pytorch_lightning", "fail", f"does not import: {found.error}", INSTALL)
