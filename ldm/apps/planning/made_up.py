"""Each stage's task and batches without data and without trained inputs, to measure its steps."""

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ldm.apps.build import build
from ldm.apps.planning.companions import Companions
from ldm.apps.planning.parts import condition_encoder, perceptual_distance
from ldm.apps.stages.assembly import trained
from ldm.data.batches import Batch, ImageBatch, LatentBatch
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.latent_scale import LatentScale
from ldm.tasks.autoencoder import AutoencoderTask, Likelihood
from ldm.tasks.diffusion import DiffusionTask
from ldm.tasks.text_encoder import TextEncoderTask
from ldm.text.classes import ClassTable
from ldm.text.unconditional import Unconditional

_CLASSES = 1000


def made_up(
    config: DictConfig, with_: Companions, images: int
) -> tuple[Any, Callable[[int], Batch]]:
    """The stage's task, new, and its batch of so many random images at a step."""
    return _OF_STAGE[config.stage](config, with_, images)


def _diffusion(
    config: DictConfig, with_: Companions, images: int
) -> tuple[Any, Callable[[int], Batch]]:
    assert with_.autoencoder is not None
    network = build(config.backbone)
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    regularizer = build(with_.autoencoder.regularizer)
    channels = regularizer.latent_channels or with_.autoencoder.latent_channels
    height, width = max(with_.latents, key=lambda shape: shape[0] * shape[1])
    encoder = _encoder(config, with_)
    learned = nn.ModuleDict({"unet": network, "class_encoder": encoder})
    task = DiffusionTask(
        denoiser=Denoiser(
            network=network, schedule=build(config.schedule), prediction=build(config.prediction)
        ),
        text_encoder=encoder,
        regularizer=regularizer,
        scale=LatentScale([0.0], [1.0]),
        trained=trained(learned if encoder.is_learned else network, config),
        global_batch=images,
        num_held_out=1,
        drop_rate=config.drop_rate,
        offset_noise=config.offset_noise,
        weighting=build(config.weighting),
        seed=config.seed,
    )
    ids = encoder.tokenize([""] * images)
    sizes = torch.full((images, 6 if encoder.vector_dim else 0), config.size)

    def batch(step: int) -> Batch:
        code = torch.randn(images, channels * regularizer.codes_per_latent, height, width)
        return LatentBatch(step, _indices(step, images), code.half(), ids, sizes)

    return task, batch


def _encoder(config: DictConfig, with_: Companions) -> Any:
    if with_.text_encoder is not None:
        return condition_encoder(with_.text_encoder)
    width = config.backbone.get("context_dim")
    if width is None:
        return Unconditional()
    return ClassTable(names=[str(number) for number in range(_CLASSES)], width=width)


def _autoencoder(
    config: DictConfig, with_: Companions, images: int
) -> tuple[Any, Callable[[int], Batch]]:
    autoencoder, likelihood = build(config.autoencoder), Likelihood()
    if config.channels_last:
        autoencoder.to(memory_format=torch.channels_last)
    parts = {"autoencoder": trained(autoencoder, config)}
    if config.learn_logvar:
        parts["likelihood"] = trained(likelihood, config, lr=config.lr)
    judge = build(config.discriminator) if config.discriminator else None
    if judge is not None:
        parts["discriminator"] = trained(judge, config, lr=config.disc_lr)
    task = AutoencoderTask(
        autoencoder=autoencoder,
        likelihood=likelihood.requires_grad_(config.learn_logvar),
        discriminator=judge,
        perceptual=perceptual_distance(config, with_),
        weights=build(config.loss),
        trained=parts,
        seed=config.seed,
    )
    # With the discriminator at work, where it comes to that: the most that a step does.
    if max(config.loss.disc_start, config.loss.gan_start) < config.max_steps:
        task.step = max(config.loss.disc_start, config.loss.gan_start)
    return task, _pictures(config.autoencoder.image_channels, config.size, images, 0)


def _text_encoder(
    config: DictConfig, with_: Companions, images: int
) -> tuple[Any, Callable[[int], Batch]]:
    towers = build(config.text_encoder)
    task = TextEncoderTask(towers=towers, trained=trained(towers, config), accumulate=1)
    side, length = config.text_encoder.vision.image_size, config.text_encoder.text.context_length
    return task, _pictures(3, side, images, length)


def _pictures(channels: int, side: int, images: int, length: int) -> Callable[[int], Batch]:
    def batch(step: int) -> Batch:
        picture = torch.randn(images, channels, side, side).clamp(-1.0, 1.0)
        ids = torch.randint(1, 1000, (images, length))
        return ImageBatch(step, _indices(step, images), picture, ids)

    return batch


def _indices(step: int, images: int) -> Tensor:
    return torch.arange(step * images, (step + 1) * images)


_OF_STAGE: dict[str, Callable[..., tuple[Any, Callable[[int], Batch]]]] = {
    "diffusion": _diffusion, "autoencoder": _autoencoder, "text_encoder": _text_encoder,
}  # fmt: skip
