"""Measures the road of the data on this machine: `make bench-data`. Nothing is asserted.

Each row is a ratio of two ways to do the same work, timed in turn in one run, on one pinned core
(but for `ldm prepare` with two processes). Rates per second are for orientation only.
"""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hydra.utils import instantiate
from machine import machine
from paired import one_core, paired
from PIL import Image

from ldm.data.batches import ImageBatches, LatentBatches
from ldm.data.images import to_tensor
from ldm.data.latents.cache import LatentCache
from ldm.data.latents.crop import Variants
from ldm.data.latents.files import Contents, finish, lay_out
from ldm.data.latents.plan import Plan, Shaping, plan
from ldm.data.latents.writer import Encoders, fill
from ldm.data.order import InBuckets, Shuffled, Slot
from ldm.data.preparing.picture_rules import PictureRules
from ldm.data.preparing.prepare import Preparing, prepare
from ldm.data.shards.reader import ImageShards
from ldm.data.sources.folder import FolderSource
from ldm.manifest import write_manifest
from ldm.text.tokenizer import ClipTokenizer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LATENTS, BATCH = 20_000, 256
LATENT = (4, 32, 32)  # 8 KB in fp16: a draw of Stable Diffusion 1's latents at 256 px
TOKENS, TEXT_WIDTH = 77, 768  # of Stable Diffusion 1's text tower
PHOTOGRAPHS, SIDE, SIZE_PX = 96, 1024, 256
COPIES = 20  # of the photographs, for what needs some seconds to be measured
MANY_READS = 1_000_000
ENCODED_PX, ENCODED_BLOCK = 64, 8
# Photographs and copies of them, so that each takes seconds on a core.
ENCODED = {"kl_f8": (16, 1), "kl_folder": (PHOTOGRAPHS, COPIES)}


