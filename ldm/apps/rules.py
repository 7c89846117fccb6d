"""Rules between settings of different groups, in one readable place."""

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


def check_regularizer(config: DictConfig) -> None:
    """UserError for a ``regularizer=`` that the chosen autoencoder would not take."""
    asked, own = config.regularizer, config.autoencoder.regularizer
    # The default is no wish of the user's.
    if asked != own and asked._target_ != "ldm.autoencoders.regularizers.KL":
        raise UserError(
            f"regularizer= asks for {asked._target_}, but this autoencoder is a published "
            f"architecture that brings its own ({own._target_}). Leave regularizer= out and set "
            "autoencoder.regularizer.NAME=VALUE, or choose an autoencoder that takes any "
            "(autoencoder=kl_demo or kl_folder)."
        )
