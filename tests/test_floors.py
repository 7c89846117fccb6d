"""The floors of CONTRIBUTING.md: imports point down, foreign libraries stay where they belong."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"types", "ranges", "random", "disk", "manifest", "weights"},
    {"diffusion", "nn"},
    {"backbones", "autoencoders", "text", "features", "worlds"},
    {"losses", "data", "metrics"},
    {"generation"},
    {"interop"},
    {"tasks", "callbacks"},
    {"apps"},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
LOWEST = {  # foreign library -> the lowest floor that may know it
    **dict.fromkeys(("pytorch_lightning", "lightning", "wandb", "tensorboard", "tensorboardX"), 6),
    **dict.fromkeys(("torch.utils.tensorboard",), 6),
    **dict.fromkeys(("hydra", "omegaconf", "rich", "tqdm"), 7),
}
STDLIB_AND_TORCH = {"torch", "math", "typing", "dataclasses", "collections", "functools", "enum"}
STDLIB_AND_TORCH |= {"abc", "contextlib", "copy", "itertools", "__future__"}


def imported(source: str, path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere, lazily too; relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join((*package, *filter(None, [node.module])))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(source: str, path: Path) -> list[str]:
    """What a file at ``path`` (relative to the repository) imports against the rules."""
    own = path.with_suffix("").parts[1]
    if own == "__init__":
        return [f"{path}: imports {name}" for name in imported(source, path)]
    if own not in FLOOR:
        return [f"{path}: ldm.{own} is on no floor"]
    floor, found = FLOOR[own], []
    for name in imported(source, path):
        top, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if top == "ldm":
            below = FLOOR.get(part, len(FLOORS)) < floor
            if part != own and not below and not (floor == 0 and part == "types"):
                found.append(f"{path}: floor {floor} imports {name}")
        elif any(f"{name}.".startswith(f"{k}.") and floor < v for k, v in LOWEST.items()):
            found.append(f"{path}: floor {floor} may not know {name}")
        elif floor == 1 and top not in STDLIB_AND_TORCH:
            found.append(f"{path}: floor 1 is torch only, not {name}")
        elif own == "ranges" and top not in sys.stdlib_module_names:
            found.append(f"{path}: ranges are read where torch is not, and {name} is foreign")
    return found


def test_every_file_stands_on_its_floor() -> None:
    files = sorted((ROOT / "ldm").rglob("*.py"))
    assert files
    paths = [file.relative_to(ROOT) for file in files]
    found = [v for path in paths for v in violations((ROOT / path).read_text(), path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path, line, allowed",
    [
        ("ldm/random.py", "from ldm.types import Condition", True),
        ("ldm/random.py", "from ldm import manifest", False),
        ("ldm/types.py", "import ldm.random", False),
        ("ldm/nn/a.py", "from ldm.ranges import Count", True),
        ("ldm/ranges.py", "from typing import Annotated", True),
        ("ldm/ranges.py", "import torch", False),
        ("ldm/nn/a.py", "from ldm.nn.b import c", True),
        ("ldm/nn/a.py", "from .b import c", True),
        ("ldm/nn/a.py", "from ..diffusion import c", False),
        ("ldm/nn/a.py", "import numpy", False),
        ("ldm/losses/a.py", "from ldm.features.vgg import Vgg", True),
        ("ldm/losses/a.py", "def f():\n    from ldm.data import images", False),
        ("ldm/metrics/a.py", "from pytorch_lightning import Callback", False),
        ("ldm/tasks/a.py", "import pytorch_lightning as pl", True),
        ("ldm/tasks/a.py", "from omegaconf import OmegaConf", False),
        ("ldm/callbacks/a.py", "from rich.progress import Progress", False),
        ("ldm/data/a.py", "from torch.utils.tensorboard import SummaryWriter", False),
        ("ldm/apps/a.py", "import hydra, rich, ldm.tasks.b", True),
        ("ldm/generation.py", "from ldm.interop import diffusers", False),
        ("ldm/utils.py", "", False),
        ("ldm/text/a.py", "import ldm", False),
        ("ldm/__init__.py", "import torch", False),
    ],
)
def test_the_rules_themselves(path: str, line: str, allowed: bool) -> None:
    assert (violations(line, Path(path)) == []) is allowed
