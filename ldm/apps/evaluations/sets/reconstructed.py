"""Pictures through an autoencoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ldm.apps.evaluations.measure import Block
from ldm.apps.evaluations.sets import Readable, rounded
from ldm.apps.evaluations.sets.networks import Networks


@dataclass(frozen=True)
class ReconstructedPictures:
    """The first ``count`` pictures of ``reference`` through the mode of the autoencoder's code.

    The originals are what the autoencoder is given. ValueError where these leave [-1, 1].
    """

    reference: Readable
    count: int
    networks: Networks
    made_by: dict[str, Any]  # the autoencoder

    @property
    def size_px(self) -> tuple[int, int]:
        return self.reference.size_px

    @property
    def captions(self) -> Sequence[str]:
        return self.reference.captions[: self.count]

    @property
    def identity(self) -> dict[str, Any]:
        return {"reference": self.reference.identity, **self.made_by}

    @property
    def protocol(self) -> dict[str, Any]:
        originals = self.reference.protocol
        return {**self.made_by, **({"originals": originals} if originals else {})}

    @torch.no_grad()
    def block(self, rows: range) -> Block:
        originals = self.reference.images(rows)
        if float(originals.abs().max()) > 1.0 + 1e-3:
            raise ValueError(
                f"a picture among {rows.start} to {rows.stop - 1} of the reference reaches "
                f"{float(originals.abs().max()):.4g}; pictures must lie in [-1, 1]. Prepare them "
                "again."
            )
        autoencoder = self.networks.autoencoder()
        code = autoencoder.encode(originals.to(autoencoder.last_layer.device))
        images = autoencoder.decode(autoencoder.regularizer.mode(code))
        return rounded(images, self.captions[rows.start : rows.stop], originals)

    def is_kept(self, rows: range) -> bool:
        return True

    def changed(self, rows: range) -> float:
        return self.reference.changed(rows)
