"""Whether an autoencoder is ready for stage diffusion, and if not, why not."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

Rows = Sequence[Mapping[str, float]]

# Thresholds. Rombach et al. 2022 (table 8 and their model zoo) reach 20.8 dB (vq-f16) to 27.5 dB
# (kl-f4) on photographs with autoencoders that good denoisers were trained on.
LEAST_PSNR_DB = 20.0  # below all of these: no denoiser draws better than its decoder
GOOD_PSNR_DB = 27.5  # above all of these: more training may help, but nothing waits for it
IMPROVING_DB = 0.3  # between the last two validations; a finished run moves by less
# 6e-7 of a normal distribution lie beyond 5 standard deviations, 0.1 % of the latents of the flat
# shapes of recipe=demo, which are learned well. Where it is 1 of 200, rare values decide the loss.
MOST_OUTLIERS = 0.005
# Channels are standardised before they are denoised: a dead one becomes pure noise to be learned.
MOST_DEAD_CHANNELS = 0
LEAST_CODEBOOK_USAGE = 0.1  # of the entries; below, the codebook has collapsed to a few
# A posterior this wide is the prior: the latent of a picture is drawn at random.
LARGEST_SIGMA = 0.9
# Hinge loss of the discriminator: 1 where it says nothing, which is no reason against; 0 where
# every picture is told apart beyond the margin, so that the adaptive weight amplifies noise.
LEAST_D_LOSS = 0.05
GAN_ROWS = 3  # logged lines that must agree on a state of the GAN: one alone may be chance


def reasons_against(rows: Rows, config: Mapping[str, Any]) -> list[str]:
    """Why the autoencoder of a run is not ready for stage diffusion; empty where it is.

    ``rows`` are those of metrics.jsonl, ``config`` the run's settings. Each reason is a clause
    with the number found, what is wanted, and what to do.
    """
    validations = [row for row in rows if "val/psnr" in row]
    if not validations:
        return [
            "it was never validated: set validate_every to at most max_steps and train on, or "
            "look at samples/ yourself"
        ]
    return [*_quality(validations), *_health(validations[-1]), *_gan(rows, config)]


def verdict(reasons: Sequence[str]) -> str:
    """One line: "ready for stage 2", or "not ready for stage 2 because ..."."""
    return f"not ready for stage 2 because {'; '.join(reasons)}" if reasons else "ready for stage 2"


def _quality(validations: Rows) -> Iterator[str]:
    values = [row["val/psnr"] for row in validations]
    psnr = values[-1]
    if not math.isfinite(psnr):
        yield "its reconstructions are not finite: lower lr, or use precision=32-true"
        return
    if psnr < LEAST_PSNR_DB:
        yield (
            f"held-out pictures come back at {psnr:.1f} dB, and below {LEAST_PSNR_DB:g} dB no "
            "denoiser can draw well: train longer, on more pictures, or with a smaller stride"
        )
    gain = max((later - earlier for earlier, later in list(pairwise(values))[-1:]), default=0.0)
    if psnr < GOOD_PSNR_DB and gain > IMPROVING_DB:
        yield f"it is still improving, by {gain:.1f} dB since the last validation: raise max_steps"


def _health(last: Mapping[str, float]) -> Iterator[str]:
    wrong = sorted(
        name.removeprefix("val/") for name, value in last.items() if not math.isfinite(value)
    )
    if wrong and wrong != ["psnr"]:
        yield f"{', '.join(wrong)} is not finite: lower lr, or use precision=32-true"
    dead, outliers = last.get("val/dead_channels", 0.0), last.get("val/outlier_share", 0.0)
    if dead > MOST_DEAD_CHANNELS:
        yield (
            f"{dead:.0f} of its latent channels carry next to nothing: lower loss.kl, or take "
            "fewer autoencoder.latent_channels"
        )
    if outliers > MOST_OUTLIERS:
        yield (
            f"{outliers:.1%} of its latents lie beyond 5 standard deviations (at most "
            f"{MOST_OUTLIERS:.1%} is wanted): raise loss.kl"
        )
    if last.get("val/posterior_sigma", 0.0) > LARGEST_SIGMA:
        yield (
            f"its posterior is as wide as the prior (sigma {last['val/posterior_sigma']:.2f}), so "
            "latents say little about pictures: lower loss.kl"
        )
    if last.get("val/codebook_usage", 1.0) < LEAST_CODEBOOK_USAGE:
        yield (
            f"only {last['val/codebook_usage']:.1%} of its codebook is in use: raise "
            "regularizer.restart_rate, or take fewer regularizer.num_codes"
        )


def _gan(rows: Rows, config: Mapping[str, Any]) -> Iterator[str]:
    loss = config.get("loss") or {}
    gan = loss.get("gan", 0.0)
    if not config.get("discriminator") or not gan:
        return
    full = loss["gan_start"] + loss["gan_ramp_steps"]
    reached = max(row["step"] for row in rows)
    if reached < full:
        yield (
            f"at step {reached:,} the discriminator has not had its full say, which it has from "
            f"step {full:,} on (loss.gan_start + loss.gan_ramp_steps): raise max_steps, or train "
            "without it (discriminator=none)"
        )
        return
    last = [row for row in rows if "train/d_loss" in row][-GAN_ROWS:]
    if last and all(row["train/d_loss"] < LEAST_D_LOSS for row in last):
        yield (
            "its discriminator tells every picture apart, so its gradient is noise: lower disc_lr "
            "or loss.gan"
        )
