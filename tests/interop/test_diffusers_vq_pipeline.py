"""A model with a codebook draws its picture in latent diffusion's own pipeline of diffusers."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import nn

from ldm.autoencoders.regularizers import VQ
from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.schedules.flow import flow
from ldm.generation import TextToImage
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.diffusers_vq_pipeline import write_vq_pipeline
from ldm.random import normal, stream

PROMPTS, SEEDS = ["wow! a cat!", "a large red circle"], torch.tensor([3, 11])
SCALAR = {"scale": LatentScale([0.0], [1.7]), "tower": {"context_length": 77}}
STRIDE_4 = {"channels": [8, 8, 16], "attention": [False] * 3}


def with_codebook(make_model: Any, **changes: Any) -> TextToImage:
    regularizer = VQ(num_codes=40, dim=4, beta=0.25, loss_weight=1.0, restart_rate=0.0)
    model = make_model(**SCALAR | changes, regularizer=regularizer)
    nn.init.normal_(regularizer.embedding.weight)
    return model


@pytest.mark.parametrize("changes", [{}, {"autoencoder": STRIDE_4}], ids=["stride 8", "stride 4"])
def test_the_exported_folder_draws_our_picture(make_model, changes, tmp_path: Path, agree):
    model = with_codebook(make_model, **changes)
    images = model(PROMPTS, SEEDS, sampler=ddim, steps=5, guidance=3.0, spacing="trailing")
    assert images.std() > 0.05
    write_vq_pipeline(model, tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline).__name__ == "LDMTextToImagePipeline"
    side = model.size_px // model.autoencoder.stride
    theirs = pipeline(
        PROMPTS, latents=normal(stream(0, "initial"), SEEDS, (4, side, side)),
        num_inference_steps=5, guidance_scale=3.0, output_type="np",
    ).images  # fmt: skip
    theirs = torch.from_numpy(theirs).movedim(-1, 1) * 2 - 1
    agree(
        theirs, images, component="LDMTextToImagePipeline", configuration=f"VQ, stride "
        f"{model.autoencoder.stride}", tolerance=1e-4,
    )  # fmt: skip
    codes = "quantize.embedding.weight"  # untouched: nothing is folded into them
    assert torch.equal(pipeline.vqvae.state_dict()[codes], model.autoencoder.state_dict()[codes])


def test_stable_diffusions_pipeline_cannot(make_model, tmp_path: Path):
    """The reason for another pipeline; should this fail, diffusers has learned it."""
    write_vq_pipeline(with_codebook(make_model), tmp_path)
    vqvae = diffusers.VQModel.from_pretrained(tmp_path / "vqvae")
    export_pipeline(make_model(), tmp_path / "kl")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "kl", vae=vqvae)
    pipeline.set_progress_bar_config(disable=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'generator'"):
        pipeline("a cat", num_inference_steps=1)


@pytest.mark.parametrize(
    "changes, setting",
    [
        ({"scale": LatentScale([0.0] * 4, [1.0, 2.0, 3.0, 0.25])}, "latent_scale=scalar"),
        ({"scale": LatentScale([0.5], [2.0])}, "latent_scale=scalar"),
        ({"tower": {"context_length": 12}}, r"text_encoder\.text\.context_length=12"),
        ({"unet": {"residual_resampling": True, "transformer_depth": [0, 0]}}, "backbone="),
        ({"schedule": flow(num_steps=1000)}, "schedule="),
        ({"unet": {"in_channels": 9}}, "backbone.in_channels=9"),
    ],
)
def test_what_that_pipeline_would_draw_otherwise_is_refused(make_model, changes, setting, tmp_path):
    with pytest.raises(ValueError, match=setting):
        write_vq_pipeline(with_codebook(make_model, **changes), tmp_path)
    assert not (tmp_path / "model_index.json").exists()
