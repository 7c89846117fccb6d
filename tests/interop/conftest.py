"""A whole tiny model with random weights, away from the zeros of its initialisation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ldm.autoencoders.regularizers import KL, Regularizer
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.prediction import Epsilon, Prediction
from ldm.diffusion.schedule import NoiseSchedule
from ldm.generation import TextToImage
from ldm.text.clip import ClipText
from ldm.text.clip_text_tower import ClipTextTower
from tests.shipped import shipped

UNET = {
    "channels": [8, 16], "attention": [True, False], "heads": [2, 4], "transformer_depth": [1, 1],
    "layers_per_level": 1, "context_dim": 12, "groups": 4,
}  # fmt: skip
AUTOENCODER = {
    "channels": [8, 8, 16, 16], "attention": [False] * 4, "layers_per_level": 1, "groups": 4,
}  # fmt: skip
TOWER = {
    "context_length": 12, "vocab_size": 49408, "width": 12, "heads": 3, "layers": 2,
    "mlp_ratio": 4.0, "embed_dim": None, "quick_gelu": True, "pad_id": 49407,
}  # fmt: skip


@pytest.fixture(scope="session")
def make_model() -> Callable[..., TextToImage]:
    """Makes the model; words change the settings of one of its parts."""

    def make(
        *,
        unet: dict[str, Any] | None = None,
        autoencoder: dict[str, Any] | None = None,
        tower: dict[str, Any] | None = None,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction | None = None,
        scale: LatentScale | None = None,
        regularizer: Regularizer | None = None,
    ) -> TextToImage:
        torch.manual_seed(0)
        model = TextToImage(
            denoiser=Denoiser(
                network=shipped("backbone", "unet_sd1", **UNET | (unet or {})),
                schedule=schedule or shipped("schedule", "scaled_linear"),
                prediction=prediction or Epsilon(),
            ),
            autoencoder=shipped(
                "autoencoder",
                "kl_f8",
                **AUTOENCODER | (autoencoder or {}),
                regularizer=regularizer or KL(),
            ),
            text_encoder=ClipText(ClipTextTower(**TOWER | (tower or {}))),
            scale=scale or LatentScale([0.5, -1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 0.25]),
            size_px=64,
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        return model.requires_grad_(False).eval()

    return make
