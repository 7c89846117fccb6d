"""Which classes describe the settings of a command."""

from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

from ldm.apps.schema.files import Cache, Export, Import, Logs, Materials, Prepare, Weights
from ldm.apps.schema.plan import Plan
from ldm.apps.schema.recipe import Recipe
from ldm.apps.schema.sampling import Evaluate, Sample
from ldm.apps.schema.stages import AutoencoderStage, DiffusionStage, TextEncoderStage
from ldm.apps.schema.sweep import Sweep
from ldm.apps.schema.train import Training

STAGES: Mapping[str, type] = {
    "text_encoder": TextEncoderStage,
    "autoencoder": AutoencoderStage,
    "diffusion": DiffusionStage,
}
COMMANDS: Mapping[str, type] = {
    "prepare": Prepare,
    "train": Training,
    "cache": Cache,
    "sample": Sample,
    "evaluate": Evaluate,
    "materials": Materials,
    "export": Export,
    "import": Import,
    "plan": Plan,
    "run": Recipe,
    "logs": Logs,
    "weights": Weights,
    "sweep": Sweep,
}


@cache
def fields_of(described: type) -> Mapping[str, Any]:
    """The annotations of a dataclass or TypedDict by the names of its settings."""
    hints = get_type_hints(described, include_extras=True)
    return {name.removesuffix("_"): annotation for name, annotation in hints.items()}


def settings_of_command(command: str, stage: str | None = None) -> dict[str, Any]:
    """The annotations of a command's settings by name; of training those of a stage, or of all."""
    fields = {**fields_of(COMMANDS[command])}
    if command == "train":
        for name, described in STAGES.items():
            if stage in (name, None):
                fields |= fields_of(described)
    return fields
