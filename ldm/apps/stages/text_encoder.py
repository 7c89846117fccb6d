"""Stage text_encoder: own CLIP towers on captioned shards."""

from pathlib import Path

from omegaconf import DictConfig

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.stages.assembly import Assembly, open_shards, shards_input, trained
from ldm.data.batches import ImageBatches
from ldm.data.order import Share
from ldm.tasks.text_encoder import TextEncoderTask


def assemble(config: DictConfig, share: Share) -> Assembly:
    """Towers, their task and the captioned pictures."""
    shards, held_out = open_shards(config.data.root)
    if not any(shards.captions):
        raise UserError(
            f"the pictures in {config.data.root} have no captions, so no text encoder can be "
            "trained on them."
        )
    towers = build(config.text_encoder)
    kwargs = {"size_px": config.size, "seed": config.seed, "tokenize": towers.tokenize}
    task = TextEncoderTask(
        towers=towers, trained=trained(towers, config), accumulate=share.accumulate
    )

    def write_model(folder: Path) -> None:
        towers.save(folder / "text_encoder")

    return Assembly(
        task=task,
        batches=ImageBatches(shards, flip=config.flip, **kwargs),
        held_out=ImageBatches(held_out, flip=False, **kwargs),
        num_held_out=len(held_out),
        inputs={"shards": shards_input(shards)},
        write_model=write_model,
        draw=None,
    )
