"""Drawn shapes, networks that learn in milliseconds, and what the real commands make of them."""

import contextlib
import os
from pathlib import Path

TINY = {
    "text_encoder": [
        "size=32", "global_batch=8", "text_encoder.embed_dim=16",
        "text_encoder.vision={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}",
        "text_encoder.text={context_length: 20, vocab_size: 49408, width: 16, heads: 2, layers: 1}",
    ],
    "autoencoder": [
        "size=32", "global_batch=4", "perceptual=none", "loss.perceptual=0.0",
        "autoencoder.channels=[8,8,16]", "autoencoder.attention=[false,false,false]",
        "autoencoder.groups=4", "discriminator.width=8", "discriminator.num_layers=2",
    ],
    "diffusion": [
        "size=32", "global_batch=8", "backbone.channels=[16,32]",
        "backbone.attention=[false,true]", "backbone.heads=[2,2]",
        "backbone.transformer_depth=[1,1]", "backbone.layers_per_level=1", "backbone.groups=4",
        "backbone.context_dim=16", "preview.num=4", "preview.steps=2",
    ],
}  # fmt: skip
DEMO = {"text_encoder": [], "autoencoder": ["perceptual=none", "loss.perceptual=0.0"]}


class World:
    """A folder with shards and latents, whose encoders have learned for one step."""

    def __init__(self, root: Path, settings: dict[str, list[str]], *, held_out: int = 16) -> None:
        self.root, self.settings = root, settings
        shards = root / "shards"
        _run("prepare", "data=shapes", "data.num_train=64", f"data.num_held_out={held_out}",
             "data.size_px=32", f"out={shards}")  # fmt: skip
        for stage in ("text_encoder", "autoencoder"):
            _run(*self.train(stage, root / stage, "max_steps=1"))
        _run("cache", f"autoencoder_run={root / 'autoencoder'}", f"data.root={shards}",
             f"text_run={root / 'text_encoder'}", f"out={root / 'latents'}")  # fmt: skip

    def train(self, stage: str, run: Path, *more: str) -> list[str]:
        """The words that train a stage on this world into a directory."""
        data = self.root / ("latents" if stage == "diffusion" else "shards")
        words = ["train", f"experiment=demo_{stage}", *self.settings.get(stage, [])]
        return [*words, f"data.root={data}", f"run={run}", *more]


def _run(*words: str) -> None:
    from ldm.apps.main import main

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = main(list(words))
    if code != 0:
        raise RuntimeError(f"`ldm {' '.join(words)}` ended with {code}")
