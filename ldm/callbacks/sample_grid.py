"""Pictures of what the model can do so far: the same prompts and seeds at every visit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor

from ldm.data.images import to_uint8, visible
from ldm.manifest import atomic

Draw = Callable[[], Tensor]


class SampleGrid:
    """Writes ``directory/step_000000100.png`` when called, drawn with the averaged weights.

    ``draw`` makes the images (B, 3, H, W) in [-1, 1]; rank 0 draws, the others go on to the next
    step and wait there.
    """

    def __init__(self, draw: Draw, directory: str | Path, *, columns: int | None) -> None:
        self.draw, self.directory, self.columns = draw, Path(directory), columns

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Draw and write the grid of this step."""
        product = module.trained[module.product]
        if not (trainer.is_global_zero or product.sharded):
            return
        module.eval()
        context = trainer.precision_plugin.forward_context()  # the precision of training
        with context, torch.no_grad(), product.averaged():
            images = self.draw() if trainer.is_global_zero else None
        module.train()
        if images is not None:
            save_grid(images, self.directory / f"step_{module.step:09d}.png", self.columns)


def save_grid(images: Tensor, path: str | Path, columns: int | None = None) -> None:
    """Images (B, C, H, W) in [-1, 1] as one PNG, row by row, with a gap of two pixels."""
    count, _, height, width = images.shape
    columns = min(count, columns or max(1, round(count**0.5)))
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + 2) - 2, rows * (height + 2) - 2), "white")
    for i, image in enumerate(images):
        where = ((i % columns) * (width + 2), (i // columns) * (height + 2))
        sheet.paste(Image.fromarray(visible(to_uint8(image))), where)
    with atomic(path) as temporary:
        sheet.save(temporary, format="PNG")