def main() -> None:
    """Print the machine, then one line per row."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        photographs = write_photographs(Path(folder) / "photographs")
        for row in (latents, images, encoding):
            with one_core():
                for line in row(Path(folder), photographs):
                    print(line, flush=True)
        for line in preparing(Path(folder), photographs):
            print(line, flush=True)


def latents(folder: Path, _: Path) -> Iterator[str]:
    """The cache reader against a webdataset tar and against one file per sample; its memory."""
    codes = np.random.default_rng(0).standard_normal((LATENTS, *LATENT), np.float32)
    codes = codes.astype(np.float16)
    cache = _cache(folder / "latents", codes)
    batches = LatentBatches(cache, order=InBuckets(0, cache.counts, BATCH), seed=0)
    step = 0

    def ours(reads: int = LATENTS) -> None:
        nonlocal step
        for _ in range(reads // BATCH):
            index = torch.arange(step * BATCH, (step + 1) * BATCH)
            batches[Slot(step, index)]
            step += 1

    tar = folder / "latents.tar"
    _write_tar(tar, codes)
    yield f"cache reader / webdataset tar: {paired(ours, lambda: _read_tar(tar), LATENTS)}"
    files = _write_files(folder / "files", codes)
    read_files = _files_reader(files)
    yield f"cache reader / one .npy per sample: {paired(ours, read_files, LATENTS)}"
    ours(MANY_READS // 10)
    before = _anonymous_bytes()
    ours(MANY_READS)
    grown = (_anonymous_bytes() - before) / 2**20
    yield f"memory of the reader over {MANY_READS:,} reads: {grown:+.1f} MiB"


def images(folder: Path, photographs: Path) -> Iterator[str]:
    """Decoding, resizing and batching of JPEG photographs against a bare loop of Pillow."""
    as_they_are = {"size_px": None, "square": False, "encoding": "keep"}
    shards = ImageShards(_prepared(photographs, folder / "kept", **as_they_are))
    data = [file.read_bytes() for file in sorted(photographs.iterdir())[: len(shards)]]
    batches = ImageBatches(
        shards, order=Shuffled(0, len(shards)), size_px=SIZE_PX, flip=False, seed=0
    )

    def ours() -> None:
        for step in range(len(shards) // 32):
            batches[Slot(step, torch.arange(step * 32, (step + 1) * 32))]

    def pillow() -> None:
        for start in range(0, len(data), 32):
            arrays = [
                np.asarray(
                    Image.open(io.BytesIO(one))
                    .convert("RGB")
                    .resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)
                )
                for one in data[start : start + 32]
            ]
            pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
            pixels.float().div_(127.5).sub_(1.0).contiguous()

    yield (
        f"JPEG {SIDE} px to batches of {SIZE_PX} px / Pillow: {paired(ours, pillow, len(shards))}"
    )


def encoding(folder: Path, photographs: Path) -> Iterator[str]:
    """`ldm cache` against the bare forward of its encoder, and what a sample takes on the disk."""
    for name, (count, copies) in ENCODED.items():
        encoder = _autoencoder(name)
        some = _linked(photographs, folder / f"for_{name}", count, copies)
        shards = ImageShards(_prepared(some, folder / name, size_px=ENCODED_PX))
        pixels = to_tensor(np.stack([shards[i].image for i in range(len(shards))]))

        def bare(encoder: Any = encoder, pixels: torch.Tensor = pixels) -> None:
            with torch.no_grad():
                for block in pixels.split(ENCODED_BLOCK):
                    encoder.encode(block)

        def ours(encoder: Any = encoder, shards: ImageShards = shards) -> None:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            _encode(shards, folder / "cache", encoder, ENCODED_PX)

        speed = paired(ours, bare, len(shards))
        yield f"ldm cache / bare encoder, {name} at {ENCODED_PX} px: {speed}"
    large = ImageShards(_prepared(photographs, folder / "large", size_px=SIZE_PX))
    narrow = _autoencoder("kl_f8", channels=[8, 8, 8, 8], groups=4, layers_per_level=1)
    _encode(large, folder / "latents_256", narrow, SIZE_PX)
    files = (folder / "latents_256" / f"{SIZE_PX}x{SIZE_PX}").iterdir()
    size = sum(file.stat().st_size for file in files) / len(large)
    stored = 2 * (np.prod(LATENT) + TOKENS * TEXT_WIDTH)
    yield f"bytes per sample at {SIZE_PX} px: {size:,.0f}, 1/{stored / size:.2f} of {stored:,}"


def preparing(folder: Path, photographs: Path) -> Iterator[str]:
    """`ldm prepare` with two processes against one."""
    many = _linked(photographs, folder / "many", PHOTOGRAPHS, COPIES)

    def run(processes: int) -> None:
        shutil.rmtree(folder / "prepared", ignore_errors=True)
        _prepared(many, folder / "prepared", size_px=SIZE_PX, processes=processes)

    count = COPIES * PHOTOGRAPHS
    yield (
        f"ldm prepare, 2 processes / 1: {paired(lambda: run(2), lambda: run(1), count, blocks=7)}"
    )


def write_photographs(folder: Path) -> Path:
    """JPEG files of photographs: pieces of scikit-image's, enlarged to SIDE px."""
    from skimage import data

    folder.mkdir()
    whole = [data.astronaut(), data.coffee(), data.chelsea(), data.retina()]
    rng = np.random.default_rng(0)
    for i in range(PHOTOGRAPHS):
        picture = Image.fromarray(whole[i % len(whole)])
        side = int(rng.integers(200, min(picture.size) + 1))
        left, top = (int(rng.integers(0, edge - side + 1)) for edge in picture.size)
        piece = picture.crop((left, top, left + side, top + side))
        piece.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(folder / f"{i:04d}.jpg")
    return folder


def _linked(photographs: Path, folder: Path, count: int, copies: int) -> Path:
    """A folder of the first photographs, each under several names."""
    folder.mkdir()
    for file in sorted(photographs.iterdir())[:count]:
        for copy in range(copies):
            os.link(file, folder / f"{copy:03d}_{file.name}")
    return folder


def _prepared(photographs: Path, out: Path, *, processes: int = 1, **changes: Any) -> Path:
    """Shards of a folder, by `ldm prepare`'s own settings but for ``changes``."""
    settings = yaml.safe_load((CONFIGS / "preparing" / "pictures.yaml").read_text())
    settings |= {"duplicates": None} | changes
    rules, rest = (
        {name: settings[name] for name in of.__init__.__annotations__ if name in settings}
        for of in (PictureRules, Preparing)
    )
    source = FolderSource(path=str(photographs), captions="none")
    for _ in prepare(source, PictureRules(**rules), Preparing(**rest), out, processes=processes):
        pass
    return out


