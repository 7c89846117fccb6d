"""`ldm cache`: shards -> latents and token ids, once."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import device_of
from ldm.apps.conditioning import conditioning
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input, relative_to
from ldm.apps.progress import watch
from ldm.apps.stages.assembly import open_shards, shards_input
from ldm.data.batches import crop
from ldm.data.cache import finished, write_cache
from ldm.data.sizes import picture_sizes
from ldm.data.source import Sample
from ldm.interop.diffusers import read_autoencoder
from ldm.manifest import read_json


def cache(config: DictConfig) -> int:
    """Encode the training and the held-out shards; finished parts are left as they are."""
    shards, held_out = open_shards(config.data.root)
    folder = model_folder(config.autoencoder_run, "vae")
    device = device_of(config.accelerator)
    autoencoder = read_autoencoder(folder / "vae").requires_grad_(False).eval().to(device)
    size_px = config.size or read_json(folder / "vae" / "config.json").get("sample_size")
    if size_px is None:
        raise UserError(
            f"{folder / 'vae'} does not say at which size it was trained; give size=PIXELS."
        )
    condition = conditioning(config, shards, held_out)
    regularizer = autoencoder.regularizer

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return autoencoder.encode(images.to(device)).cpu()

    def moments(code: Tensor) -> tuple[Tensor, Tensor]:
        mean = regularizer.mode(code)
        # What one unit of posterior noise adds, squared: zero for codes without a spread.
        return mean, (regularizer.draw(code, torch.ones_like(mean)) - mean).square()

    def sizes(sample: Sample) -> tuple[int, ...]:
        return picture_sizes(sample, size_px) if condition.takes_sizes else ()

    splits = [(shards, Path(config.out))]
    if held_out is not shards:
        splits.append((held_out, Path(config.out) / "held_out"))
    for part, directory in splits:
        inputs = {
            "shards": shards_input(part.root),
            "autoencoder": part_input(config.autoencoder_run, "vae"),
            **condition.inputs,
        }
        settings = {
            "size_px": size_px,
            "block": config.block,
            "flip": False,
            "condition": config.condition,
        }
        if finished(directory, settings=settings, inputs=inputs) is not None:
            print(f"{directory} is cached already")
            continue
        steps = write_cache(
            part,
            directory,
            encode=encode,
            moments=moments,
            tokenize=condition.tokenize,
            load=lambda image: crop(image, size_px),
            sizes=sizes,
            block=config.block,
            settings=settings,
            inputs={k: relative_to(v, directory) for k, v in inputs.items()},
            facts=condition.facts,
        )
        watch(steps, f"cache ({directory})", len(part))
    more = "" if held_out is shards else f", {len(held_out)} held out"
    print(f"{config.out}: {len(shards)} latents cached{more}")
    return 0
