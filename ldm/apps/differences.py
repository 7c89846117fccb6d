"""Settings that differ between two sittings of one run, and what that means for it."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

FREE, WARNED, FORBIDDEN = "free", "warned", "forbidden"

# Dotted keys, * for any rest; the first line that fits counts. What is not here is forbidden.
_CLASSES: list[tuple[str, str, str]] = [
    # Where it runs and how the work is cut: the same is learned, but for rounding.
    (FREE, "", "accelerator devices num_nodes strategy micro_batch max_micro_pixels"),
    (FREE, "", "activation_checkpointing compile channels_last force_precision"),
    (FREE, "", "collective_timeout_seconds data.workers data.cache_dir data.cache_gb weights_dir"),
    # Where the inputs lie: that they are the same is told by their fingerprints.
    (FREE, "", "data.root autoencoder_run text_run"),
    (FREE, "", "from_scratch"),
    # When it ends, and what is kept, shown and guarded.
    (FREE, "", "max_steps max_images learning_rate.max_steps max_time stop_signals"),
    (FREE, "", "checkpoint_every keep_checkpoints models_every keep_models compare_ranks_every"),
    (FREE, "", "validate_every log_every logger logger.*"),
    (FREE, "", "evaluate_every"),
    (FREE, "numbers before and after are of other protocols", "metrics* evaluation*"),
    (FREE, "", "preview preview.* sampler sampler.*"),
    (FREE, "", "data.max_bad_fraction max_skipped_in_a_row replay"),
    (FREE, "", "loss._target_"),  # only where the class lies that holds its weights
    # How it learns from here on.
    (WARNED, "", "lr disc_lr warmup_steps learning_rate learning_rate.* max_gradient_norm"),
    (WARNED, "", "drop_rate offset_noise weighting weighting.* loss.* gan_watchdog flip"),
    (WARNED, "", "regularizer.loss_weight autoencoder.regularizer.loss_weight"),
    (WARNED, "", "ema_decay precision"),
    (WARNED, "held-out numbers move in their last digits", "validate_block"),
    (WARNED, "some samples come twice or not in this pass", "global_batch data.order data.lanes"),
    # What it is.
    (FORBIDDEN, "the stage", "stage"),
    (FORBIDDEN, "every draw would be another", "seed"),
    (FORBIDDEN, "the pictures are of another size", "size"),
    (FORBIDDEN, "its weights are of this network", "backbone* autoencoder* regularizer*"),
    (FORBIDDEN, "its weights are of this network", "text_encoder* discriminator* learn_logvar"),
    (FORBIDDEN, "what the network predicts", "schedule* prediction* latent_scale"),
    (FORBIDDEN, "what the network minimises", "perceptual* loss"),
    (FORBIDDEN, "the checkpoint holds the optimizer with its settings", "optimizer*"),
    (FORBIDDEN, "it counts at the first step only", "init initialization*"),
]
_UNKNOWN = "nothing is known of its effect"
# Parts repeat what the root says: one difference is told once.
_REPEATED = {
    "optimizer.lr": "lr",
    "learning_rate.peak": "lr",
    "learning_rate.warmup_steps": "warmup_steps",
    "learning_rate.max_steps": "max_steps",
}


class Difference(NamedTuple):
    """A setting that is another one now; ``why`` it is warned of or forbidden."""

    key: str
    before: Any
    now: Any
    kind: str
    why: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before!r} -> {self.now!r}" + (f" ({self.why})" * bool(self.why))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    """Every setting that differs between two resolved configurations, each with its class."""
    # Where the run lies and whether it begins anew is no setting of what is in it.
    one, other = (
        {k: v for k, v in _flat(config) if k not in ("run", "resume")} for config in (before, now)
    )
    keys = [key for key in sorted(one | other) if one.get(key) != other.get(key)]
    return [
        _classed(key, one.get(key), other.get(key))
        for key in keys
        if _REPEATED.get(key) not in keys
    ]


def _classed(key: str, before: Any, now: Any) -> Difference:
    if key == "ema_decay" and before is None:
        return Difference(key, before, now, FORBIDDEN, "there is no average to go on with")
    if key == "init" and None not in (before, now):
        return Difference(key, before, now, FREE, "")  # its weights are told by their fingerprint
    for kind, why, patterns in _CLASSES:
        if any(fnmatchcase(key, pattern) for pattern in patterns.split()):
            return Difference(key, before, now, kind, why)
    return Difference(key, before, now, FORBIDDEN, _UNKNOWN)


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