def _autoencoder(name: str, **changes: Any) -> Any:
    settings = yaml.safe_load((CONFIGS / "autoencoder" / f"{name}.yaml").read_text())
    return instantiate(settings | changes, _convert_="all").eval()


def _encode(shards: ImageShards, out: Path, encoder: Any, size_px: int) -> None:
    """A latent cache of the shards, as `ldm cache` makes it of loaded networks."""
    tokenize = ClipTokenizer(TOKENS)
    made = _plan(shards, size_px)
    contents = Contents(
        codes_per_latent=2, latent_channels=encoder.latent_channels, stride=encoder.stride,
        variants=Variants(flip=False, crops=1, seed=0), with_sizes=False, ids=(TOKENS,),
        tokens=None, vector=None, block=ENCODED_BLOCK,
    )  # fmt: skip

    def encode(pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
        with torch.no_grad():
            code = encoder.encode(to_tensor(pixels.numpy()))
        return lambda: code

    encoders = Encoders(
        encode=encode,
        moments=lambda code: (code[:, : encoder.latent_channels],) * 2,
        tokenize=tokenize,
        is_truncated=lambda caption: False,
        features=None,
    )
    identity: dict[str, Any] = {"settings": {"size_px": size_px, "store": "ids"}, "inputs": {}}
    lay_out(out, shards, made, contents, **identity)
    shapes = [bucket.size_px for bucket in made.buckets]
    for _ in fill(shards, out, shapes, contents, encoders):
        pass
    finish(out, shards, made, contents, **identity, facts={})


def _plan(shards: ImageShards, size_px: int) -> Plan:
    squares = Shaping(
        size_px=size_px, buckets=False, step_px=64, max_aspect_ratio=1.0, min_bucket=1,
        max_crop=1.0, enlarge=False,
    )  # fmt: skip
    return plan(shards, squares)


def _cache(root: Path, codes: np.ndarray) -> LatentCache:
    """A finished latent cache of these codes."""
    bucket = root / "256x256"
    bucket.mkdir(parents=True)
    count = len(codes)
    np.save(bucket / "codes.npy", codes[:, None])
    np.save(bucket / "sizes.npy", np.zeros((count, 1, 0), np.int32))
    np.save(bucket / "ids.npy", np.zeros((count, 77), np.uint16))
    np.save(bucket / "first_caption.npy", np.arange(count + 1))
    np.save(bucket / "samples.npy", np.arange(count))
    facts = {"buckets": [{"height_px": 256, "width_px": 256, "samples": count}]}
    write_manifest(root, kind="latents", settings={"store": "ids", "size_px": 256}, facts=facts)
    return LatentCache(root)


def _write_tar(path: Path, codes: np.ndarray) -> None:
    from webdataset.writer import TarWriter

    with TarWriter(str(path), encoder=False) as writer:
        for i, code in enumerate(codes):
            writer.write({"__key__": f"{i:08d}", "bin": code.tobytes()})


def _read_tar(path: Path) -> None:
    """Every sample once, in batches of tensors, by webdataset's own reader and shuffle."""
    import webdataset

    samples = webdataset.WebDataset(str(path), shardshuffle=False).shuffle(1000)
    arrays = (np.frombuffer(s["bin"], np.float16).reshape(LATENT) for s in samples)
    _batch_up(arrays)


def _write_files(folder: Path, codes: np.ndarray) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{i:08d}.npy" for i in range(len(codes))]
    for file, code in zip(files, codes, strict=True):
        np.save(file, code)
    return files


def _files_reader(files: list[Path]) -> Callable[[], None]:
    order = np.random.default_rng(0).permutation(len(files))
    return lambda: _batch_up(np.load(files[i]) for i in order)


def _batch_up(arrays: Iterator[np.ndarray]) -> None:
    batch = []
    for array in arrays:
        batch.append(array)
        if len(batch) == BATCH:
            torch.from_numpy(np.stack(batch)).float()
            batch = []


def _anonymous_bytes() -> int:
    """Memory of this process that is no file's: the page cache under a memory map is left out."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say how much anonymous memory a process has")


if __name__ == "__main__":
    main()
