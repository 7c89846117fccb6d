"""What a stage hands to the trainer, and the small steps all stages share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.run_directory import is_first_process
from ldm.apps.shards import open_shards
from ldm.apps.stages.evaluated import Evaluated
from ldm.data.batches import Batches, ImageBatches, Tokenize
from ldm.data.order import Shuffled, Streamed
from ldm.data.shards.reader import ImageShards
from ldm.nn.blocks import recompute_activations
from ldm.tasks.compiling import compile_in_place
from ldm.tasks.trained import Trained

# Runs of any seed are validated on the same pairs of sample and noise.
HELD_OUT_SEED = 0


@dataclass
class Assembly:
    """A task with its data: everything a training run needs that is special to its stage."""

    task: Any
    batches: Batches
    held_out: Batches  # read once through by validation
    part: str  # the sub-folder of a model folder that holds the product
    initialise: Callable[[Path], None]  # load that part of a model folder into the product
    write_model: Callable[[Path], None]  # the product with its present weights, as a model folder
    write_trained: Callable[[Path], None]  # of that folder only what training changes
    draw: Callable[[Sequence[int]], Tensor] | None  # images (B, 3, H, W) of sample pictures' rows
    rows: int = 0  # of those pictures
    columns: int | None = None
    prompts: Sequence[str] = ()  # of what, where they are drawn from words
    # Likewise of what latents stand, in LATENT_ROWS rows.
    draw_latents: Callable[[Sequence[int]], Tensor] | None = None
    # How many held-out samples lie together, where the loss depends on that; else validate_block.
    held_out_block: int | None = None
    # Timesteps (B,) of a step's samples, by (step, global indices), where there are such.
    timesteps: Callable[[int, Tensor], Tensor] | None = None
    evaluated: Callable[[], Evaluated] | None = None  # what evaluate_every looks at
    nothing_to_learn: str | None = None  # why the product is complete as initialised
    # Networks of others that it learns by, for the manifest; see bill/learned_by.py.
    pretrained: Mapping[str, Any] = field(default_factory=dict)


def trained(network: nn.Module, config: DictConfig, *, lr: float | None = None) -> Trained:
    """A network with the optimizer, learning rate and average of the configuration.

    With an ``lr`` of its own it is no product: not averaged, compiled or recomputed.
    """
    peak = config.lr if lr is None else lr
    averaged = config.ema_decay if lr is None else None
    if lr is None and config.activation_checkpointing:
        recompute_activations(network)
    if lr is None and config.compile:
        compile_in_place(network)
    try:
        return Trained(
            network,
            make_optimizer=build(config.optimizer, lr=peak),
            learning_rate=build(config.learning_rate, peak=peak),
            max_gradient_norm=config.max_gradient_norm,
            ema_decay=averaged,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"optimizer: {error}") from error


def image_batches(
    config: DictConfig, tokenize: Tokenize | None = None
) -> tuple[ImageBatches, ImageBatches]:
    """The pictures of ``data.root`` in the order of ``data.order``, and the held-out ones."""
    shards, held_out = open_shards(config.data)
    make = partial(ImageBatches, size_px=config.size, tokenize=tokenize)
    return (
        make(shards, order=_order(config, shards), flip=config.flip, seed=config.seed),
        make(
            held_out,
            order=Shuffled(HELD_OUT_SEED, len(held_out)),
            flip=False,
            seed=HELD_OUT_SEED,
        ),
    )


def _order(config: DictConfig, shards: ImageShards) -> Shuffled | Streamed:
    if config.data.order == "shuffled":
        if shards.is_remote and is_first_process():
            print(
                f"data.order=shuffled reads from all {len(shards.files)} shards of {shards.root} "
                f"at once: those for which data.cache_gb={config.data.cache_gb:g} has no room are "
                "fetched again and again. data.order=streamed reads shard after shard."
            )
        return Shuffled(config.seed, len(shards))
    try:
        return Streamed(config.seed, shards.shard_counts, config.global_batch, config.data.lanes)
    except ValueError as error:
        raise UserError(f"{shards.root}: {error}") from error
