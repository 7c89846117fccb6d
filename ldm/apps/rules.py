"""Rules between settings of different groups, in one readable place."""

from collections.abc import Sequence

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.order import Share


def share_of(config: DictConfig, rank: int = 0) -> Share:
    """How the global batch is cut; UserError when it does not divide."""
    world_size = config.devices * config.num_nodes
    whole, rest = divmod(config.global_batch, world_size)
    if rest:
        raise UserError(
            f"global_batch={config.global_batch} is not divisible by {world_size} processes; "
            f"choose a multiple of {world_size}."
        )
    try:
        return Share(config.global_batch, config.micro_batch or whole, rank, world_size)
    except ValueError as error:
        raise UserError(str(error)) from error


def choose_regularizer(config: DictConfig, overrides: Sequence[str]) -> None:
    """What ``regularizer=`` asks for, or else the autoencoder's own; then both keys say it.

    UserError where the settings of the one that is replaced were changed by ``overrides``.
    """
    if "regularizer" not in config:
        config.regularizer = config.autoencoder.regularizer
        return
    for override in overrides:
        _, replaced, setting = override.partition("autoencoder.regularizer.")
        if replaced:
            raise UserError(
                f"{override} would be lost: regularizer= takes the place of what the autoencoder "
                f"brings. Write regularizer.{setting}, or leave regularizer= out."
            )
    config.autoencoder.regularizer = config.regularizer
