"""What tests share: a whole tiny road, made once per session by the real commands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from tests.parity import (  # noqa: F401  hooks and a fixture
    agree,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
)

# The same examples on every machine, however busy it is.
settings.register_profile("ldm", deadline=None, derandomize=True)
settings.load_profile("ldm")

SETTINGS = {
    "text_encoder": [
        "experiment=demo_text_encoder", "size=32", "max_steps=4", "global_batch=8", "lr=1e-3",
        "warmup_steps=1", "max_gradient_norm=1.0", "ema_decay=0.9", "checkpoint_every=2",
        "validate_every=4", "log_every=1", "text_encoder.embed_dim=16",
        "text_encoder.vision={image_size: 32, layers: [1, 1, 1, 1], width: 4, head_width: 32}",
        "text_encoder.text={context_length: 20, vocab_size: 49408, width: 16, heads: 2, layers: 1}",
    ],
    "autoencoder": [
        "experiment=demo_autoencoder", "size=32", "max_steps=4", "global_batch=4", "lr=1e-3",
        "disc_lr=1e-3", "warmup_steps=1", "max_gradient_norm=1000.0", "ema_decay=0.9",
        "checkpoint_every=2", "validate_every=4", "log_every=1", "perceptual=none",
        "learn_logvar=true", "loss.perceptual=0.0", "loss.gan=0.5", "loss.disc_start=1",
        "loss.gan_start=2", "loss.gan_ramp_steps=4",
        "autoencoder.channels=[8,8,16]", "autoencoder.attention=[false,false,false]",
        "autoencoder.groups=4", "discriminator.width=8", "discriminator.num_layers=2",
    ],
    "diffusion": [
        "experiment=demo_diffusion", "size=32", "max_steps=4", "global_batch=8", "lr=1e-3",
        "warmup_steps=1", "max_gradient_norm=1.0", "ema_decay=0.9", "checkpoint_every=2",
        "validate_every=4", "log_every=1", "backbone.channels=[16,32]",
        "backbone.attention=[false,true]", "backbone.heads=[2,2]",
        "backbone.transformer_depth=[1,1]", "backbone.layers_per_level=1", "backbone.groups=4",
        "backbone.context_dim=16", "preview.num=4", "preview.steps=2",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A recipe's directory with every stage trained for a few steps; not to be changed.

    ``settings`` holds, for each stage, the words of its command but data.root= and run=.
    """

    root: Path
    settings: dict[str, list[str]]

    def __getattr__(self, name: str) -> Path:
        if name in ("shards", "text_encoder", "autoencoder", "latents", "diffusion"):
            return self.root / name
        raise AttributeError(name)

    def train(self, stage: str, run: Path, *more: str) -> list[str]:
        """The words that train a stage on this world into another directory."""
        data = self.latents if stage == "diffusion" else self.shards
        return ["train", *self.settings[stage], f"data.root={data}", f"run={run}", *more]


@pytest.fixture(scope="session")
def ldm() -> Callable[..., int]:
    """Runs a command in this process and gives its exit code."""
    from ldm.apps.main import main

    return lambda *words: main([str(word) for word in words])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, ldm: Callable[..., int]) -> World:
    """64 drawn shapes of 32 px and what the commands make of them, in a recipe's layout."""
    torch.set_num_threads(1)
    made = World(tmp_path_factory.mktemp("world"), SETTINGS)
    commands = [
        ["prepare", "data=shapes", "data.num_train=64", "data.num_held_out=16", "data.size_px=32",
         f"out={made.shards}"],
        made.train("text_encoder", made.text_encoder),
        made.train("autoencoder", made.autoencoder),
        ["cache", f"autoencoder_run={made.autoencoder}", f"text_run={made.text_encoder}",
         f"data.root={made.shards}", f"out={made.latents}", "block=16"],
        made.train("diffusion", made.diffusion),
    ]  # fmt: skip
    for command in commands:
        assert ldm(*command) == 0, command
    return made


@pytest.fixture
def make_trainer() -> Callable[..., Any]:
    """A bare Lightning trainer on one CPU process, as `ldm train` sets it up."""
    import pytorch_lightning as pl

    def make(*callbacks: Any, **more: Any) -> Any:
        return pl.Trainer(
            **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "logger": False} | more,
            callbacks=list(callbacks),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )

    return make


@pytest.fixture
def fit(make_trainer: Callable[..., Any]) -> Callable[..., list[dict[str, Any]]]:
    """Trains a task on batches, in order; what ``training_step`` returned for each."""
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader

    class Outputs(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[dict[str, Any]] = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            self.seen.append({name: value.clone() for name, value in outputs.items()})

    def train(task: Any, batches: Sequence[Any], *callbacks: Any) -> list[dict[str, Any]]:
        outputs = Outputs()
        loader = DataLoader(batches, batch_size=None, shuffle=False)  # type: ignore[arg-type]
        make_trainer(outputs, *callbacks).fit(task, loader)
        return outputs.seen

    return train
