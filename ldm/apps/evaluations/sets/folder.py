"""A folder of pictures as a set: PNG, or on request what has been compressed with loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import Block
from ldm.apps.evaluations.sets import in_words, rounded, stamp_of
from ldm.apps.sample_folder import RECORD, files_of, read_picture, read_record, read_sample
from ldm.data.images import upright_size
from ldm.data.sources.folder import SUFFIXES, visible_files
from ldm.data.sources.folder_captions import FolderCaptions
from ldm.manifest import fingerprint

_EXACT = ("PNG", "BMP", "TIFF", "WEBP without loss")  # hold the very pixels


@dataclass(frozen=True)
class FolderPictures:
    """The files ``names`` of a folder, all of one size."""

    root: Path
    names: Sequence[str]
    captions: Sequence[str]
    size_px: tuple[int, int]
    stamp: str  # of the files
    protocol: dict[str, Any]
    read: Callable[[Path], Tensor]

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> dict[str, Any]:
        return {"files": self.stamp, "captions": fingerprint(list(self.captions))}

    def images(self, rows: range) -> Tensor:
        found = [self.read(self.root / self.names[i]) for i in rows]
        for i, image in zip(rows, found, strict=True):
            if image.shape != found[0].shape:
                raise UserError(
                    f"{self.root / self.names[i]} has {image.shape[0]} channels, and pictures "
                    f"before it {found[0].shape[0]}."
                )
        return torch.stack(found)

    def block(self, rows: range) -> Block:
        return rounded(self.images(rows), self.captions[rows.start : rows.stop])

    def is_kept(self, rows: range) -> bool:
        return True

    def changed(self, rows: range) -> float:
        return 0.0


def read_folder(
    folder: str, *, count: int | None = None, captions: Sequence[str] | None, lossy: bool | None
) -> FolderPictures:
    """The first ``count`` pictures of a folder by their paths, or all.

    A folder of ours is what its samples.json says. ``captions`` are given or looked for beside the
    pictures. ``lossy`` says whether compressed pictures are allowed, None that they are recorded.
    UserError naming the first file that does not fit.
    """
    root = Path(folder)
    record = read_record(root)
    names = _names(root) if record is None else [row["file"] for row in record["pictures"]]
    if count is not None and count > len(names):
        raise UserError(
            f"{folder} holds {len(names)} pictures, and num_samples={count}; leave num_samples out "
            "for all of them."
        )
    names = names[:count]
    formats: set[str] = set()
    size_px = (0, 0)
    for name in names:
        file_format, size = _header(root / name)
        if file_format not in _EXACT and lossy is False:
            raise UserError(
                f"{root / name} is {file_format}, whose compression changes scores; save samples "
                "as PNG, or judge them as they are with allow_jpeg=true, which is recorded."
            )
        if formats and size != size_px:
            raise UserError(
                f"{root / name} is {in_words(size)} (height x width), and {root / names[0]} is "
                f"{in_words(size_px)}: pictures of one set have one size. Make them so with `ldm "
                f"prepare data=folder data.path={folder} data.size_px=... out=SHARDS`."
            )
        formats.add(file_format)
        size_px = size
    if captions is None:
        captions = _captions(root, names, record)
    compressed = sorted(formats.difference(_EXACT))
    made = {} if record is None else _generation(record)
    paths = [root / name for name in names]
    files = paths if record is None else [file for path in paths for file in files_of(path)]
    return FolderPictures(
        root,
        names,
        list(captions)[: len(names)],
        size_px,
        stamp_of(root, files),
        made | ({"compressed": compressed} if compressed else {}),
        read_picture if record is None else read_sample,
    )


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        raise UserError(f"{root} does not exist; give a folder of pictures, or image shards.")
    files = [path.relative_to(root) for path in visible_files(root)]
    names = sorted(p.as_posix() for p in files if p.suffix.lower() in SUFFIXES)
    if not names:
        raise UserError(f"{root} holds no pictures ({', '.join(SUFFIXES)}), nor image shards.")
    return names


def _header(file: Path) -> tuple[str, tuple[int, int]]:
    """Format with what compresses, height and width upright, by the file's beginning."""
    if not file.is_file():
        raise UserError(
            f"{file} is missing, which {RECORD} beside it names: the command that made this folder "
            "was interrupted; give it again."
        )
    try:
        with open(file, "rb") as opened, Image.open(opened) as image:
            found = str(image.format)
            if found == "TIFF" and image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
                found = f"TIFF ({image.info['compression']})"
            elif found == "WEBP":
                opened.seek(0)
                found = "WEBP without loss" if b"VP8L" in opened.read(16) else found
            return found, upright_size(image)
    except Exception as error:  # parsers of hostile bytes raise anything
        raise UserError(f"{file} is damaged, or no picture; delete or replace it.") from error


def _captions(root: Path, names: list[str], record: Any) -> list[str]:
    """Of samples.json, or of files beside the pictures; [] where there are none."""
    if record is not None:
        return [row["prompt"] for row in record["pictures"]]
    files = {path.relative_to(root).as_posix() for path in visible_files(root)}
    try:
        found = FolderCaptions(root, files, names, "auto")
        if found.source in ("sidecar", "metadata"):
            return [" ".join(found.of(name)[0].split()) for name in names]
    except ValueError as error:
        raise UserError(
            f"the captions in {root}: {error}; give one for each picture, or prompts=FILE."
        ) from error
    return []


def _generation(record: dict[str, Any]) -> dict[str, Any]:
    """How the pictures of a folder of ours were made, as a record of them says it."""
    first = record["pictures"][0]["seed"] if record["pictures"] else None
    return {k: v for k, v in record["protocol"].items() if k != "versions"} | {"seed": first}
