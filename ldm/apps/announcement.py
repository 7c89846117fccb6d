"""What a training run says of itself in one line at its start: the values that count."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from ldm.data.order import Share


def effective(config: DictConfig) -> dict[str, Any]:
    """What decides what is learned, by its name: the same on any number of devices.

    ``images`` are pictures seen until the end of the run.
    """
    named = ("max_steps", "global_batch", "lr", "warmup_steps", "precision", "ema_decay", "seed")
    values = {name: config[name] for name in named}
    curve = str(config.learning_rate._target_).rpartition(".")[2]
    return values | {"images": config.max_steps * config.global_batch, "learning_rate": curve}


def in_one_line(
    config: DictConfig, product: str, parameters: int, shares: Sequence[Share], start: int
) -> str:
    """The line; ``shares`` are one per bucket of shapes, ``start`` the step that is reached."""
    said = effective(config)
    share = shares[0]
    cut = f"{share.micro_batch} x {share.accumulate} accumulated"
    length = f"{said['max_steps']:,} steps = {said['images']:,} images"
    if config.max_images is not None:
        length += f" (max_images={config.max_images}, rounded up to whole steps)"
    rate = f"lr {said['lr']:g} ({said['learning_rate']}, {said['warmup_steps']:,} steps of warm-up)"
    ema = "no EMA" if said["ema_decay"] is None else f"EMA {said['ema_decay']:g}"
    return (
        f"{config.run}: stage {config.stage}, {product} of {parameters:,} parameters; {length}; "
        f"global batch {said['global_batch']} = {share.world_size} process(es) x "
        + (cut if len(shares) == 1 else "what a bucket allows")
        + f"; {rate}; {said['precision']}; {ema}; seed {said['seed']}"
        + (f"; going on at step {start:,}" if start else "")
    )
