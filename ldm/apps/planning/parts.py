"""A stage's networks on the meta device, where tensors have shapes only, and what each computes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.func import functional_call

from ldm.apps.build import build
from ldm.apps.planning.companions import Companions
from ldm.losses.adversarial import hinge_discriminator_loss, hinge_generator_loss
from ldm.types import Condition

BATCH = 2  # pictures that are passed through: a batch norm needs two


@dataclass(frozen=True)
class Pass:
    """A network's way through BATCH pictures, up to what is differentiated."""

    name: str
    network: nn.Module
    forward: Callable[[], Tensor]
    share: float = 1.0  # of the steps in which it takes place
    backwards: float = 1.0  # how often it is gone backwards
    exact: bool = False  # in fp32, whatever the precision


@dataclass(frozen=True)
class Parts:
    """What a stage trains, what computes beside it in a step, and what did so before, once."""

    product: nn.Module
    passes: dict[tuple[int, int], tuple[Pass, int]]  # of the product: by shape, with its weight
    beside: list[Pass] = field(default_factory=list)
    learns_beside: dict[str, nn.Module] = field(default_factory=dict)
    frozen: dict[str, nn.Module] = field(default_factory=dict)  # that a device holds
    before: list[Pass] = field(default_factory=list)


def parts_of(config: DictConfig, with_: Companions) -> Parts:
    """The networks of a configuration of any stage."""
    with torch.device("meta"):
        return _OF_STAGE[config.stage](config, with_)


def denoiser_pass(
    config: DictConfig, network: nn.Module, side: tuple[int, int], tokens: int
) -> Pass:
    """A denoiser's way through latents of a height and width, with so many tokens of condition."""
    backbone = config.backbone

    def forward() -> Tensor:
        with torch.device("meta"):
            x = torch.zeros(BATCH, backbone.in_channels, *side)
            wide, vector = backbone.get("context_dim"), backbone.get("vector_dim")
            condition = Condition(
                tokens=None if wide is None else torch.zeros(BATCH, max(tokens, 1), wide),
                vector=None if vector is None else torch.zeros(BATCH, vector),
            )
            return network(x, torch.zeros(BATCH), condition)

    return Pass("denoiser", network, forward)


def _diffusion(config: DictConfig, with_: Companions) -> Parts:
    network = build(config.backbone)
    passes = {
        side: (denoiser_pass(config, network, side, with_.tokens), count)
        for side, count in with_.latents.items()
    }
    beside: list[Pass] = []
    before: list[Pass] = []
    frozen: dict[str, nn.Module] = {}
    if with_.text_encoder is not None:
        encoder = condition_encoder(with_.text_encoder)
        frozen["text_encoder"] = encoder
        text = Pass("text_encoder", encoder, lambda: _captions(encoder, with_.tokens))
        (beside if with_.in_step else before).append(text)
    if with_.autoencoder is not None:
        autoencoder = build(with_.autoencoder)
        frozen["autoencoder"] = autoencoder
        stride = getattr(autoencoder, "stride", 1)
        side = -(-config.size // stride) * stride  # where it is one that is only assumed
        image = _pictures(with_.autoencoder.image_channels, side)
        before.append(Pass("autoencoder_encode", autoencoder, lambda: autoencoder.encode(image)))
    return Parts(network, passes, beside, {}, frozen, before)


def _autoencoder(config: DictConfig, with_: Companions) -> Parts:
    network = build(config.autoencoder)
    size, loss = config.size, config.loss
    image = _pictures(config.autoencoder.image_channels, size)

    def reconstruct() -> Tensor:
        return network.decode(network.regularizer.mode(network.encode(image)))

    def steps_from(first: int) -> float:
        return max(0.0, 1.0 - first / config.max_steps)

    parts = Parts(network, {(size, size): (Pass("autoencoder", network, reconstruct), 1)})
    felt = steps_from(loss.gan_start) if config.discriminator and loss.gan > 0.0 else 0.0
    distance = perceptual_distance(config, with_)
    if distance is not None:
        parts.frozen["perceptual"] = distance
        first, second = (_pictures(3, size) for _ in range(2))
        second.requires_grad_()
        # While the discriminator is felt, once more for the adaptive weight.
        looks = Pass(
            "perceptual", distance, lambda: distance(first, second), 1.0, 1.0 + felt, exact=True
        )
        parts.beside.append(looks)
    if config.discriminator:
        judge = build(config.discriminator)
        parts.learns_beside["discriminator"] = judge
        frozen = {name: p.detach() for name, p in judge.named_parameters()}
        made = torch.zeros_like(image, requires_grad=True)

        def learn() -> Tensor:
            return hinge_discriminator_loss(judge(image), judge(image))

        def tell() -> Tensor:
            return hinge_generator_loss(functional_call(judge, frozen, (made,)))

        parts.beside.append(Pass("discriminator", judge, learn, steps_from(loss.disc_start)))
        parts.beside.append(Pass("discriminator", judge, tell, felt, 2.0))
    return parts


def _text_encoder(config: DictConfig, with_: Companions) -> Parts:
    towers = build(config.text_encoder)
    side, length = config.text_encoder.vision.image_size, config.text_encoder.text.context_length
    image, ids = _pictures(3, side), torch.zeros(BATCH, length, dtype=torch.int64)

    def compare() -> Tensor:
        pictures, texts, _ = towers(image, ids)
        return pictures * texts

    return Parts(towers, {(side, side): (Pass("towers", towers, compare), 1)})


_OF_STAGE: dict[str, Callable[[DictConfig, Companions], Parts]] = {
    "diffusion": _diffusion, "autoencoder": _autoencoder, "text_encoder": _text_encoder,
}  # fmt: skip


def _pictures(channels: int, side: int) -> Tensor:
    return torch.zeros(BATCH, channels, side, side)


def condition_encoder(node: DictConfig) -> Any:
    """A text encoder's configuration as the condition encoder, frozen, of new weights."""
    from ldm.text.clip import ClipText

    made = build(node)
    encoder = ClipText(made) if hasattr(made, "states") else made
    return encoder.requires_grad_(False)


def _captions(encoder: Any, length: int) -> Tensor:
    rows = getattr(encoder, "encoders", [encoder])
    shape = (BATCH, length) if len(rows) == 1 else (BATCH, len(rows), length)
    with torch.device("meta"):
        return encoder.features(torch.zeros(shape, dtype=torch.int64)).tokens


def perceptual_distance(config: DictConfig, with_: Companions) -> nn.Module | None:
    """The frozen distance of ``perceptual=``, of new weights; None without one."""
    if config.perceptual == "none" or config.loss.perceptual == 0.0:
        return None
    if config.perceptual == "lpips":
        from ldm.features.vgg import CHANNELS, VGG16
        from ldm.losses.lpips import LPIPS

        return LPIPS(VGG16(), [torch.zeros(1, channels, 1, 1) for channels in CHANNELS])
    if with_.text_encoder is None:
        return None
    from ldm.features.clip_image import ClipImageFeatures
    from ldm.losses.own_perceptual import OwnPerceptual

    towers = build(with_.text_encoder)
    features = ClipImageFeatures(
        towers.model, size_px=with_.text_encoder.vision.image_size, mean=(0.5,) * 3,
        std=(0.5,) * 3, normalize=False,
    )  # fmt: skip
    return OwnPerceptual(features)


def parameters(network: nn.Module) -> int:
    """How many numbers a network's weights are."""
    return sum(math.prod(p.shape) for p in network.parameters())
