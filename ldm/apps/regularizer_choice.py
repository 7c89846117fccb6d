"""Which regulariser is meant: the autoencoder's own, or the one that takes its place."""

from collections.abc import Sequence

from omegaconf import DictConfig

from ldm.apps.errors import UserError


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
                f"brings. Leave one of them out; regularizer.{setting} sets it where the new one "
                "has such a setting."
            )
    config.autoencoder.regularizer = config.regularizer
