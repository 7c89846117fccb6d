"""Single files of Stable Diffusion XL and its refiner, against diffusers' own reader."""

import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ldm.diffusion.samplers.ddim import ddim
from ldm.interop.compvis.layouts import SDXL
from ldm.interop.compvis.single_file import WEIGHTS_OF, pack, unpack
from ldm.interop.diffusers import read_pipeline, read_schedule
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.transformers_tokenizer import write_tokenizer
from ldm.random import normal, stream
from ldm.text.sdxl_text import SdxlText

IDS = "text_model.embeddings.position_ids"
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing", "clip_sample": False, "steps_offset": 1,
}  # fmt: skip


def tower(cls: Any, width: int, act: str) -> Any:
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3, projection_dim=width,
        num_attention_heads=width // 64, hidden_act=act, eos_token_id=49407,
    )  # fmt: skip
    return cls(config)


def networks(folder: Path, *, refiner: bool) -> dict[str, Any]:
    """Tiny ones with random weights, of widths by which their heads are inferred rightly."""
    for name, pad_id in (("tokenizer", 49407), ("tokenizer_2", 0)):
        write_tokenizer(folder / name, context_length=77, pad_id=pad_id)
    tokenizer, tokenizer_2 = (
        transformers.CLIPTokenizer.from_pretrained(folder / name)
        for name in ("tokenizer", "tokenizer_2")
    )
    down = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    widths = [64, 128, 128, 128]
    if not refiner:
        down, widths = down[:3], widths[:3]
    return {
        "unet": diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=widths, down_block_types=down,
            up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
            layers_per_block=2, transformer_layers_per_block=2 if refiner else [1, 2, 3],
            attention_head_dim=[w // 64 for w in widths], use_linear_projection=True,
            cross_attention_dim=128 if refiner else 192, addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=128 + (5 if refiner else 6) * 256,
        ),
        "vae": diffusers.AutoencoderKL(
            block_out_channels=[32, 32, 64, 64], layers_per_block=2, sample_size=64,
            down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
            scaling_factor=0.13025,
        ),
        "text_encoder": None if refiner else tower(transformers.CLIPTextModel, 64, "quick_gelu"),
        "text_encoder_2": tower(transformers.CLIPTextModelWithProjection, 128, "gelu"),
        "tokenizer": None if refiner else tokenizer,
        "tokenizer_2": tokenizer_2,
        "scheduler": diffusers.DDIMScheduler(**SCHEDULE),
    }  # fmt: skip


