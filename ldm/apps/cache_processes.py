"""The processes of `ldm cache`, one per device: who encodes what."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import device_of
from ldm.apps.conditioning import Conditioning
from ldm.apps.machine import usable_cores
from ldm.apps.processes import require_devices, together
from ldm.data.latents.files import CacheFiles, Contents
from ldm.data.latents.writer import Encoders, fill
from ldm.data.lock import Lock
from ldm.data.shards.reader import ImageShards
from ldm.interop.diffusers import read_autoencoder


class Job(NamedTuple):
    """What a process needs to know to encode its share; picklable."""

    vae: Path
    condition: Conditioning
    with_features: bool
    device: str  # cpu or cuda
    devices: int
    workers: int  # of each device

    @classmethod
    def of(cls, config: DictConfig, vae: Path, condition: Conditioning) -> "Job":
        """That of a configuration; UserError where the machine has not as many devices."""
        device = device_of(config.accelerator).type
        require_devices(device, config.devices)
        usual = min(8, usable_cores() // config.devices) if device == "cuda" else 0
        workers = usual if config.workers is None else config.workers
        with_features = config.store == "features"
        return cls(vae, condition, with_features, device, config.devices, workers)


def encoded(
    job: Job,
    shards: ImageShards,
    directory: Path,
    shapes: list[tuple[int, int]],
    contents: Contents,
    lock: Lock,
) -> Iterator[int]:
    """Fill a cache; yields how many samples are in it. The first error of any process is raised.

    Each process holds the ``lock`` of the command.
    """
    if job.devices == 1:
        encoders = _encoders(job, torch.device(job.device))
        yield from fill(shards, directory, shapes, contents, encoders, workers=job.workers)
        return
    files = CacheFiles(directory, shapes, contents)
    yield from together(
        _encode_share,
        (job, shards, directory, shapes, contents, lock),
        device=job.device,
        threads=max(1, torch.get_num_threads() // job.devices),
        count=job.devices,
        progress=files.num_done,
        preload=__name__,
        fewer="fewer workers= or devices=",
    )


def _encode_share(
    rank: int,
    job: Job,
    shards: ImageShards,
    directory: Path,
    shapes: list[tuple[int, int]],
    contents: Contents,
    lock: Lock,  # held by this process too, as long as it lives
) -> None:
    """What one of several processes does."""
    share = fill(
        shards, directory, shapes, contents, _encoders(job, torch.device(job.device)),
        rank=rank, world_size=job.devices, workers=job.workers,
    )  # fmt: skip
    for _ in share:
        pass


def _encoders(job: Job, device: torch.device) -> Encoders:
    autoencoder = read_autoencoder(job.vae).requires_grad_(False).eval()
    regularizer = copy.deepcopy(autoencoder.regularizer)  # for the statistics, on the CPU
    autoencoder.to(device)
    text: Any = job.condition.encoder()
    text.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def encode(pixels: Tensor) -> Callable[[], Tensor]:
        code = autoencoder.encode(_on_device(pixels, device)).float()
        if device.type != "cuda":
            return lambda: code
        on_cpu = torch.empty(code.shape, dtype=code.dtype, pin_memory=True)
        on_cpu.copy_(code, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()

        def wait() -> Tensor:
            arrived.synchronize()
            return on_cpu

        return wait

    def moments(code: Tensor) -> tuple[Tensor, Tensor]:
        mean = regularizer.mode(code)
        # What one unit of posterior noise adds, squared: zero for codes without a spread.
        return mean, (regularizer.draw(code, torch.ones_like(mean)) - mean).square()

    @torch.no_grad()
    def features(ids: Tensor) -> tuple[Tensor | None, Tensor | None]:
        found = text.features(ids.to(device)).map(Tensor.cpu)
        assert found.mask is None
        return found.tokens, found.vector

    return Encoders(
        encode=encode,
        moments=moments,
        tokenize=text.tokenize,
        is_truncated=text.is_truncated,
        features=features if job.with_features else None,
    )


def _on_device(pixels: Tensor, device: torch.device) -> Tensor:
    """What ``images.to_tensor`` gives of pixels (B, H, W, C), but small on their way there."""
    image = pixels.to(device, non_blocking=True).movedim(-1, 1)
    if not image.is_floating_point():
        image = image.float().div_(torch.iinfo(pixels.dtype).max / 2).sub_(1.0)
    return image.contiguous()
