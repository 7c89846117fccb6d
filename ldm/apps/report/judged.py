"""Single samples that an evaluation points at: best and worst by CLIP score, nearest to training.

Both come from the notes beside the metrics file; what is not there, or damaged, is left out.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ldm.apps.evaluations.measure import SAMPLES, Block
from ldm.apps.evaluations.pixels import Pixels, hash_of
from ldm.apps.lineage import shards_of
from ldm.apps.report.numbers import number, title
from ldm.apps.report.pictures import img
from ldm.apps.sample_folder import read_sample
from ldm.data.images import to_uint8, visible
from ldm.data.remote import is_url
from ldm.data.shards.reader import ImageShards
from ldm.manifest import read_json
from ldm.metrics.notes import notes_found, rows_of

NOTES, NEAREST = "metrics.notes", "nearest.json"  # beside metrics.json, and in the notes
_SCORES = ("clip_score", "clip_score_own")
_SHOWN = 8
_HOW = (
    "<p class=muted>The pictures of this evaluation were not kept: add <code>samples=DIR</code> "
    "to <code>ldm evaluate</code>, with DIR the folder samples here, to see them.</p>"
)


class _Judged:
    """The samples that a number was measured on: their notes, and the pictures in DIR/samples.

    ``notes`` is None where the notes of these very pixels are not there.
    """

    def __init__(self, directory: Path, record: Mapping[str, Any]) -> None:
        self._folder = directory / "samples"
        file = self._folder / "samples.json"
        self._rows = read_json(file).get("pictures", []) if file.is_file() else []
        self.notes, self._digests = _noted(
            directory / NOTES, record.get("protocol", {}).get("samples")
        )

    def __len__(self) -> int:
        return len(self._digests)

    def prompt(self, i: int) -> str:
        """What the i-th picture was drawn from."""
        return str(self._rows[i].get("prompt", ""))

    def picture(self, i: int) -> Image.Image | None:
        """The i-th picture; None where there is none, or another than was judged."""
        try:
            image = read_sample(self._folder / self._rows[i]["file"])
        except (ValueError, OSError, IndexError):
            return None
        digest = Pixels()(Block(image[None], [""]))["digest"][0]
        is_same = torch.equal(digest, self._digests[i])
        return Image.fromarray(visible(to_uint8(image))).convert("RGB") if is_same else None


def by_clip_score(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The samples whose pictures fit their prompts best and worst, each with its cosine."""
    name = next((name for name in _SCORES if name in records), None)
    judged = None if name is None else _Judged(directory, records[name])
    if name is None or judged is None or judged.notes is None:
        return ""
    cosines = _cosines(judged.notes, records[name]["value"])
    if cosines is None:
        return ""
    order = sorted(range(len(cosines)), key=lambda i: -cosines[i])
    count = min(_SHOWN, len(order) // 2)
    rows = {"best": order[:count], "worst": order[::-1][:count]}
    figures = {
        label: [
            _figure(judged, picture, i, cosines[i])
            for i in chosen
            if (picture := judged.picture(i))
        ]
        for label, chosen in rows.items()
    }
    heading = f"<h3>Best and worst samples: {escape(title(name))}</h3>"
    if not any(figures.values()):
        return heading + _HOW
    note = f"The cosine of each picture and its prompt, of {len(order):,} samples."
    return f"{heading}<p class=muted>{note}</p>" + "".join(
        f'<h4>{label}</h4><div class="samples">{"".join(shown)}</div>'
        for label, shown in figures.items()
    )


def neighbours(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The samples nearest to a training picture, each beside it."""
    record = next((r for n, r in records.items() if n.startswith("memorisation.")), None)
    shards = None if record is None else _training(directory)
    if record is None or shards is None:
        return ""
    judged = _Judged(directory, record)
    if judged.notes is None or not (rows := _nearest(directory / NOTES / NEAREST, len(judged))):
        return ""
    pairs = []
    for row in rows:
        made, learned = judged.picture(row["sample"]), _of_shards(shards, row["training"])
        if made is not None and learned is not None:
            prompt, distance = judged.prompt(row["sample"]), number(row["distance"])
            pairs.append(
                '<figure><div class="pair">'
                + img(made, f"sample: {prompt}", wide_px=128, narrow_px=72)
                + img(learned, f"training picture {row['training']}", wide_px=128, narrow_px=72)
                + f"</div><figcaption>distance {distance}<br>{escape(prompt)}</figcaption></figure>"
            )
    heading = "<h3>Nearest training pictures</h3>"
    if not pairs:
        return heading + _HOW
    note = (
        "In pairs: a sample on the left, the training picture nearest to it on the right; the "
        f"{len(pairs)} smallest distances of all samples, by the features of the metric."
    )
    return f'{heading}<p class=muted>{note}</p><div class="samples">{"".join(pairs)}</div>'


def _nearest(file: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of the nearest samples, of those that there are."""
    try:
        return [row for row in read_json(file) if row["sample"] < count][:_SHOWN]
    except (ValueError, TypeError, KeyError):  # damaged
        return []


def _figure(judged: _Judged, picture: Image.Image, i: int, cosine: float) -> str:
    prompt = judged.prompt(i)
    shown = img(picture, prompt, wide_px=104, narrow_px=100)
    return f"<figure>{shown}<figcaption><b>{cosine:.3f}</b> {escape(prompt)}</figcaption></figure>"


def _noted(notes: Path, pixels: str | None) -> tuple[Path | None, Tensor]:
    """The notes of the samples with these pixels, and what stands for each of them.

    Notes of several evaluations may lie side by side.
    """
    for folder in sorted(notes.glob(f"{SAMPLES}-*/{Pixels.name}-*")):
        with suppress(ValueError, OSError):  # damaged, or not finished
            found = notes_found(folder)
            if hash_of(found, SAMPLES) == pixels:
                return folder.parent, rows_of(found, "digest")
    return None, torch.empty(0)


def _cosines(notes: Path, mean: float) -> Sequence[float] | None:
    """Of each picture and its prompt, by the network in whose notes they have this mean."""
    for folder in sorted(p for p in notes.iterdir() if p.name.startswith(("clip", "own"))):
        with suppress(ValueError, OSError, KeyError):  # notes without texts
            found = notes_found(folder)
            image, text = (rows_of(found, name) for name in ("image", "text"))
            cosines = F.cosine_similarity(image.double(), text.double())
            if abs(float(cosines.mean()) - mean) < 1e-5:
                return cosines.tolist()
    return None


def _training(directory: Path) -> ImageShards | None:
    """The shards that a recipe's directory holds, or that a run was made from."""
    try:
        own = directory / "shards"
        place = str(own) if own.is_dir() else shards_of(directory)
        return None if place is None or is_url(place) else ImageShards(place)
    except (ValueError, OSError):
        return None


def _of_shards(shards: ImageShards, i: int) -> Image.Image | None:
    try:
        return Image.fromarray(visible(shards[i].image)).convert("RGB")
    except (ValueError, OSError, IndexError):
        return None
