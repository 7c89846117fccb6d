"""`ldm train`: what each stage has beside the settings of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ldm.apps.schema.annotation import Part
from ldm.apps.schema.common import Spacing
from ldm.ranges import Count, Natural, NonNegative, Positive, Share


@dataclass(kw_only=True)
class TextEncoderStage:
    """``stage=text_encoder``."""

    text_encoder: Part
    flip: bool


@dataclass(kw_only=True)
class ReconstructionEvaluation:
    """``evaluation`` of reconstructions."""

    num_samples: Count
    block: Count
    allow_unknown_weights: bool


@dataclass(kw_only=True)
class AutoencoderStage:
    """``stage=autoencoder``."""

    autoencoder: Part
    regularizer: Part | None
    discriminator: Part | None
    loss: Part
    flip: bool
    perceptual: Literal["lpips", "own", "none"]
    perceptual_channels: Sequence[Natural] | None
    initialization: Part | None
    learn_logvar: bool
    channels_last: bool
    disc_lr: Positive
    gan_watchdog: Literal["warn", "pause", "stop"]
    evaluate_every: Count | None
    metrics: Mapping[str, Part]
    evaluation: ReconstructionEvaluation


@dataclass(kw_only=True)
class Preview:
    """``preview``: the sample grid drawn at each validation."""

    prompts: Sequence[str]
    num: Natural
    steps: Count
    guidance: NonNegative
    spacing: Spacing


@dataclass(kw_only=True)
class SampleEvaluation(ReconstructionEvaluation):
    """``evaluation`` of drawn pictures."""

    steps: Count
    guidance: NonNegative
    spacing: Spacing
    seed: Natural
    shards: str | None


@dataclass(kw_only=True)
class DiffusionStage:
    """``stage=diffusion``."""

    backbone: Part
    schedule: Part
    prediction: Part
    weighting: Part
    sampler: Part
    initialization: Part | None
    channels_last: bool
    drop_rate: Share
    offset_noise: Share
    latent_scale: Literal["per_channel", "scalar"]
    preview: Preview
    evaluate_every: Count | None
    metrics: Mapping[str, Part]
    evaluation: SampleEvaluation
