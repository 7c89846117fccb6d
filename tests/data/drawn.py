"""Shards of another tool and a cache in memory, as small as tests of reading need them."""

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def write_shards(
    directory: Path,
    counts: Sequence[int],
    *,
    sizes: Sequence[tuple[int, int]] = ((8, 8),),
    damaged: int = 0,
) -> Path:
    """Tars of so many pictures each, of ``sizes`` in turn; sample i has the colour (i, i, i).

    Every ``damaged``-th picture is cut short.
    """
    directory.mkdir()
    i = 0
    for number, count in enumerate(counts):
        with tarfile.open(directory / f"{number:05d}.tar", "w") as tar:
            for _ in range(count):
                buffer = io.BytesIO()
                Image.fromarray(np.full((*sizes[i % len(sizes)], 3), i, np.uint8)).save(
                    buffer, "PNG"
                )
                picture = buffer.getvalue()
                if damaged and i % damaged == damaged - 1:
                    picture = picture[:-30]
                for suffix, data in (("png", picture), ("txt", f"picture {i}".encode())):
                    member = tarfile.TarInfo(f"{i:06d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                i += 1
    return directory


def colours(image: Tensor) -> list[int]:
    """The numbers of the samples whose pictures (B, 3, H, W) these are."""
    return ((image[:, 0, 0, 0] + 1.0) * 127.5).round().long().tolist()


class MemoryCache:
    """A latent cache whose codes say which bucket, row, variant and caption they are of."""

    def __init__(self, counts: Sequence[int], num_variants: int = 1, captions: int = 1) -> None:
        self.counts, self.num_variants, self.captions = list(counts), num_variants, captions
        self.sizes_px = [(8 * (b + 1), 16) for b in range(len(counts))]

    def gather(
        self, bucket: int, rows: Tensor, draw: Callable[[str], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Code (B, 4, b + 1, 2): in its channels the four numbers; ids (B, 1): the row."""
        assert 0 <= int(rows.min()) <= int(rows.max()) < self.counts[bucket]
        numbers = [
            torch.full_like(rows, bucket),
            rows,
            (draw("variant") * self.num_variants).long(),
            (draw("caption") * self.captions).long(),
        ]
        code = torch.stack(numbers, 1).float()[:, :, None, None].expand(-1, -1, bucket + 1, 2)
        return code, rows[:, None], torch.empty(len(rows), 0), None, None
