"""The operations of a run that is about to begin, for the speed in its log."""

import time

import torch
from omegaconf import DictConfig

from ldm.apps.build import device_of
from ldm.apps.planning.companions import Companions, latents_of, shapes_of
from ldm.apps.planning.flops import training_flops
from ldm.apps.planning.gpus import gpu_called, peak_of
from ldm.apps.planning.parts import parts_of
from ldm.apps.run_directory import is_first_process

TOLD_SECONDS = 2.0  # a longer count is said


def flops_per_image(config: DictConfig) -> float | None:
    """FLOP of the trained network per picture, forwards and backwards, counted by its shapes.

    Data of several shapes count by their mean. Companions that are not trained are left out. None,
    which is said, where the network does what tensors without numbers cannot.
    """
    begun = time.perf_counter()
    with_ = Companions()
    cache = latents_of(config) if config.stage == "diffusion" else None
    if cache is not None:
        ids = cache.arrays[0]["ids"]
        with_ = Companions(tokens=ids.shape[-1], latents=shapes_of(cache))
    try:
        found = training_flops(parts_of(config, with_))
    except Exception as error:  # of whatever network: it may train well all the same
        if is_first_process():
            print(f"its operations cannot be counted ({type(error).__name__}: {error}); no MFU")
        return None
    seconds = time.perf_counter() - begun
    if seconds > TOLD_SECONDS and is_first_process():
        print(f"counted {found / 1e9:,.4g} GFLOP per image in {seconds:.1f} s, for the log's MFU")
    return found


def peak_flops(config: DictConfig) -> float | None:
    """FLOP per second that this run's device has at its precision; None where unknown."""
    if device_of(config.accelerator).type != "cuda":
        return None
    gpu = gpu_called(torch.cuda.get_device_name())
    return None if gpu is None else peak_of(gpu, config.precision)
