"""The noise process of a model in a single file: its tables, and the marks of v-prediction."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.diffusion.prediction import Prediction
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.interop.compvis.layouts import Layout
from ldm.interop.diffusers_scheduler import their_prediction

_NUM_STEPS, _BETA_START, _BETA_END = 1000, 0.00085, 0.012  # of Stable Diffusion, all versions
# Empty tensors by which programs know XL models with v-prediction, and with zero terminal SNR.
V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
TABLES = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2",
)  # fmt: skip
SIGMAS = "denoiser.sigmas"  # the table of XL models
NAMES = {*TABLES, SIGMAS, V_MARK, ZERO_SNR_MARK}  # of tensors that are no network's


def inferred_scheduler(
    state: Mapping[str, Tensor], layout: Layout, *, prediction: Prediction | None
) -> dict[str, Any]:
    """The scheduler_config.json of a file that has no settings; ``prediction`` is what was asked.

    ValueError for tables that are not Stable Diffusion's, and where the prediction must be asked.
    """
    if prediction is not None:
        theirs = their_prediction(prediction)
    elif V_MARK in state:
        theirs = "v_prediction"
    elif len(layout.sizes_px) > 1:
        raise ValueError(
            f"models of {layout.name}'s kind were trained with either of two predictions, and "
            "nothing in the file says which. Add prediction=v (2.0 and 2.1, for pictures of 768 "
            "px) or prediction=epsilon (the base models, for 512 px)."
        )
    else:
        (theirs,) = layout.sizes_px
    if (zero_snr := _zero_snr(_alpha_bar(state))) is None:
        raise ValueError(
            "the noise schedule (the tensor betas) is not Stable Diffusion's, and nothing in the "
            "file says which it is; it cannot be read."
        )
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": _NUM_STEPS,
        "beta_start": _BETA_START,
        "beta_end": _BETA_END,
        "beta_schedule": "scaled_linear",
        "prediction_type": theirs,
        "rescale_betas_zero_snr": zero_snr or ZERO_SNR_MARK in state,
    }


def written(config: Mapping[str, Any], layout: Layout, alpha_bar: Tensor) -> dict[str, Tensor]:
    """The tables and marks of a scheduler_config.json whose alpha_bar (T,) are these."""
    tensors = tables(alpha_bar) if layout.has_tables else {}
    if config.get("prediction_type") == "v_prediction":
        tensors[V_MARK] = torch.empty(0)
        if config.get("rescale_betas_zero_snr"):
            tensors[ZERO_SNR_MARK] = torch.empty(0)
    return tensors


def unseen_process(config: Mapping[str, Any], layout: Layout, alpha_bar: Tensor) -> list[str]:
    """What readers of a file with such a scheduler_config.json have to be told, in clauses."""
    zero_snr = _zero_snr(alpha_bar)
    found = ["scheduler: the noise schedule"] if zero_snr is None else []
    if config.get("prediction_type") == "v_prediction" and not layout.knows_marks:
        more = " and zsnr" if zero_snr else ""
        found.append(
            f"scheduler: v-prediction{more} (in ComfyUI, the node ModelSamplingDiscrete says so; "
            "for web UIs, a CompVis config beside the file, of its name with .yaml, that has "
            "parameterization: v)"
        )
    return found


def tables(alpha_bar: Tensor) -> dict[str, Tensor]:
    """The tables that CompVis' files carry (Ho et al. 2020, eq. 4 to 7)."""
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])
    betas = 1.0 - alpha_bar / before
    variance = betas * (1.0 - before) / (1.0 - alpha_bar)
    values = (
        betas, alpha_bar, before, alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt(),
        (1.0 - alpha_bar).log(), alpha_bar.rsqrt(), (1.0 / alpha_bar - 1.0).sqrt(), variance,
        variance.clamp(min=1e-20).log(), betas * before.sqrt() / (1.0 - alpha_bar),
        (1.0 - before) * (1.0 - betas).sqrt() / (1.0 - alpha_bar),
    )  # fmt: skip
    return {name: value.float() for name, value in zip(TABLES, values, strict=True)}


def _alpha_bar(state: Mapping[str, Tensor]) -> Tensor | None:
    """By a file's tables, if it has some."""
    if "betas" in state:
        return torch.cumprod(1.0 - state["betas"].double(), dim=0)
    if SIGMAS in state:
        return 1.0 / (state[SIGMAS].double().sort().values.square() + 1.0)
    return None


def _zero_snr(alpha_bar: Tensor | None) -> bool | None:
    """Whether Stable Diffusion's schedule is rescaled to end without signal; None for another.

    Files without tables are taken to be usual.
    """
    for zero_snr in (False, True):
        schedule = scaled_linear(
            num_steps=_NUM_STEPS, start=_BETA_START, end=_BETA_END, zero_terminal_snr=zero_snr
        )
        usual = schedule.alpha(schedule.steps).square()
        if alpha_bar is None or (
            alpha_bar.shape == usual.shape
            and torch.allclose(alpha_bar.double(), usual, rtol=3e-2, atol=1e-6)  # of half precision
        ):
            return zero_snr
    return None
