"""What is kept of a training step that was not finite, so that it can be repeated."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder
from ldm.apps.paths import from_root
from ldm.apps.shares import shares_of
from ldm.apps.stages.assembly import Assembly
from ldm.callbacks import checkpoint_file
from ldm.data.order import Slot
from ldm.data.shards.reader import ImageShards
from ldm.manifest import fingerprint, write_json

MOST = 3  # dumps of a run; each keeps a checkpoint, which retention would have removed


class Dumps:
    """Writes RUN/dumps/step_000001234.json, and beside it a folder with the checkpoint before.

    A step is a function of its number (law 1), so what it saw is computed again, for every rank:
    the samples with their captions and, in stage diffusion, timesteps.
    """

    def __init__(self, config: DictConfig, assembly: Assembly) -> None:
        self.config, self.assembly = config, assembly
        self.directory = Path(config.run) / "dumps"

    def __call__(self, step: int, ends: bool) -> Path | None:
        """The file for a step; None where there are enough already, unless the run ends there."""
        path = self.directory / f"step_{step:09d}.json"
        if not ends and len(set(self.directory.glob("step_*.json")) - {path}) >= MOST:
            return None
        found = checkpoint_file.found(Path(self.config.run) / "checkpoints")
        before = [file for file in found if checkpoint_file.step_of(file) <= step]
        write_json(
            path,
            {
                "step": step,
                "seed": self.config.seed,
                "config_fingerprint": config_fingerprint(self.config),
                "checkpoint_step": checkpoint_file.step_of(before[-1]) if before else None,
                "world_size": self.config.devices * self.config.num_nodes,
                "samples": list(self._samples(step)),
            },
        )
        if before:
            _keep(before[-1], kept_checkpoint(path) / before[-1].name)
        return path

    def _samples(self, step: int) -> Iterator[dict[str, Any]]:
        batches = self.assembly.batches
        for rank in range(self.config.devices * self.config.num_nodes):
            share = shares_of(self.config, batches.sizes_px, rank)[batches.buckets.bucket_of(step)]
            for micro_step in range(share.accumulate):
                index = share.indices(step, micro_step)
                drawn = _drawn(self.assembly.timesteps, step, index)
                seen = batches.describe(Slot(step, index))
                for i, sample, more in zip(index.tolist(), seen, drawn, strict=True):
                    yield {"rank": rank, "index": i, **sample, **more, **self._named(sample)}

    def _named(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Key and first caption of a latent, while its shards are still there."""
        if "position" not in sample or self._shards is None:
            return {}
        i = sample["position"]
        return {"key": self._shards.key(i), "caption": self._shards.caption(i)}

    @cached_property
    def _shards(self) -> ImageShards | None:
        cache = self.assembly.batches.cache  # type: ignore[attr-defined]
        try:
            return ImageShards(input_folder(cache.manifest.inputs, "shards", cache.root))
        except (UserError, ValueError):
            return None


def config_fingerprint(config: DictConfig) -> str:
    """16 hex digits of a run's whole configuration, wherever it was begun from."""
    return fingerprint(OmegaConf.to_container(from_root(config), resolve=True))


def kept_checkpoint(dump: Path) -> Path:
    """The folder that holds the checkpoint of a dump."""
    return dump.with_suffix("")


def _drawn(
    timesteps: Callable[[int, Tensor], Tensor] | None, step: int, index: Tensor
) -> Sequence[dict[str, Any]]:
    if timesteps is None:
        return [{}] * len(index)
    return [{"timestep": t} for t in timesteps(step, index).tolist()]


def _keep(checkpoint: Path, name: Path) -> None:
    """Another name for a file, so that it stays when its first name goes; a copy if need be."""
    name.parent.mkdir(parents=True, exist_ok=True)
    name.unlink(missing_ok=True)
    try:
        os.link(checkpoint, name)
    except OSError:  # file systems without links
        shutil.copyfile(checkpoint, name)
