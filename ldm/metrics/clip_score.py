"""How well images fit their captions in the joint space of a CLIP (Hessel et al. 2021)."""

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric


def cosines(image: Tensor, text: Tensor) -> Tensor:
    """The cosine (B,) of each image's embedding with its caption's, both (B, E); float64."""
    pairs = (functional.normalize(each.double(), dim=-1) for each in (image, text))
    return torch.stack(list(pairs)).prod(0).sum(-1)


class ClipScore(Metric):
    """The mean cosine of image and caption embeddings (B, E), of any length, and its derivations.

    ``compute`` gives "raw", the mean in [-1, 1], neither scaled nor clipped, and what papers print
    in its place: "x100", 100 times that, and "2.5x", the mean of 2.5 max(cosine, 0), the CLIPScore
    of Hessel et al. Sums are float64.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    above_zero: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_state("total", zero.clone(), dist_reduce_fx="sum")
        self.add_state("above_zero", zero.clone(), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, image: Tensor, text: Tensor) -> None:
        if image.shape != text.shape:
            raise ValueError(
                f"embeddings of images {tuple(image.shape)} and captions {tuple(text.shape)} must "
                "be as many and of one width."
            )
        found = cosines(image, text)
        self.total += found.sum()
        self.above_zero += found.clamp_min(0.0).sum()
        self.count += len(found)

    def compute(self) -> dict[str, Tensor]:
        mean = self.total / self.count
        return {"raw": mean, "x100": 100.0 * mean, "2.5x": 2.5 * self.above_zero / self.count}
