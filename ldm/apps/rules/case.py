"""A configuration as the rules see it: what several of them ask is made once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from ldm.apps.build import build
from ldm.apps.planning.estimate import Footprint, footprint
from ldm.apps.planning.in_shape import towers_in_shape
from ldm.apps.shares import shares_of
from ldm.data.order import Share
from ldm.manifest import Manifest, known_manifest

PARTS = {"diffusion": "backbone", "autoencoder": "autoencoder", "text_encoder": "text_encoder"}


class Case:
    """The settings of one command, and the parts that they describe, on the meta device.

    ``config_dir`` holds a user's own configurations; ``words`` are those that were typed.
    ValueError, in the user's words, where a part cannot be made from its settings.
    """

    def __init__(
        self, config: DictConfig, config_dir: str | None = None, words: Sequence[str] = ()
    ) -> None:
        self.config, self.config_dir = config, config_dir
        self.typed = [word.partition("=")[0].lstrip("+~").split(".")[0] for word in words]
        named = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
        self.experiment = named[-1] if named else None

    @property
    def part(self) -> str:
        """The setting that describes what the stage trains."""
        return PARTS[self.config.stage]

    @cached_property
    def network(self) -> nn.Module:
        """What the stage trains, without memory for its weights."""
        settings = self.config[self.part]
        with torch.device("meta"):
            network = towers_in_shape(settings) if self.part == "text_encoder" else None
            network = build(settings) if network is None else network
        assert isinstance(network, nn.Module)
        return network

    @cached_property
    def num_parameters(self) -> int:
        """How many numbers the stage trains, the discriminator's aside."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @cached_property
    def share(self) -> Share:
        """How the global batch is cut for pictures of ``size``."""
        (share,) = shares_of(self.config, [(self.config.size, self.config.size)])
        return share

    @cached_property
    def footprint(self) -> Footprint | None:
        """Bytes that it takes on devices and the disk; None where that cannot be known."""
        return footprint(self.config, self.experiment)

    @cached_property
    def schedule(self) -> Any:
        """The noise schedule of stage diffusion."""
        return build(self.config.schedule)

    @cached_property
    def prediction(self) -> Any:
        """What the denoiser predicts."""
        return build(self.config.prediction)

    @property
    def root(self) -> Path:
        """Where the data lies, as a path."""
        return Path(str(self.config.data.root))

    @cached_property
    def latents(self) -> Manifest | None:
        """What the latent cache at ``data.root`` says of itself; None where there is none."""
        found = known_manifest(self.root) if self.root.is_dir() else None
        return found if found is not None and found.kind == "latents" else None
