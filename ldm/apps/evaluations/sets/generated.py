"""Pictures that a model makes, picture i of the i-th prompt and seed + i."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import Block
from ldm.apps.evaluations.sets import in_words, rounded
from ldm.apps.evaluations.sets.networks import Networks
from ldm.apps.request import Picture
from ldm.apps.sample import drawn
from ldm.apps.sample_folder import files_of, paths_of, read_sample, write_picture


@dataclass(frozen=True)
class GeneratedPictures:
    """``pictures`` made in blocks of fixed size, and kept in ``folder`` where there is one.

    ``record`` is that folder's; it is open for them. What it holds is read and not made again.
    """

    config: DictConfig
    pictures: Sequence[Picture]
    record: dict[str, Any]
    size_px: tuple[int, int]
    networks: Networks
    folder: Path | None

    @property
    def count(self) -> int:
        return len(self.pictures)

    @property
    def captions(self) -> Sequence[str]:
        return [picture.prompt for picture in self.pictures]

    @property
    def identity(self) -> dict[str, Any]:
        return self.record

    @property
    def protocol(self) -> dict[str, Any]:
        made = {key: value for key, value in self.record["protocol"].items() if key != "versions"}
        return made | {"seed": self.config.seed}

    def block(self, rows: range) -> Block:
        images = self._kept(rows)
        if images is None:
            images = self._made(rows)
        return rounded(images, [self.pictures[i].prompt for i in rows])

    def is_kept(self, rows: range) -> bool:
        return self.folder is None or all(file.is_file() for file in self._files(rows))

    def changed(self, rows: range) -> float:
        if self.folder is None:
            return 0.0
        states = [file.stat() for picture in self._files(rows) for file in files_of(picture)]
        return max((max(s.st_mtime, s.st_ctime) for s in states), default=0.0)

    def _files(self, rows: range) -> list[Path]:
        assert self.folder is not None
        return [self.folder / self.record["pictures"][i]["file"] for i in rows]

    def _kept(self, rows: range) -> Tensor | None:
        if self.folder is None or not self.is_kept(rows):
            return None
        try:
            images = [read_sample(file) for file in self._files(rows)]
        except ValueError:  # damaged, by a failure of power: it is made again
            return None
        for file, image in zip(self._files(rows), images, strict=True):
            height, width = image.shape[1:]
            if (height, width) != self.size_px:
                raise UserError(
                    f"{file} is {in_words((height, width))}, and the model makes "
                    f"{in_words(self.size_px)}: somebody has changed it. Delete it, and the same "
                    "command makes it again."
                )
        return torch.stack(images)

    def _made(self, rows: range) -> Tensor:
        pictures = self.pictures[rows.start : rows.stop]
        (images,) = drawn(self.networks.pipeline(self.pictures), pictures, self.config)
        if self.folder is not None:
            for file, picture, image in zip(self._files(rows), pictures, images.cpu(), strict=True):
                write_picture(file, image, picture, self.record, paths=paths_of(self.config))
        return images
