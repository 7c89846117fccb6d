"""Edited pictures are diffusers': image to image, inpainting by blending and with 9 channels.

Their pipelines run whole, on random weights, with our noise, and with the mode of their
autoencoder's posterior where they would draw from it.
"""

import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from omegaconf import OmegaConf
from torch import Tensor

from ldm.apps.build import build
from ldm.apps.config_files import config_root
from ldm.diffusion.editing import shortened
from ldm.diffusion.prediction import Velocity
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.generation import Edit, TextToImage
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.diffusers_grid import diffusers_levels
from ldm.interop.pipeline import read_pipeline
from ldm.random import normal, stream
from tests.interop.test_diffusers_grid import SCHEDULE, SCHEDULERS, STABLE_DIFFUSION
from tests.parity import Agree

PROMPTS = ["wow! a cat!", "a large red circle on a navy background"]
NEGATIVE = "a blurry, green square"
SEEDS = torch.tensor([3, 11])
STEPS = 8
IMAGE_TO_IMAGE, INPAINT = "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"

_ROW = torch.linspace(-1, 1, 64).expand(64, 64)
PICTURE = torch.stack([_ROW, -_ROW.T, torch.sign(torch.sin(_ROW * 9))])
MASK = torch.zeros(64, 64, dtype=torch.bool)
MASK[13:50, 21:63] = True  # its edges lie between the points of the latents' grid
# For blending its edges lie on the grid: elsewhere we paint every cell that has a pixel to paint,
# and theirs those whose corner has.
ON_GRID = torch.zeros_like(MASK)
ON_GRID[16:48, 24:] = True

Parts = tuple[TextToImage, Path]


@pytest.fixture(scope="module")
def plain(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("plain")
    export_pipeline(make_model(), folder)
    return read_pipeline(folder), folder


@pytest.fixture(scope="module")
def inpainting(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("inpainting")
    export_pipeline(make_model(unet={"in_channels": 9}), folder)
    return read_pipeline(folder), folder


def ours(model: TextToImage, edit: Edit, *, sampler: Any, spacing: Any) -> Tensor:
    return model(
        PROMPTS, SEEDS, sampler=sampler, steps=STEPS, guidance=3.0, spacing=spacing,
        negative=NEGATIVE, edit=edit,
    )  # fmt: skip


def theirs(kind: str, folder: Path, edit: Edit, patch: Any, *, scheduler: Any = None) -> Tensor:
    """The same pictures (2, 3, H, W) in [-1, 1] by a pipeline of diffusers."""
    pipeline = getattr(diffusers, kind).from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler or pipeline.scheduler
    steps = count()

    def initial(shape: Any, **_: Any) -> Tensor:
        return normal(stream(0, "initial"), SEEDS, tuple(shape[1:]))

    def fresh(shape: Any, **_: Any) -> Tensor:
        return normal(stream(0, "sampler", next(steps)), SEEDS, tuple(shape[1:]))

    patch.setattr(sys.modules[type(pipeline).__module__], "randn_tensor", initial)
    patch.setattr(
        sys.modules[type(pipeline.scheduler).__module__], "randn_tensor", fresh, raising=False
    )
    patch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator: self.mode())
    mask = {} if edit.mask is None else {"mask_image": edit.mask[None, None].float()}
    images = pipeline(
        PROMPTS, image=(edit.image.expand(2, -1, -1, -1) + 1) / 2, strength=edit.strength,
        num_inference_steps=STEPS, guidance_scale=3.0, negative_prompt=[NEGATIVE] * 2,
        output_type="pt", **mask,
    ).images  # fmt: skip
    return images * 2 - 1


def sampler_of(name: str) -> Any:
    return build(OmegaConf.load(config_root() / "sampler" / f"{name}.yaml"))  # type: ignore


MODES = {"image to image": [0.5], "blending": [0.5, 1.0], "9 channels": [1.0]}
CASES = [
    (mode, name, strength)
    for mode, strengths in MODES.items()
    for strength in strengths
    for name in sorted(SCHEDULERS)
    if (name, strength) != ("pndm", 0.5)  # theirs begins early and then lags: the last test but one
]


@pytest.mark.parametrize(
    "mode, name, strength",
    [*CASES, ("image to image", "ddim", 1.0), ("9 channels", "ddim", 0.5)],
)
def test_edited_pictures_are_those_of_the_pipeline(
    mode: str,
    name: str,
    strength: float,
    plain: Parts,
    inpainting: Parts,
    monkeypatch: pytest.MonkeyPatch,
    agree: Agree,
) -> None:
    """On their grids, with the scheduler of each sampler."""
    model, folder = inpainting if mode == "9 channels" else plain
    kind, options = SCHEDULERS[name]
    scheduler = kind.from_config(STABLE_DIFFUSION, **options)  # type: ignore[attr-defined]
    mask = {"image to image": None, "blending": ON_GRID, "9 channels": MASK}[mode]
    edit = Edit(PICTURE, strength, mask)
    pipeline = IMAGE_TO_IMAGE if edit.mask is None else INPAINT
    expected = theirs(pipeline, folder, edit, monkeypatch, scheduler=scheduler)
    spacing = partial(diffusers_levels, sampler=name)
    found = ours(model, edit, sampler=sampler_of(name), spacing=spacing)
    painted = torch.ones_like(MASK) if mask is None else mask
    assert found[..., painted].std() > 0.1
    agree(
        found[..., painted],
        expected[..., painted],
        component=f"{pipeline} ({mode})",
        configuration=f"{name}, strength {strength}",
        tolerance=1e-4,
    )
    assert torch.equal(found[..., ~painted], PICTURE[..., ~painted].expand(2, -1, -1))


@pytest.mark.parametrize("mask", [None, ON_GRID], ids=["image to image", "blending"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_from_a_level_without_signal(
    strength: float, mask: Tensor | None, make_model: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    schedule = scaled_linear(num_steps=1000, start=0.00085, end=0.012, zero_terminal_snr=True)
    model = make_model(schedule=schedule, prediction=Velocity())
    export_pipeline(model, tmp_path)
    edit = Edit(PICTURE, strength, mask)
    pipeline = IMAGE_TO_IMAGE if mask is None else INPAINT
    expected = theirs(pipeline, tmp_path, edit, monkeypatch)
    found = ours(model, edit, sampler=ddim, spacing="trailing")
    painted = torch.ones_like(MASK) if mask is None else mask
    torch.testing.assert_close(found[..., painted], expected[..., painted], rtol=0, atol=1e-4)


def test_pndm_begins_where_its_strength_says() -> None:
    """Their list has its second step twice, so theirs begins at 741 and calls 38 times."""
    levels = shortened(diffusers_levels(SCHEDULE, 50, sampler="pndm"), 0.75)
    assert (levels.num_steps, float(levels.t[0])) == (37, 721.0)
    scheduler = diffusers.PNDMScheduler.from_config(STABLE_DIFFUSION)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[50 - 37 :].tolist()[:2] == [741, 721]


def test_an_inpainting_model_is_written_for_their_pipeline_of_that_name(
    inpainting: Parts, plain: Parts
) -> None:
    loaded = diffusers.DiffusionPipeline.from_pretrained(inpainting[1], local_files_only=True)
    assert type(loaded).__name__ == INPAINT and inpainting[0].inpaints
    loaded = diffusers.DiffusionPipeline.from_pretrained(plain[1], local_files_only=True)
    assert type(loaded).__name__ == "StableDiffusionPipeline" and not plain[0].inpaints
