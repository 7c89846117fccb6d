"""A folder of samples: pictures, grid.png, and samples.json that says how they came about."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ldm.apps.build import device_of
from ldm.apps.errors import UserError
from ldm.apps.locate import model_fingerprints, model_folder
from ldm.apps.png_record import PngRecord, write_png
from ldm.apps.request import Picture
from ldm.apps.run_directory import unused_name
from ldm.callbacks.sample_grid import save_grid
from ldm.data.images import decode, to_tensor, to_uint8, visible
from ldm.manifest import read_json, write_json
from ldm.metrics.protocol import versions

RECORD, GRID = "samples.json", "grid.png"
GRID_IMAGES = 64


def sampler_name(config: DictConfig) -> str:
    """The name of the sampler's function."""
    return str(config.sampler._target_).rpartition(".")[2]


def guidance_interval(config: DictConfig) -> tuple[float, float] | None:
    """Where there is guidance, (low, high) in sigma / alpha; None is everywhere."""
    if config.guidance_interval is None:
        return None
    low, high = config.guidance_interval
    return float(low), float(high)


def size_of(config: DictConfig) -> tuple[int, int] | None:
    """Height and width in pixels that size= asks for; None is the model's own square."""
    if config.get("size") is None:
        return None
    height, width = [config.size] * 2 if isinstance(config.size, int) else config.size
    return int(height), int(width)


