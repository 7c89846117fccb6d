"""Stage text_encoder: own CLIP towers on captioned shards."""

from pathlib import Path

from omegaconf import DictConfig

from ldm.apps.build import build
from ldm.apps.shards import image_shards, shards_input
from ldm.apps.stages.assembly import Assembly, image_batches, trained
from ldm.data.order import Share
from ldm.tasks.text_encoder import TextEncoderTask
from ldm.text.clip import ClipTowers

PART = "text_encoder"  # of a model folder
NO_CAPTIONS = (
    "the pictures have no captions, so there is nothing to learn: the towers stay as initialised, "
    "and every picture is conditioned on the empty caption (an unconditional model)"
)


def inputs(config: DictConfig) -> dict[str, dict[str, str]]:
    """What the run is made from: path and fingerprint."""
    return {"shards": shards_input(image_shards(config.data))}


def assemble(config: DictConfig, share: Share) -> Assembly:
    """Towers, their task and the captioned pictures."""
    towers = build(config.text_encoder)
    batches, held_out = image_batches(config, towers.tokenize)
    task = TextEncoderTask(
        towers=towers, trained=trained(towers, config), accumulate=share.accumulate
    )

    def initialise(folder: Path) -> None:
        towers.load_state_dict(ClipTowers.load(folder / "text_encoder").state_dict())

    def write_model(folder: Path) -> None:
        towers.save(folder / "text_encoder")

    return Assembly(
        task=task,
        batches=batches,
        held_out=held_out,
        part=PART,
        initialise=initialise,
        write_model=write_model,
        write_trained=write_model,
        draw=None,
        held_out_block=share.global_batch,
        nothing_to_learn=None if any(batches.shards.first_captions()) else NO_CAPTIONS,
    )
