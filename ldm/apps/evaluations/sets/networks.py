"""The networks of `ldm evaluate model=`, read when they are first needed."""

from collections.abc import Sequence

from omegaconf import DictConfig

from ldm.apps.build import device_of
from ldm.apps.locate import model_folder
from ldm.apps.request import Picture
from ldm.apps.sample import load_model
from ldm.autoencoders.convolutional import Autoencoder
from ldm.generation import TextToImage
from ldm.interop.diffusers import read_autoencoder


class Networks:
    """The model of a configuration on its device; another process reads it for itself."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config
        self._pipeline: TextToImage | None = None
        self._autoencoder: Autoencoder | None = None

    def pipeline(self, pictures: Sequence[Picture]) -> TextToImage:
        """The whole model, which can make the pictures; ValueError for one that cannot."""
        if self._pipeline is None:
            self._pipeline = load_model(self._config, pictures)
        return self._pipeline

    def autoencoder(self) -> Autoencoder:
        """The autoencoder alone, which is there without a denoiser too."""
        if self._pipeline is not None:
            return self._pipeline.autoencoder
        if self._autoencoder is None:
            read = read_autoencoder(model_folder(self._config.model, "vae") / "vae")
            device = device_of(self._config.accelerator)
            self._autoencoder = read.requires_grad_(False).eval().to(device)
        return self._autoencoder

    def __reduce__(self) -> tuple[type["Networks"], tuple[DictConfig]]:
        return Networks, (self._config,)
