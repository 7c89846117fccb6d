"""The global batch: global_batch = processes x micro_batch x accumulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.order import Share

if TYPE_CHECKING:  # which asks for shares itself
    from ldm.apps.rules.case import Case


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


def divides(case: Case) -> None:
    """Whether the batch can be cut as asked."""
    assert case.share.accumulate >= 1  # or it has said what does not divide


def whole_at_once(case: Case) -> Iterator[str]:
    """What needs the whole batch at once, and would see it in passes."""
    config = case.config
    if case.share.accumulate == 1:
        return
    if config.stage == "text_encoder":
        needs, remedy = "compares every picture with every caption of the global batch", ""
    elif config.stage == "autoencoder" and (config.discriminator or {}).get("norm") == "batch":
        needs = "with discriminator.norm=batch takes statistics over the global batch"
        remedy = "set discriminator.norm=group, "
    else:
        return
    yield (
        f"stage {config.stage} {needs}, and with micro_batch={config.micro_batch} "
        f"max_micro_pixels={config.max_micro_pixels} it would come in {case.share.accumulate} "
        f"passes. Set both to null, {remedy}lower global_batch, or use more devices."
    )
