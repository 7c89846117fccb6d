"""Names and numbers as people read them: units, percent, sensible rounding."""

import math
from typing import Any

_TITLES = {
    "prompt_accuracy": "Prompt accuracy",
    "digit_accuracy": "Digit accuracy",
    "digit_spread": "Within-class spread",
    "psnr": "Reconstruction PSNR",
    "ssim": "Reconstruction SSIM",
    "clip_score_own": "CLIP score, own towers",
    "fd_own": "Fréchet distance, own features",
    "fid": "Fréchet Inception distance",
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
_SHARES = ("accuracy", "retrieval", "share", "usage", "fraction")
_SAMPLES = ("num_samples", "num_images", "n")


def title(name: str) -> str:
    """The human name of a metric, step or directory: "Train diffusion" of "train_diffusion"."""
    name, _, rest = name.rpartition("/")[2].partition(".")
    kind, _, count = name.partition("_")
    if kind == "fid" and count.isdigit():
        return f"FID-{count}"
    words = _TITLES.get(name) or name.replace("_", " ")
    return words[:1].upper() + words[1:] + (f" ({rest})" if rest else "")


def metric(name: str, value: Any) -> str:
    """A metric's value with its unit: shares in percent, PSNR in dB, KL in nats."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if any(word in name for word in _SHARES):
        return f"{100 * value:.1f} %"
    if "psnr" in name:
        return f"{value:.2f} dB"
    return number(value) + (" nats" if name.endswith("kl_per_dimension") else "")


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
    """Wall time: "0.8 s", "42 s", "3 min 05 s", "2 h 10 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def samples(protocol: dict[str, Any]) -> str:
    """On how many samples a number rests, "" where its protocol does not say."""
    found = next((protocol[key] for key in _SAMPLES if key in protocol), None)
    return f"{found:,} samples" if isinstance(found, int) else ""
