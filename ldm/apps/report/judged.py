"""Single samples that an evaluation points at: best and worst by CLIP score, nearest to training.

Both come from the notes beside the metrics file; what is not there, or damaged, is left out.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ldm.apps.locate import input_folder
from ldm.apps.report.numbers import number, title
from ldm.apps.report.pictures import img, opened
from ldm.data.images import visible
from ldm.data.shards.reader import ImageShards
from ldm.manifest import known_manifest, read_json
from ldm.metrics.notes import NotesInFiles, rows_of

NOTES, NEAREST = "metrics.notes", "nearest.json"  # beside metrics.json, and in the notes
_SCORES = ("clip_score", "clip_score_own")
_SHOWN = 8
_HOW = (
    "<p class=muted>The pictures of this evaluation were not kept: add <code>samples=DIR</code> "
    "to <code>ldm evaluate</code>, with DIR the folder samples here, to see them.</p>"
)


class Samples:
    """The pictures in DIR/samples with their prompts, as samples.json lists them."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "samples"
        file = self.folder / "samples.json"
        self._record = read_json(file) if file.is_file() else {}
        self._rows: list[dict[str, Any]] = self._record.get("pictures", [])

    def are_of(self, record: Mapping[str, Any], count: int | None = None) -> bool:
        """Whether a number was measured on these: as many, made in the same way."""
        protocol = record.get("protocol", {})
        nested = [value for value in protocol.values() if isinstance(value, Mapping)]
        levels: list[Mapping[str, Any]] = [protocol, *nested]
        made = next((level for level in levels if "guidance" in level), {})
        own = self._record.get("protocol", {}) | {
            "seed": self._rows[0]["seed"] if self._rows else 0
        }
        own.pop("versions", None)
        same = all(made[key] == value for key, value in own.items() if key in made)
        return bool(self._rows) and same and count in (None, len(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def prompt(self, i: int) -> str:
        """What the i-th picture was drawn from."""
        return str(self._rows[i].get("prompt", ""))

    def picture(self, i: int) -> Image.Image | None:
        """The i-th picture; None if it is missing or damaged."""
        return opened(self.folder / self._rows[i]["file"])


def by_clip_score(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The samples whose pictures fit their prompts best and worst, each with its cosine."""
    found = _cosines(directory / NOTES, records)
    if found is None:
        return ""
    name, cosines = found
    samples = Samples(directory)
    heading = f"<h3>Best and worst samples: {escape(title(name))}</h3>"
    if not samples.are_of(records[name], len(cosines)):
        return heading + _HOW
    order = sorted(range(len(cosines)), key=lambda i: -cosines[i])
    shown = min(_SHOWN, len(order) // 2)
    rows = (("best", order[:shown]), ("worst", order[::-1][:shown]))
    note = f"The cosine of each picture and its prompt, of {len(order):,} samples."
    return f"{heading}<p class=muted>{note}</p>" + "".join(
        f'<h4>{label}</h4><div class="samples">'
        + "".join(_figure(samples, i, cosines[i]) for i in chosen)
        + "</div>"
        for label, chosen in rows
    )


def neighbours(directory: Path, records: Mapping[str, Mapping[str, Any]]) -> str:
    """The samples nearest to a training picture, each beside it."""
    file = directory / NOTES / NEAREST
    record = next((r for n, r in records.items() if n.startswith("memorisation")), None)
    if record is None or not file.is_file():
        return ""
    samples, shards = Samples(directory), _training(directory)
    heading = "<h3>Nearest training pictures</h3>"
    if not samples.are_of(record) or shards is None:
        return heading + _HOW if shards is not None else ""
    pairs = []
    for row in _nearest(file, len(samples)):
        made, learned = samples.picture(row["sample"]), _of_shards(shards, row["training"])
        if made is not None and learned is not None:
            prompt, distance = samples.prompt(row["sample"]), number(row["distance"])
            pairs.append(
                '<figure><div class="pair">'
                + img(made, f"sample: {prompt}", wide_px=128, narrow_px=72)
                + img(learned, f"training picture {row['training']}", wide_px=128, narrow_px=72)
                + f"</div><figcaption>distance {distance}<br>{escape(prompt)}</figcaption></figure>"
            )
    note = (
        "In pairs: a sample on the left, the training picture nearest to it on the right; the "
        f"{len(pairs)} smallest distances of all samples, by the features of the metric."
    )
    shown = f'<div class="samples">{"".join(pairs)}</div>'
    return f"{heading}<p class=muted>{note}</p>{shown}" if pairs else ""


def _nearest(file: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of the nearest samples, of those that there are."""
    try:
        return [row for row in read_json(file) if row["sample"] < count][:_SHOWN]
    except (ValueError, TypeError, KeyError):  # damaged
        return []


def _figure(samples: Samples, i: int, cosine: float) -> str:
    prompt, picture = samples.prompt(i), samples.picture(i)
    shown = "" if picture is None else img(picture, prompt, wide_px=104, narrow_px=100)
    return f"<figure>{shown}<figcaption><b>{cosine:.3f}</b> {escape(prompt)}</figcaption></figure>"


def _cosines(
    notes: Path, records: Mapping[str, Mapping[str, Any]]
) -> tuple[str, Sequence[float]] | None:
    """The score that the notes belong to, and its cosine for each picture.

    Notes of several evaluations may lie side by side: those are meant whose mean is on record.
    """
    folders = [p for p in notes.glob("samples-*/*") if p.name.startswith(("clip", "own"))]
    for folder in sorted(folders, key=lambda path: (-path.stat().st_mtime_ns, path.name)):
        try:
            image, text = (_rows(folder, name) for name in ("image", "text"))
        except (ValueError, OSError):  # other notes, or unfinished ones
            continue
        cosines = F.cosine_similarity(image.double(), text.double())
        for name in _SCORES:
            if name in records and abs(float(cosines.mean()) - records[name]["value"]) < 1e-5:
                return name, cosines.tolist()
    return None


def _rows(folder: Path, name: str) -> Tensor:
    count = len(list(folder.glob("[0-9]*.safetensors")))
    return rows_of(NotesInFiles(folder, count=count, block=1), name)  # block after block


def _training(directory: Path) -> ImageShards | None:
    """The shards that a recipe's directory holds, or that a run was made from."""
    try:
        place: Path | None = directory / "shards"
        if not (directory / "shards").is_dir():
            place = _shards_of(directory)
        return None if place is None else ImageShards(place)
    except (ValueError, OSError):
        return None


def _shards_of(directory: Path) -> Path | None:
    """Where the shards lie that an artefact was made from, by way of its latents."""
    manifest = known_manifest(directory)
    if manifest is None:
        return None
    if "shards" in manifest.inputs:
        return input_folder(manifest.inputs, "shards", directory)
    if "latents" in manifest.inputs:
        return _shards_of(input_folder(manifest.inputs, "latents", directory))
    return None


def _of_shards(shards: ImageShards, i: int) -> Image.Image | None:
    try:
        return Image.fromarray(visible(shards[i].image)).convert("RGB")
    except (ValueError, OSError, IndexError):
        return None
