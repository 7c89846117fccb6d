"""The processes of `ldm cache`, one per device: who encodes what, and what becomes of a failure."""

import copy
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import device_of
from ldm.apps.conditioning import Conditioning
from ldm.apps.errors import UserError
from ldm.data.latents.files import CacheFiles, Contents
from ldm.data.latents.writer import Encoders, fill
from ldm.data.lock import Lock
from ldm.data.shards.reader import ImageShards
from ldm.interop.diffusers import read_autoencoder

_LOOK_SECONDS = 0.5  # between two looks at the other processes


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
        if device == "cuda" and config.devices > torch.cuda.device_count():
            raise UserError(
                f"devices={config.devices}, but torch finds {torch.cuda.device_count()} GPU(s); "
                "set devices to that, or accelerator=cpu."
            )
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        usual = min(8, cores // config.devices) if device == "cuda" else 0
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
    context = multiprocessing.get_context("forkserver")  # which imports once for all of them
    context.set_forkserver_preload([__name__])
    failures = context.SimpleQueue()
    processes = [
        context.Process(
            target=_encode_share,
            args=(failures, job, shards, directory, shapes, contents, rank, lock),
        )
        for rank in range(job.devices)
    ]
    files = CacheFiles(directory, shapes, contents)
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(_LOOK_SECONDS / len(processes))
            if any(process.exitcode for process in processes):
                break
            yield files.num_done()
        codes = [process.exitcode for process in processes]  # before the others are ended
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if not failures.empty():
        raise ValueError(failures.get())
    if broken := [code for code in codes if code]:
        raise UserError(_how_it_ended(broken[0]))
    yield files.num_done()


def _encode_share(
    failures: Any,
    job: Job,
    shards: ImageShards,
    directory: Path,
    shapes: list[tuple[int, int]],
    contents: Contents,
    rank: int,
    lock: Lock,
) -> None:
    """The whole life of one of several processes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted and ends this one
    if job.device == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // job.devices))
    device = torch.device(f"cuda:{rank}" if job.device == "cuda" else "cpu")
    try:
        share = fill(
            shards, directory, shapes, contents, _encoders(job, device),
            rank=rank, world_size=job.devices, workers=job.workers,
        )  # fmt: skip
        for _ in share:
            pass
    except ValueError as error:  # a sentence for the user, which the parent will print
        failures.put(str(error))
        raise SystemExit(1) from error


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "one of the processes was killed (signal 9), perhaps for want of memory: choose fewer "
            "workers= or devices=. The same command goes on from what is there."
        )
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}, after the error above"
    return f"one of the processes ended {how}. The same command goes on from what is there."


def _end_with_parent() -> None:
    """At any moment: a kill costs no more than the blocks that are not committed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


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
