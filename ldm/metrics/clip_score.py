"""How well images fit their captions in the joint space of a CLIP (Hessel et al. 2021)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from ldm.features.quantise import quantise


class ClipScore(Metric):
    """The mean cosine of image and caption embeddings, in [-1, 1]; not scaled, not clipped.

    ``encode_image`` maps images (B, 3, H, W) in [-1, 1] to (B, E), ``encode_text`` a list of B
    captions to (B, E); of any length, they are normalised here. Multiples such as 100 cos or
    2.5 max(cos, 0) are derived from this number and to be labelled as such.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(
        self,
        encode_image: Callable[[Tensor], Tensor],
        encode_text: Callable[[list[str]], Tensor],
    ) -> None:
        super().__init__()
        self.encode_image = encode_image
        self.encode_text = encode_text
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor, captions: Sequence[str]) -> None:
        if len(images) != len(captions):
            raise ValueError(f"{len(images)} images, but {len(captions)} captions: one for each.")
        with torch.autocast(images.device.type, enabled=False):
            image = functional.normalize(self.encode_image(quantise(images)).float(), dim=-1)
            text = functional.normalize(self.encode_text(list(captions)).float(), dim=-1)
        self.total += (image * text.to(image.device)).sum(-1).double().sum()
        self.count += len(images)

    def compute(self) -> Tensor:
        return self.total / self.count
