"""What a reader of the documents has: pictures, runs, shards, under the names used there."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLORS = {"cat": (200, 40, 40), "dog": (40, 40, 200)}


def furnish(root: Path, world: Any, ldm: Callable[..., int]) -> dict[str, str]:
    """Prepare everything below ``root``; the names in the documents -> what stands for them."""
    pictures, classes = root / "pictures", root / "classes"
    _pictures(pictures, classes, root)
    _tables(root)
    demo = root / "demo"  # to which commands may add
    shutil.copytree(world.root, demo)
    plain, exported, metrics = root / "plain", root / "exported", root / "metrics.json"
    drawn = root / "samples"
    for words in (
        ["train", *world.settings["diffusion"], f"data.root={world.latents}", f"run={plain}",
         "max_steps=1", "backbone.pooling_heads=null"],
        ["export", f"model={world.root}", f"out={exported}"],
        ["evaluate", f"model={world.root}", f"data.root={world.shards}", "metrics=[fd_own]",
         "num_samples=20", "steps=1", "block=8", f"out={metrics}", "accelerator=cpu"],
        ["sample", f"model={world.root}", "prompt=a red circle", "num=4", "steps=1", "block=4",
         "accelerator=cpu", f"out={drawn}"],
    ):  # fmt: skip
        assert ldm(*words) == 0, words
    names: dict[Path, str] = {
        demo: "runs/demo runs/folder",
        world.shards: "shards SHARDS data",
        world.latents: "latents LATENTS",
        world.autoencoder: "runs/ae AE runs/kl_f8",
        world.text_encoder: "runs/text TEXT runs/clip_l runs/bigg",
        world.diffusion: "runs/unet runs/sd1_256",
        plain: "RUN runs/sd",
        exported: "FOLDER FOLDER_OR_FILE exported",
        metrics: "metrics.json theirs.json before.json after.json ours.json",
        pictures: "PICTURES REAL",
        classes: "CLASSES IMAGENET",
        root / "grey": "SCANS",
        root / "spectra": "SPECTRA",
        root / "tables": "DIR",
        root / "saved": "SAVED_TO_DISK",
        root / "photo.png": "photo.png",
        root / "mask.png": "mask.png",
        root / "on_transparent.png": "on_transparent.png",
        root / "prompts.txt": "FILE",
        drawn / "000003.png": "samples/000003.png",
        drawn / "000000.png": "samples/000000.png",
    }
    found = {name: str(path) for path, words in names.items() for name in words.split()}
    found["'shards/{00000..00099}.tar'"] = str(root / "shard.tar")
    return found


def _pictures(pictures: Path, classes: Path, root: Path) -> None:
    random = np.random.default_rng(0)
    for folder in (pictures, classes / "cat", classes / "dog", root / "grey", root / "spectra"):
        folder.mkdir(parents=True)
    for i in range(64):
        kind = ("cat", "dog")[i % 2]
        noise = random.integers(0, 56, (40, 48, 3), np.uint8) + np.uint8(COLORS[kind])
        Image.fromarray(noise).save(pictures / f"{i:02}.png")
        (pictures / f"{i:02}.txt").write_text(f"a {kind}")
        Image.fromarray(noise).save(classes / kind / f"{i:02}.png")
        Image.fromarray(noise[..., 0]).save(root / "grey" / f"{i:02}.png")
        np.save(root / "spectra" / f"{i:02}.npy", random.random((32, 32, 5), np.float32) * 2 - 1)
    photo = Image.open(pictures / "00.png")
    photo.save(root / "photo.png")
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 10:30] = 255
    Image.fromarray(mask).save(root / "mask.png")
    photo.putalpha(Image.fromarray(255 - mask))
    photo.save(root / "on_transparent.png")
    (root / "prompts.txt").write_text("a red circle\na blue square\n")


def _tables(root: Path) -> None:
    """The pictures, captioned, as a tar shard, as parquet and as a Hugging Face data set."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((root / "pictures").glob("*.png"))
    columns = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "text": [file.with_suffix(".txt").read_text() for file in files],
        "alt": [f"picture {file.stem}" for file in files],
        "license": ["cc0"] * len(files),
    }
    (root / "tables").mkdir()
    with tarfile.open(root / "shard.tar", "w") as shard:
        for file in sorted((root / "pictures").iterdir()):
            shard.add(file, arcname=file.name)
    pq.write_table(pa.table(columns), root / "tables" / "a.parquet")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    named = {"image": columns["image"], "caption": columns["text"]}
    datasets.Dataset.from_dict(named, features=features).save_to_disk(root / "saved")
