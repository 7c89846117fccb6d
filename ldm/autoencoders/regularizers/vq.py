"""The codebook of a vector-quantised autoencoder."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.ranges import Count, NonNegative, Share

_BLOCK = 4096  # positions compared with the codebook at a time, so that memory stays small


class VQ(nn.Module):
    """Latent vectors are replaced by the nearest of ``num_codes`` learned vectors (C = ``dim``).

    van den Oord et al. 2017; Esser et al. 2021. What is stored is the encoder's output *before*
    that, so diffusion works on continuous latents and ``decodable`` quantises (Rombach et al.
    2022, section 3.3). The gradient passes the quantisation straight through; the codebook learns
    from the penalty alone: per image |sg[z] - e|^2 + beta |z - sg[e]|^2, a mean over (C, h, w).
    ``beta`` weighs the commitment of the encoder, as in the paper (eq. 3); the original's code had
    it on the other term. ``loss_weight`` is the original's codebook weight. A code that no
    position of a global batch chose begins anew with probability ``restart_rate`` (0: never).
    """

    codes_per_latent = 1

    def __init__(
        self,
        *,
        num_codes: Count,
        dim: Count,
        beta: NonNegative,
        loss_weight: NonNegative,
        restart_rate: Share,
    ) -> None:
        super().__init__()
        if num_codes < 1 or dim < 1:
            raise ValueError(
                f"a codebook needs at least one code of one channel, found num_codes={num_codes}, "
                f"dim={dim}."
            )
        if not 0.0 <= restart_rate <= 1.0:
            raise ValueError(f"restart_rate is a probability from 0 to 1, found {restart_rate}.")
        self.num_codes, self.latent_channels, self.beta = num_codes, dim, beta
        self.loss_weight, self.restart_rate = loss_weight, restart_rate
        self.embedding = nn.Embedding(num_codes, dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / num_codes, 1.0 / num_codes)

    def code(self, raw: Tensor) -> Tensor:
        return raw

    def draw(self, code: Tensor, noise: Tensor) -> Tensor:
        return code

    def mode(self, code: Tensor) -> Tensor:
        return code

    def decodable(self, latent: Tensor) -> Tensor:
        nearest = self._looked_up(self.nearest(latent)).to(latent.dtype)
        return latent + (nearest - latent).detach()

    def penalty(self, code: Tensor) -> Tensor:
        wide = code.to(torch.promote_types(code.dtype, torch.float32))
        nearest = self._looked_up(self.nearest(code)).to(wide.dtype)
        learning = (nearest - wide.detach()).square()
        commitment = (wide - nearest.detach()).square()
        return (learning + self.beta * commitment).flatten(1).mean(1)

    def weight(self, *, kl: float, elements: int) -> float:
        # The original adds its mean over the latent to a mean over the picture's values. Our
        # likelihood is the sum over these values, so the same balance takes their number.
        return self.loss_weight * elements

    def measures(self, code: Tensor) -> dict[str, Tensor]:
        """The squared distance to the chosen code, as a share of the latent's mean square."""
        wide = code.detach().to(torch.promote_types(code.dtype, torch.float32))
        error = (self._looked_up(self.nearest(code)).detach() - wide).square().flatten(1).mean(1)
        power = wide.square().flatten(1).mean(1)
        return {"quantization_error": error / power.clamp(min=1e-12)}

    def counts(self, code: Tensor) -> Tensor:
        index = self.nearest(code).flatten()  # bincount would ask the host for the largest
        ones = torch.ones(len(index), device=index.device)
        return ones.new_zeros(self.num_codes).index_add_(0, index, ones)

    @torch.no_grad()
    def nearest(self, latent: Tensor) -> Tensor:
        """Index of the nearest code at every position: (B, C, h, w) -> (B, h, w) int64."""
        wide = torch.promote_types(latent.dtype, torch.float32)
        codebook = self.embedding.weight.to(wide)
        # |z - e|^2 without |z|^2, which all codes share and in which small differences drown.
        half_squares = 0.5 * codebook.square().sum(1)
        vectors = latent.to(wide).movedim(1, -1)  # (B, h, w, C)
        kind = latent.device.type
        mixed = kind != "meta" and torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if mixed else nullcontext():
            found = [
                torch.addmm(half_squares, some, codebook.mT, alpha=-1.0).argmin(1)
                for some in vectors.flatten(0, 2).split(_BLOCK)
            ]
        return torch.cat(found).view(vectors.shape[:3])

    def _looked_up(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.embedding.weight).movedim(-1, 1)  # (B, C, h, w)
