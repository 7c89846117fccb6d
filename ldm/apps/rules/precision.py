"""Precision against the stage, and against the device."""

from collections.abc import Iterator

import torch

from ldm.apps.rules.case import Case

# Below 1/256 of a weight, a step of bf16 is lost.
_BF16_STEPS = 256


def weights_of_16_bits(case: Case) -> Iterator[str]:
    """Weights or moments of 16 bits where they are known to harm."""
    config = case.config
    if config.force_precision:
        return
    if config.precision == "16-true":
        yield (
            "precision=16-true keeps the optimizer's moments in fp16, where squares of small "
            "gradients are 0 and steps explode. Set precision=16-mixed, or force_precision=true to "
            "try it."
        )
    if config.precision == "bf16-true" and config.stage == "autoencoder":
        yield (
            f"precision={config.precision} keeps the weights themselves in 16 bits, where a step "
            f"below 1/{_BF16_STEPS} of a weight is lost; between autoencoder and discriminator "
            "that decides who wins. Set precision=bf16-mixed, or force_precision=true to try it."
        )


def fp16_of_a_gan(case: Case) -> Iterator[str]:
    """A remark: where adversarial training leaves the range of fp16."""
    if case.config.precision == "16-mixed":
        yield (
            "precision=16-mixed: adversarial training leaves the range of fp16 easily; "
            "bf16-mixed, where the device has it, needs no loss scale."
        )


def bf16_of_the_gpu(case: Case) -> Iterator[str]:
    """bf16 where the GPU here only emulates it."""
    config = case.config
    asked = config.precision.startswith("bf16") and config.accelerator != "cpu"
    on_gpu = asked and torch.cuda.is_available()
    if on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield "this GPU has no bf16; set precision=16-mixed, or 32-true."
