"""`ldm run`: every step of a recipe against the rules of its command."""

from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from ldm.apps.rules.case import Case


def steps(case: Case) -> Iterator[str]:
    """What does not go together in any step; inputs are made by the steps before."""
    from ldm.apps.compose import compose
    from ldm.apps.rules.table import wrong

    listed: Any = OmegaConf.to_container(case.config.steps, resolve=True)
    for number, step in enumerate(listed, 1):
        config = compose(step["command"], step["arguments"], config_dir=case.config_dir)
        for sentence in wrong(step["command"], Case(config)):
            yield f"step {number}, {step['name']}: {sentence}"
