"""Pictures of what the model can do so far: the same prompts and seeds at every visit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor

from ldm.callbacks.loggers.backend import Picture
from ldm.callbacks.metrics_log import show
from ldm.callbacks.patience import Patience
from ldm.data.images import to_uint8, visible
from ldm.manifest import atomic
from ldm.nn.ranks import turns

Draw = Callable[[Sequence[int]], Tensor]

BLOCK = 4  # rows drawn at a time: the same for any number of ranks, so the pictures are too


class SampleGrid:
    """Writes ``directory/step_000000100.png`` when called, drawn with the averaged weights.

    ``draw`` makes the images (B, 3, H, W) in [-1, 1] of some of the rows 0 .. ``rows`` - 1. Ranks
    take blocks of them in turn, rank 0 writes. Programs that show the run know the sheets as
    ``name``, and the ``captions`` of its pictures.
    """

    def __init__(
        self,
        draw: Draw,
        directory: str | Path,
        *,
        rows: int,
        columns: int | None,
        patience: Patience,
        name: str = "samples",
        captions: Sequence[str] = (),
    ) -> None:
        self.name, self.captions = name, captions
        self.draw, self.directory, self.columns = draw, Path(directory), columns
        self.blocks = [range(rows)[first : first + BLOCK] for first in range(0, rows, BLOCK)]
        self.patience = patience

    def __call__(self, trainer: Trainer, module: Any) -> None:
        """Draw and write the grid of this step."""
        module.eval()
        context = trainer.precision_plugin.forward_context()  # the precision of training
        with context, torch.no_grad(), module.trained[module.product].averaged():
            drawn = {i: self.draw(self.blocks[i]).float().cpu() for i in turns(len(self.blocks))}
        module.train()
        for others in self.patience.gather(drawn):
            drawn |= others
        if not trainer.is_global_zero:
            return
        path = self.directory / f"step_{module.step:09d}.png"
        try:
            save_grid(torch.cat([drawn[i] for i in range(len(self.blocks))]), path, self.columns)
        except OSError as error:
            print(f"could not write {path} ({error.strerror}). Training goes on.", flush=True)
        else:
            show(trainer, Picture(self.name, module.step, path, self.captions))


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
