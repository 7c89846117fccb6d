"""Names and numbers as people read them: units, percent, sensible rounding."""

import math
from collections.abc import Sequence
from typing import Any

_TITLES = {
    "prompt_accuracy": "Prompt accuracy",
    "digit_accuracy": "Digit accuracy",
    "digit_spread": "Within-class spread",
    "psnr": "Reconstruction PSNR",
    "ssim": "Reconstruction SSIM",
    "lpips": "Reconstruction LPIPS",
    "FID": "FID",
    "rFID": "Reconstruction FID",
    "fd_own": "Fréchet distance, own features",
    "rfd_own": "Reconstruction Fréchet distance, own features",
    "fd_dinov2": "Fréchet distance, DINOv2",
    "fd_clip": "Fréchet distance, CLIP",
    "kid": "Kernel Inception distance",
    "kid_std": "Kernel Inception distance, spread over subsets",
    "kid_own": "Kernel distance, own features",
    "kid_own_std": "Kernel distance, own features, spread over subsets",
    "inception_score_std": "Inception score, spread over splits",
    "clip_score": "CLIP score",
    "memorisation.copies": "Samples that are copies of training pictures",
    "memorisation.copies_real": "Held-out pictures that would count as copies",
    "memorisation.distance": "Distance of samples to training pictures",
    "memorisation.distance_real": "Distance of held-out to training pictures",
    "memorisation.ratio": "Distance of samples to training, over that of held-out",
    "clip_score_own": "CLIP score, own towers",
    "kl_per_dimension": "KL per latent dimension",
    "retrieval": "Caption retrieval",
    "loss": "Loss",
    "linear_loss": "Loss of a linear predictor",
    "zero_loss": "Loss of answering zero",
    "latent_std": "Spread of each latent channel",
    "dead_channels": "Dead latent channels",
    "outlier_share": "Latents beyond 5 std",
    "d_weight": "Weight of the adversarial loss",
}
_SHARES = ("accuracy", "retrieval", "share", "usage", "fraction", "truncated", "copies")
_LESS_IS_BETTER = ("fid", "rfid", "fd_", "rfd_", "kid", "lpips", "loss", "weighted_loss")
_MORE_IS_BETTER = (
    "precision", "recall", "inception_score", "clip_score", "psnr", "ssim", "prompt_accuracy",
    "digit_accuracy", "retrieval",
)  # fmt: skip
_SAMPLES = ("num_samples", "num_images", "n")


def title(name: str) -> str:
    """The human name of a metric, step or directory: "Train diffusion" of "train_diffusion"."""
    name, count = split_count(name.rpartition("/")[2])
    rest = ""
    if name not in _TITLES:  # some are there with their parts
        name, _, rest = name.partition(".")
    words = _TITLES.get(name) or name.replace("_", " ")
    if count:  # FID-256 is a name of its own
        words += f"-{count}" if name.endswith("FID") else f", {count} pictures"
    return words[:1].upper() + words[1:] + (f" ({rest.replace('_', ' ')})" if rest else "")


def split_count(name: str) -> tuple[str, str]:
    """A number's name and how many pictures it says, "" if none: "kid_own-128" has 128."""
    base, _, count = name.rpartition("-")
    return (base, count) if base and count.isdigit() else (name, "")


def is_headline(name: str) -> bool:
    """Whether a number stands for itself: no part of another, and not the spread of one."""
    base, _ = split_count(name)
    return "." not in base and not base.endswith("_std")


def is_frechet(name: str) -> bool:
    """Whether this is a Fréchet distance of samples, as FID-256 and fd_own are."""
    return name.removeprefix("val/").lower().startswith(("fid", "fd_"))


def less_is_better(name: str) -> bool | None:
    """Which way a metric is better; None where that is not known, or neither is."""
    base = name.removeprefix("val/").removeprefix("train/").lower()
    if base.startswith(_LESS_IS_BETTER):
        return True
    return False if base.startswith(_MORE_IS_BETTER) else None


def best(name: str, values: Sequence[float]) -> float | None:
    """The best of a metric's values; None where neither more nor less is better, or of none."""
    found = [value for value in values if math.isfinite(value)]
    less = less_is_better(name)
    if not found or less is None:
        return None
    return min(found) if less else max(found)


def metric(name: str, value: Any) -> str:
    """A metric's value with its unit: shares in percent, PSNR in dB, KL in nats."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if any(word in name for word in _SHARES):
        return f"{100 * value:.1f} %"
    if "psnr" in name:
        return f"{value:.2f} dB"
    return number(value) + (" nats" if name.endswith("kl_per_dimension") else "")


_DAYS_FROM = 72 * 3600  # seconds: below that hours say more


def number(value: float) -> str:
    """At most four significant digits, thousands apart: 12,345; 0.04213; 1.2e-06."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}" if size < 1e9 else f"{value:.3g}"
    if size < 1e-3:
        return f"{value:.2g}"
    return f"{value:.{3 - math.floor(math.log10(size))}f}".rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """Wall time: "0.8 s", "42 s", "3 min 05 s", "2 h 10 min", "12.5 days"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole >= _DAYS_FROM:
        return f"{seconds / 86400:,.1f} days"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size_in_words(count: float) -> str:
    """Bytes for people: "13.8 GB"."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def samples(protocol: dict[str, Any]) -> str:
    """On how many samples a number rests, "" where its protocol does not say."""
    found = next((protocol[key] for key in _SAMPLES if key in protocol), None)
    return f"{found:,} samples" if isinstance(found, int) else ""
