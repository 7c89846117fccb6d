"""How the global batch of a training is cut: processes x micro_batch x accumulation."""

from collections.abc import Sequence

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.order import Share


def share_of(config: DictConfig, rank: int = 0) -> Share:
    """How the global batch is cut; UserError when it does not divide."""
    world_size = config.devices * config.num_nodes
    whole, rest = divmod(config.global_batch, world_size)
    if rest:
        nearest = max(1, round(config.global_batch / world_size)) * world_size
        raise UserError(
            f"global_batch={config.global_batch} is not divisible by {world_size} processes; "
            f"choose a multiple of {world_size}, such as global_batch={nearest}."
        )
    try:
        return Share(config.global_batch, config.micro_batch or whole, rank, world_size)
    except ValueError as error:
        raise UserError(str(error)) from error


def shares_of(
    config: DictConfig, sizes_px: Sequence[tuple[int, int]], rank: int = 0
) -> list[Share]:
    """The same for pictures of each size, within the budget of pixels; UserError where one is not.

    ``sizes_px`` are heights and widths by bucket.
    """
    share = share_of(config, rank)
    try:
        return [share.within(config.max_micro_pixels, size) for size in sizes_px]
    except ValueError as error:
        raise UserError(str(error)) from error


def needs_whole_batch(config: DictConfig) -> bool:
    """Whether a stage's loss sees the global batch at once, so that it has no micro-batches."""
    judge = config.get("discriminator") or {}
    return config.stage == "text_encoder" or judge.get("norm") == "batch"
