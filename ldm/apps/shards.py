"""Image shards among the commands: opened, named in manifests, held against an autoencoder."""

import os

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.remote import LocalCopies
from ldm.data.shards.reader import ImageShards


def image_shards(data: DictConfig) -> ImageShards:
    """The training shards of a command's settings ``data``, in a directory or at a url."""
    return ImageShards(data.root, LocalCopies(data.cache_dir, int(data.cache_gb * 1e9)))


def open_shards(data: DictConfig) -> tuple[ImageShards, ImageShards]:
    """Training shards and held-out shards; the former twice, said, where there are no others."""
    shards = image_shards(data)
    held_out = shards.held_out()
    if held_out is not None:
        return shards, held_out
    print(f"{data.root} has no held_out/: what is measured here is measured on training pictures")
    return shards, shards


def shards_input(shards: ImageShards) -> dict[str, str]:
    """Path or url and fingerprint of shards, for a manifest."""
    path = str(shards.root) if shards.is_remote else os.path.realpath(shards.root)
    return {"path": path, "fingerprint": shards.manifest.fingerprint}


def require_channels(shards: ImageShards, channels: int, remedy: str) -> None:
    """UserError with ``remedy`` where pictures have other channels than an autoencoder takes."""
    if shards.channels == channels:
        return
    grey = ", or prepare them with data.channels=1" if (shards.channels, channels) == (3, 1) else ""
    raise UserError(
        f"the pictures of {shards.root} have {shards.channels} channel(s) and the autoencoder "
        f"takes {channels}; {remedy.format(shards.channels)}{grey}."
    )
