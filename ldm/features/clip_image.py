"""The image tower of a CLIP (Radford et al. 2021), frozen: an embedding, or maps of its layers."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldm import weights
from ldm.features.rgb import as_rgb
from ldm.nn.exact import without_autocast


class ClipImageFeatures(nn.Module):
    """Features of an open_clip model's image tower for images (B, 3, H, W) in [-1, 1].

    ``model`` is an open_clip model; only its ``visual`` is kept, and frozen. Images are resized
    to ``size_px`` (bicubic with antialiasing, skipped where the size already fits) and normalised
    by ``mean`` and ``std``, which apply to pixels in [0, 1]. Computed in float32 even under
    autocast; differentiable in the images. ValueError if ``size_px`` is not the tower's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        size_px: int,
        mean: Sequence[float],
        std: Sequence[float],
        normalize: bool,
    ) -> None:
        super().__init__()
        visual = model.visual
        assert isinstance(visual, nn.Module)
        built_for = getattr(visual, "image_size", size_px)
        built_for = built_for if isinstance(built_for, tuple) else (built_for, built_for)
        if built_for != (size_px, size_px):
            raise ValueError(
                f"size_px={size_px}, but the image tower was built for "
                f"{built_for[0]} x {built_for[1]} px. Set size_px to its size."
            )
        self.visual = visual.requires_grad_(False).eval()
        self.size_px = size_px
        self.normalize = normalize
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: the tower is frozen."""
        return super().train(False)

    @property
    def num_features(self) -> int:
        """The width E of the embedding."""
        return int(self.visual.output_dim)  # type: ignore[arg-type]

    @property
    def protocol(self) -> dict[str, Any]:
        """What a metric's record must say about these features."""
        return {
            "features": "clip_image",
            "features_hash": weights.hash_tensors(self.visual.state_dict()),
            "resize": f"bicubic {self.size_px} px, antialias on",
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "normalize": self.normalize,
        }

    def prepare(self, images: Tensor) -> Tensor:
        """Images (B, 3 or 1, H, W) in [-1, 1] as the tower expects them: (B, 3, size, size)."""
        images = as_rgb(images).float()
        size = (self.size_px, self.size_px)
        if images.shape[-2:] != size:
            images = functional.interpolate(
                images, size=size, mode="bicubic", antialias=True, align_corners=False
            )
        return ((images + 1.0) / 2.0 - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """The pooled embedding, of length 1 if ``normalize``."""
        with without_autocast(images.device):
            embedding = self.visual(self.prepare(images))
        return functional.normalize(embedding, dim=-1) if self.normalize else embedding  # (B, E)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The patch tokens after each transformer block, as maps (B, C, h, w)."""
        if not hasattr(self.visual, "forward_intermediates"):
            raise ValueError(
                f"{type(self.visual).__name__} gives no intermediate layers; use an image tower "
                "of open_clip that is a vision transformer, or perceptual=lpips."
            )
        with without_autocast(images.device):
            found = self.visual.forward_intermediates(  # type: ignore[operator]
                self.prepare(images), intermediates_only=True
            )
        return list(found["image_intermediates"])
