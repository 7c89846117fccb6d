"""`ldm cache`: shards -> latents and token ids, once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import device_of
from ldm.apps.conditioning import Inputs, read_text, text_inputs
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input, relative_to
from ldm.apps.progress import watch
from ldm.apps.stages.assembly import open_shards, shards_input
from ldm.data.batches import crop
from ldm.data.cache import finished, write_cache
from ldm.data.shards import ImageShards
from ldm.data.sizes import picture_sizes
from ldm.interop.diffusers import read_autoencoder
from ldm.manifest import read_json
from ldm.text.classes import ClassNames
from ldm.text.unconditional import Unconditional


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
    condition, tokenize, facts = _condition(config, shards)
    regularizer = autoencoder.regularizer

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return autoencoder.encode(images.to(device)).cpu()

    def moments(code: Tensor) -> tuple[Tensor, Tensor]:
        mean = regularizer.mode(code)
        # What one unit of posterior noise adds, squared: zero for codes without a spread.
        return mean, (regularizer.draw(code, torch.ones_like(mean)) - mean).square()

    splits = [(shards, Path(config.out))]
    if held_out is not shards:
        splits.append((held_out, Path(config.out) / "held_out"))
    for part, directory in splits:
        inputs = {
            "shards": shards_input(part.root),
            "autoencoder": part_input(config.autoencoder_run, "vae"),
            **condition,
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
            tokenize=tokenize,
            load=lambda image: crop(image, size_px),
            sizes=lambda sample: picture_sizes(sample, size_px),
            block=config.block,
            settings=settings,
            inputs={k: relative_to(v, directory) for k, v in inputs.items()},
            facts=facts,
        )
        watch(steps, f"cache ({directory})", len(part))
    more = "" if held_out is shards else f", {len(held_out)} held out"
    print(f"{config.out}: {len(shards)} latents cached{more}")
    return 0


def _condition(
    config: DictConfig, shards: ImageShards
) -> tuple[Inputs, Callable[[Sequence[str]], Tensor], dict[str, Any]]:
    """Of condition=text, classes or none: the inputs it needs, captions -> ids, and its facts."""
    runs = config.text_run or []
    runs = [runs] if isinstance(runs, str) else list(runs)
    if (config.condition == "text") != bool(runs):
        raise UserError(
            "condition=text needs text_run=RUN, the text encoder's run (or two, text_run=[A,B])."
            if not runs
            else f"text_run={config.text_run} is not used with condition={config.condition}; leave "
            "one of them out."
        )
    if config.condition == "text":
        inputs = text_inputs(runs)
        encoder = read_text(inputs, Path.cwd())
        truncated = sum(encoder.is_truncated(caption) for caption in set(shards.captions))
        if truncated:
            print(f"{truncated} captions have more tokens than the text encoder takes and are cut")
        return inputs, encoder.tokenize, {}
    if config.condition == "none":
        return {}, Unconditional().tokenize, {}
    names = ClassNames(sorted({*shards.captions} - {""}))
    if not names.names:
        raise UserError(
            f"condition=classes, but the pictures of {config.data.root} have no captions to name "
            "their classes; prepare them with data.captions=class, or use condition=none."
        )
    print(f"{len(names.names)} classes: {', '.join(names.names[:8])}, ..."[:100])
    return {}, names, {"classes": names.names}
