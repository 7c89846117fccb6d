"""The README's pictures, from a finished demo: `python benchmarks/figures.py runs/demo docs`."""

import json
import sys
import textwrap
from pathlib import Path

from matplotlib import pyplot as plt
from PIL import Image


def figure(rows: list[list[tuple[str, Path]]], file: Path) -> None:
    """Pictures with a line below each, as one PNG."""
    height, width = len(rows), max(map(len, rows))
    drawn, axes = plt.subplots(height, width, figsize=(1.24 * width, 1.62 * height), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, places in zip(rows, axes, strict=True):
        for (text, picture), axis in zip(row, places, strict=False):
            axis.imshow(Image.open(picture), interpolation="bicubic")
            axis.set_title(textwrap.fill(text, 20), fontsize=5.5, y=-0.06, va="top")
    drawn.subplots_adjust(left=0.01, right=0.99, top=0.99, bottom=0.14, wspace=0.08, hspace=0.45)
    drawn.savefig(file, dpi=100)
    plt.close(drawn)
    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)  # a third of the bytes


def samples(folder: Path) -> list[tuple[str, Path]]:
    """Prompt and file of each picture of a folder of samples."""
    pictures = json.loads((folder / "samples.json").read_text())["pictures"]
    return [(row["prompt"], folder / row["file"]) for row in pictures]


if __name__ == "__main__":
    demo, docs = Path(sys.argv[1]), Path(sys.argv[2])
    made = samples(demo / "samples")
    figure([made[:8], made[8:16]], docs / "demo.png")