def fingerprints(model: str) -> dict[str, str]:
    """``model_fingerprints``; weights of many GB are read once by a command if no file changes."""
    folder = model_folder(model, "unet").resolve()
    state = ((file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file())
    return _fingerprints(model, *((file, s.st_size, s.st_mtime_ns) for file, s in state))


@lru_cache(maxsize=1)
def _fingerprints(model: str, *state: tuple[Path, int, int]) -> dict[str, str]:
    return model_fingerprints(model)


def generation_protocol(config: DictConfig) -> dict[str, Any]:
    """All that decides the pixels but prompts and seeds: model, sampler, steps, guidance, ..."""
    sampler: Any = OmegaConf.to_container(config.sampler, resolve=True)
    del sampler["_target_"], sampler["_partial_"]
    interval, size = guidance_interval(config), size_of(config)
    return {
        **fingerprints(config.model),
        "weights": _weights(model_folder(config.model, "unet")),
        "sampler": sampler_name(config),
        "sampler_settings": sampler,
        "steps": config.steps,
        "spacing": config.spacing,
        "guidance": float(config.guidance),
        "guidance_rescale": float(config.guidance_rescale),
        "guidance_interval": None if interval is None else list(interval),
        "negative": config.negative,
        "sizes": None if config.sizes is None else list(config.sizes),
        "size": None if size is None else list(size),
        "negative_sizes": None if config.negative_sizes is None else list(config.negative_sizes),
        "block": config.block,
        "device": device_of(config.accelerator).type,
    }


def _weights(folder: Path) -> str:
    """Which weights a run's model folder holds: the average's, or the last step's."""
    for run in (folder.parent, folder.parent.parent):  # of model/, of models/step_000001000/
        file = run / "config.yaml"
        settings: Any = OmegaConf.load(file) if file.is_file() else {}
        if settings.get("stage") == "diffusion":
            return "raw" if settings.get("ema_decay") is None else "averaged"
    return "unknown"  # a folder of other origin


def record_of(
    config: DictConfig, pictures: Sequence[Picture], edit: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What samples.json holds: the protocol, and per picture its file, prompt, seed and position.

    ``edit`` says of pictures made from another which one that was.
    """
    more = {} if edit is None else {"edit": edit}
    return {
        "protocol": generation_protocol(config) | more | {"versions": versions()},
        "pictures": [{"file": f"{i:06d}.png", **p.row()} for i, p in enumerate(pictures)],
    }


def read_record(folder: Path) -> dict[str, Any] | None:
    """What the samples.json of a folder holds, None without one; UserError for one not ours."""
    file = folder / RECORD
    if not file.is_file():
        return None
    record = read_json(file)
    try:
        rows = record["pictures"]
        is_ours = isinstance(record["protocol"], dict) and all(
            isinstance(row[key], kind)
            for row in rows
            for key, kind in {"file": str, "prompt": str, "seed": int}.items()
        )
    except (KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise UserError(
            f"{file} is not what `ldm sample` or `ldm evaluate` writes there. Rename it where the "
            "pictures are to be taken as they are, or choose another folder."
        )
    return dict(record)


def paths_of(config: DictConfig) -> dict[str, str]:
    """Where the inputs of pictures lie, as it was typed."""
    keys = ("model", "image", "mask")
    return {key: config[key] for key in keys if config.get(key) is not None}


def is_finished(out: Path, record: dict[str, Any]) -> bool:
    """Whether the folder holds exactly these pictures; its grid is written last."""
    return (out / GRID).is_file() and (out / RECORD).is_file() and read_json(out / RECORD) == record


def open_samples(out: Path, record: dict[str, Any]) -> None:
    """Make the folder ready for these pictures.

    Samples of another request are moved aside into ``<out>.1``; UserError where files of the same
    names are there that no record speaks of, as they are not ours to replace.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (earlier := read_record(out)) is not None:
        if earlier == record:
            return
        _move_aside(out, earlier)
    foreign = [row["file"] for row in record["pictures"] if (out / row["file"]).exists()]
    if foreign:
        raise UserError(
            f"{out} holds {foreign[0]} already, and no {RECORD} that says how it was made; choose "
            "another directory, or move it away."
        )
    write_json(out / RECORD, record)


def write_samples(
    images: Tensor,
    pictures: Sequence[Picture],
    record: dict[str, Any],
    out: Path,
    *,
    paths: dict[str, str],
) -> None:
    """One PNG per image (N, C, H, W) into an opened folder, and at the end a grid of them."""
    for row, picture, image in zip(record["pictures"], pictures, images, strict=True):
        write_picture(out / row["file"], image, picture, record, paths=paths)
    write_grid(images, out)


def write_picture(
    file: Path, image: Tensor, picture: Picture, record: dict[str, Any], *, paths: dict[str, str]
) -> None:
    """One image (C, H, W) as a PNG, whole or not at all where the process is killed.

    It carries its part of the record, and ``paths``, so that it can be made again from itself.
    Channels that a PNG cannot hold are in an array (H, W, C) of the same name, in [-1, 1].
    """
    if len(image) not in (1, 3):
        np.save(_array(file), image.movedim(0, -1).numpy())
    own = PngRecord(picture, record["protocol"], paths)
    write_png(file, visible(to_uint8(image)), own)


def files_of(picture: Path) -> list[Path]:
    """Those in which a picture of a folder of samples is: also the array of one with channels."""
    return [file for file in (picture, _array(picture)) if file.is_file()]


def read_sample(file: Path) -> Tensor:
    """The image (C, H, W) of a picture that we wrote, by the array beside it where there is one.

    ValueError naming a file that is damaged.
    """
    array = _array(file)
    if not array.is_file():
        return read_picture(file)
    try:
        return to_tensor(np.load(array, allow_pickle=False))
    except ValueError as error:
        raise ValueError(f"{array}: {error}. Delete or replace it.") from error


def read_picture(file: Path) -> Tensor:
    """The image (3, H, W) of anybody's file; ValueError naming one that is damaged."""
    try:
        return to_tensor(decode(file.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{file}: {error}. Delete or replace it.") from error


def write_grid(images: Tensor, out: Path) -> None:
    """The grid of a folder's first images; it is there when all the others are."""
    save_grid(images[:GRID_IMAGES], out / GRID)


def _move_aside(out: Path, earlier: dict[str, Any]) -> None:
    aside = unused_name(out)
    aside.mkdir()
    pictures = [out / row["file"] for row in earlier["pictures"]]
    for file in (*pictures, *map(_array, pictures), out / GRID, out / RECORD):
        if file.exists():
            file.rename(aside / file.name)
    print(f"{out}: the earlier samples are now in {aside}")


def _array(picture: Path) -> Path:
    """Where all channels of a picture are whose PNG can hold only some."""
    return picture.with_suffix(".npy")