KINDS = {
    "base": (diffusers.StableDiffusionXLPipeline, {}),
    "refiner": (
        diffusers.StableDiffusionXLImg2ImgPipeline,
        {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False},
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def theirs(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The kind, and a folder that diffusers wrote."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    cls, settings = KINDS[request.param]
    pipeline = cls(
        **networks(folder / "tokenizers", refiner=request.param == "refiner"), **settings
    )
    pipeline.save_pretrained(folder / "model")
    return request.param, folder / "model"


def picture(kind: str, pipeline: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    if kind == "refiner":
        more = {"image": torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64), "strength": 0.5}
    else:
        more = {"width": 64, "height": 64}
    return pipeline(
        "a cat", num_inference_steps=4, generator=torch.Generator().manual_seed(0),
        output_type="pt", **more,
    ).images  # fmt: skip


def test_diffusers_loads_our_file_with_equal_outputs(theirs, tmp_path, agree):
    kind, folder = theirs
    assert pack(folder, tmp_path / "model.safetensors") == []
    pipeline = KINDS[kind][0].from_single_file(
        str(tmp_path / "model.safetensors"), config=str(folder), local_files_only=True
    )
    expected = picture(kind, KINDS[kind][0].from_pretrained(folder))
    assert expected.std() > 0.02
    agree(
        picture(kind, pipeline), expected, component=f"{type(pipeline).__name__}.from_single_file",
        configuration=f"Stable Diffusion XL, {kind}", tolerance=1e-5,
    )  # fmt: skip


def stripped(file: Path) -> Path:
    """The file as others would write it: in half precision, with what they add, no settings."""
    state = {name: value.half() for name, value in load_file(file).items()}
    alpha_bar = diffusers.DDIMScheduler(**SCHEDULE).alphas_cumprod
    state["denoiser.sigmas"] = (1 / alpha_bar - 1).sqrt().flip(0)
    first = "conditioner.embedders.0.transformer."
    if any(name.startswith(first) for name in state):
        state[first + IDS] = torch.arange(77)[None]
    other = file.with_name("stripped.safetensors")
    save_file(state, other)
    return other


def test_a_file_without_settings_is_a_folder_again(theirs, tmp_path):
    kind, folder = theirs
    pack(folder, tmp_path / "model.safetensors")
    assert unpack(stripped(tmp_path / "model.safetensors"), tmp_path / "again") == []
    cls = KINDS[kind][0]
    before = cls.from_pretrained(folder)
    after = cls.from_pretrained(tmp_path / "again").to(torch.float32)
    assert after.vae_scale_factor * after.unet.config.sample_size == 1024
    assert after.vae.config.scaling_factor == 0.13025
    for name in WEIGHTS_OF:
        if (network := getattr(before, name)) is not None:
            network.half().float()
    for name, setting in KINDS[kind][1].items():
        assert after.config[name] == setting
    after.scheduler = before.scheduler  # the sampler's grid is no part of a file
    torch.testing.assert_close(picture(kind, after), picture(kind, before), rtol=0, atol=1e-5)


def test_a_published_file_draws_their_picture_here(theirs, tmp_path):
    kind, folder = theirs
    pack(folder, tmp_path / "model.safetensors")
    unpack(stripped(tmp_path / "model.safetensors"), tmp_path / "again")
    model = read_pipeline(tmp_path / "again")
    assert isinstance(model.text_encoder, SdxlText)
    if kind == "refiner":  # it starts from a picture; its tower is compared in test_sdxl.py
        assert model.text_encoder.num_sizes == 5 and not model.text_encoder.zero_null
        return
    model.size_px = 64  # for speed
    seeds = torch.tensor([3])
    pipeline = KINDS[kind][0].from_pretrained(folder)
    for name in WEIGHTS_OF:
        getattr(pipeline, name).half().float()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a cat", latents=normal(stream(0, "initial"), seeds, (4, 8, 8)), num_inference_steps=4,
        guidance_scale=3.0, width=64, height=64, output_type="pt",
    ).images  # fmt: skip
    found = model(["a cat"], seeds, sampler=ddim, steps=4, guidance=3.0, spacing="trailing")
    torch.testing.assert_close(found, expected * 2 - 1, rtol=0, atol=1e-4)
    # And out again: the same tensors, settings and all.
    export_pipeline(model, tmp_path / "out", factor=SDXL.scaling_factor)
    assert pack(tmp_path / "out", tmp_path / "out.safetensors") == []
    before, after = (load_file(tmp_path / f"{n}.safetensors") for n in ("stripped", "out"))
    extra = {"denoiser.sigmas", "conditioner.embedders.0.transformer." + IDS}
    assert before.keys() - after.keys() == extra and not after.keys() - before.keys()
    for name, value in after.items():
        assert name.endswith("logit_scale") or torch.equal(value, before[name].float()), name


def test_the_marks_of_v_prediction_are_written_and_read(theirs, tmp_path):
    kind, folder = theirs
    marked = tmp_path / "marked"
    shutil.copytree(folder, marked)
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    diffusers.DDIMScheduler(**SCHEDULE | settings).save_pretrained(marked / "scheduler")
    said = pack(marked, tmp_path / "model.safetensors")
    assert len(said) == (kind == "refiner")  # whose readers do not look for the marks
    state = load_file(tmp_path / "model.safetensors")
    assert {"v_pred", "ztsnr"} <= state.keys()
    save_file(state, tmp_path / "model.safetensors")
    unpack(tmp_path / "model.safetensors", tmp_path / "again")
    schedule, prediction = read_schedule(tmp_path / "again")
    assert prediction.name == "v" and schedule.description["zero_terminal_snr"]


def test_a_refiner_without_its_projection_says_so(theirs, tmp_path):
    kind, folder = theirs
    pack(folder, tmp_path / "model.safetensors")
    state = load_file(tmp_path / "model.safetensors")
    name = f"conditioner.embedders.{1 if kind == 'base' else 0}.model.text_projection"
    assert torch.equal(
        state.pop(name).T,
        load_file(folder / "text_encoder_2" / "model.safetensors")["text_projection.weight"],
    )
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"{name} is missing"):
        unpack(tmp_path / "model.safetensors", tmp_path / "again")
