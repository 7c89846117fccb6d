"""The folders of configurations, and Hydra at work in them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from ldm.apps.errors import UserError


def config_root() -> Path:
    """The shipped configs: at the top of a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "configs"
    return checkout if (checkout / "train.yaml").is_file() else package / "configs"


def config_roots(config_dir: str | None) -> list[Path]:
    """Where configurations are looked for, in this order; UserError for no directory."""
    if config_dir is None:
        return [config_root()]
    own = Path(config_dir).expanduser()  # which shells leave in --config-dir=~/configs
    if not own.is_dir():
        raise UserError(f"--config-dir {config_dir}: there is no such directory.")
    return [config_root(), own.resolve()]


def find_config(name: str, roots: list[Path]) -> Path | None:
    """The file of a configuration such as ``experiment/demo_diffusion``."""
    return next((f for root in roots if (f := root / f"{name}.yaml").is_file()), None)


def choices(group: str, roots: list[Path]) -> list[str]:
    """The names that ``group=`` may have."""
    return sorted({path.stem for root in roots for path in (root / group).glob("*.yaml")})


@contextmanager
def hydra_in(roots: list[Path]) -> Iterator[list[str]]:
    """Hydra looks into these folders; yields the words that it must be given for that."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(roots[0]), version_base="1.3"):
        more = ",".join(_in_quotes(f"file://{root}") for root in roots[1:])
        yield [f"hydra.searchpath=[{more}]"] if more else []


def _in_quotes(text: str) -> str:
    """A text that Hydra's grammar leaves as it is."""
    return "'" + re.sub(r"(\\*)('|$)", _escaped, text) + "'"


def _escaped(found: re.Match[str]) -> str:
    """Backslashes count as such only before a quote, so there each is doubled."""
    return found[1] * 2 + ("\\'" if found[2] else "")
