"""`ldm train`: settings of every stage; those of one are in ``stages``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from ldm.apps.durations import is_duration
from ldm.apps.schema.annotation import Part
from ldm.apps.schema.common import Accelerator, Shards, SidePixels
from ldm.data.workers import STOP_SIGNALS
from ldm.ranges import Count, Fits, Fraction, Natural, Positive, Share

Duration = Annotated[
    str, Fits(is_duration, 'a time in quotes: "HH:MM:SS", or "D-HH:MM:SS" with days')
]
StopSignals = Annotated[
    Sequence[str],
    Fits(
        lambda names: all(name in STOP_SIGNALS for name in names),
        "a list of signals ([] for none), each one of " + ", ".join(STOP_SIGNALS),
    ),
]


@dataclass(kw_only=True)
class TrainingData(Shards):
    """``data``: image shards, or a latent cache."""

    workers: Natural
    order: Literal["shuffled", "streamed"]
    lanes: Count
    max_bad_fraction: Share


@dataclass(kw_only=True)
class Training:
    """The root of every training configuration."""

    # What it is, and where it lies.
    stage: Literal["text_encoder", "autoencoder", "diffusion"]
    run: str
    resume: Literal["auto", "never"]
    init: str | None
    from_scratch: bool
    seed: Natural
    size: SidePixels
    data: TrainingData
    autoencoder_run: str | None
    text_run: str | None
    weights_dir: str
    # How it learns.
    max_steps: Count
    max_images: Count | None
    global_batch: Count
    lr: Positive
    warmup_steps: Natural
    max_gradient_norm: Positive
    ema_decay: Fraction | None
    optimizer: Part
    learning_rate: Part
    # What is kept, shown and guarded.
    checkpoint_every: Count
    keep_checkpoints: Count
    models_every: Count | None
    keep_models: Count | None
    validate_every: Count
    validate_block: Count
    log_every: Count
    logger: Mapping[str, Part] | None
    stop_signals: StopSignals
    max_time: Duration | None
    max_skipped_in_a_row: Count
    replay: str | None
    # Where it runs, and how the work is cut.
    accelerator: Accelerator
    devices: Count
    num_nodes: Count
    strategy: Literal["auto", "ddp", "fsdp"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true"]
    force_precision: bool
    micro_batch: Count | None
    max_micro_pixels: Count | None
    activation_checkpointing: bool
    compile: bool
    collective_timeout_seconds: Positive
    compare_ranks_every: Count | None
