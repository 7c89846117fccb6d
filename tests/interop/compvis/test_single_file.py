"""One file as CompVis laid it out: loaded by diffusers, read here, refused with the reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import load_file, save_file

from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.prediction import Clean, Epsilon, Velocity
from ldm.diffusion.samplers.ddim import ddim
from ldm.diffusion.schedules.linear import linear
from ldm.diffusion.schedules.scaled_linear import scaled_linear
from ldm.generation import TextToImage
from ldm.interop.compvis.layouts import SD1 as SD1_LAYOUT
from ldm.interop.compvis.settings import METADATA
from ldm.interop.compvis.single_file import pack, unpack
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.pipeline import read_pipeline
from ldm.random import normal, stream

SCALING_FACTOR = SD1_LAYOUT.scaling_factor
PARTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
# Stable Diffusion 1's heads, groups and text heads, which no shape shows, on small widths.
SD1 = {
    "unet": {
        "channels": [32, 64, 64], "attention": [True, True, False], "heads": [8, 8, 8],
        "transformer_depth": [1, 1, 1], "layers_per_level": 2, "context_dim": 64, "groups": 32,
    },
    "autoencoder": {
        "channels": [32, 32, 64, 64], "layers_per_level": 2, "groups": 32,
    },
    "tower": {"width": 64, "heads": 1},
    "scale": LatentScale([0.0], [1 / SCALING_FACTOR]),
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "stable diffusion 1": SD1,
    "linear, deep": {
        "unet": {
            "channels": [8, 12, 24], "attention": [False, True, True], "heads": [1, 3, 2],
            "transformer_depth": [1, 2, 3], "linear_projection": True,
        },
        "autoencoder": {"channels": [8, 8, 16, 16], "mid_attention": False},
    },
    "stable diffusion 2": {
        "unet": SD1["unet"] | {
            "channels": [64, 128, 128], "heads": [1, 2, 2], "linear_projection": True,
        },
        "autoencoder": SD1["autoencoder"],
        "tower": {"width": 64, "heads": 1, "quick_gelu": False, "pad_id": 0},
        "scale": SD1["scale"],
        "prediction": Velocity(),
    },
    "attention in the autoencoder": {
        "unet": {"channels": [8], "attention": [True], "heads": [2], "transformer_depth": [1]},
        "autoencoder": {"channels": [8, 16], "attention": [False, True], "layers_per_level": 2},
    },
}  # fmt: skip


UNET = "model.diffusion_model."
PROMPT = "wow, a cat"  # without "!", which is padding to transformers in Stable Diffusion 2


def drawn(model: TextToImage) -> torch.Tensor:
    return model(
        [PROMPT], torch.tensor([3]), sampler=ddim, steps=4, guidance=3.0, spacing="trailing"
    )


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part, file in PARTS.items()
        for name, value in load_file(folder / part / file).items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_is_bit_for_bit(make_model, name, tmp_path):
    model = make_model(**MODELS[name])
    export_pipeline(model, tmp_path / "a", factor=SCALING_FACTOR)
    unseen = pack(tmp_path / "a", tmp_path / "a.safetensors")
    assert (unseen == []) == (name == "stable diffusion 1")
    if name == "stable diffusion 2":
        (said,) = unseen
        assert said.startswith("scheduler: v-prediction (in ComfyUI, the node ModelSamplingDisc")
    unpack(tmp_path / "a.safetensors", tmp_path / "b")
    before, after = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    again = read_pipeline(tmp_path / "b")
    assert again.size_px == model.size_px
    images = drawn(model)
    assert images.std() > 0.05
    torch.testing.assert_close(drawn(again), images, rtol=0, atol=1e-4)
    # What was read is written to the same bits: the scale is this layout's already.
    export_pipeline(again, tmp_path / "c", factor=SCALING_FACTOR)
    pack(tmp_path / "c", tmp_path / "c.safetensors")
    first, second = load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "c.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["stable diffusion 1", "stable diffusion 2", "linear, deep"])
def test_diffusers_loads_the_file_with_equal_outputs(make_model, name, tmp_path, agree):
    model = make_model(**MODELS[name])
    export_pipeline(model, tmp_path / "folder", factor=SCALING_FACTOR)
    pack(tmp_path / "folder", tmp_path / "model.safetensors")
    pipeline = diffusers.StableDiffusionPipeline.from_single_file(
        str(tmp_path / "model.safetensors"), config=str(tmp_path / "folder"), local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.vae.config.scaling_factor == SCALING_FACTOR
    side = pipeline.unet.config.sample_size
    images = pipeline(
        [PROMPT], latents=normal(stream(0, "initial"), torch.tensor([3]), (4, side, side)),
        num_inference_steps=4, guidance_scale=3.0, output_type="pt",
    ).images  # fmt: skip
    agree(
        images * 2 - 1, drawn(model), component="StableDiffusionPipeline.from_single_file",
        configuration=name, tolerance=1e-4,
    )  # fmt: skip


def test_what_no_tensor_shows_is_listed(make_model, tmp_path):
    changes = {
        "unet": SD1["unet"] | {"heads": [2, 8, 8]},
        "tower": SD1["tower"] | {"quick_gelu": False},
        "schedule": linear(num_steps=1000, start=1e-4, end=0.02),
    }
    export_pipeline(make_model(**SD1 | changes), tmp_path / "a", factor=SCALING_FACTOR)
    assert pack(tmp_path / "a", tmp_path / "a.safetensors") == [
        "unet: attention_head_dim [2, 8, 8] (taken for [8, 8, 8])",
        "text_encoder: hidden_act gelu (taken for quick_gelu)",
        "scheduler: the noise schedule",
    ]
    unpack(tmp_path / "a.safetensors", tmp_path / "b")
    assert read_pipeline(tmp_path / "b").denoiser.schedule.description["name"] == "linear"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, make_model: Any) -> Path:
    """A file as it was published: no metadata, half precision."""
    folder = tmp_path_factory.mktemp("published")
    export_pipeline(make_model(**SD1), folder / "parts", factor=SCALING_FACTOR)
    pack(folder / "parts", folder / "model.safetensors")
    state = {k: v.half() for k, v in load_file(folder / "model.safetensors").items()}
    state["betas"] = load_file(folder / "model.safetensors")["betas"]
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_a_file_without_settings_is_of_stable_diffusion_1(make_model, published, tmp_path):
    unpack(published, tmp_path)
    read, expected = read_pipeline(tmp_path), make_model(**SD1).half().float()
    assert read.denoiser.network.config == expected.denoiser.network.config
    assert read.autoencoder.config == expected.autoencoder.config
    assert read.text_encoder.config["quick_gelu"] and read.size_px == 512
    assert read.scale.std.item() == pytest.approx(1 / SCALING_FACTOR)
    for name, value in expected.state_dict().items():
        if not name.startswith("scale."):
            torch.testing.assert_close(read.state_dict()[name], value, rtol=0, atol=1e-7, msg=name)


class Unwelcome:
    """What a pickle may hold: code that runs when it is read."""

    def __reduce__(self) -> Any:
        return print, ("this ran",)


def test_a_measured_scale_is_read_from_the_file(published, tmp_path):
    state = load_file(published) | {"scale_factor": torch.tensor(0.25)}
    save_file(state, tmp_path / "m.safetensors")
    unpack(tmp_path / "m.safetensors", tmp_path / "folder")
    assert read_pipeline(tmp_path / "folder").scale.std.item() == 4.0


def test_a_pickle_is_read_without_running_it(published, tmp_path, capsys):
    state = load_file(published)
    ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    more = {ids: torch.arange(12)[None], "model_ema.decay": torch.zeros(())}
    torch.save({"state_dict": state | more, "global_step": 470_000}, tmp_path / "full.ckpt")
    assert unpack(tmp_path / "full.ckpt", tmp_path / "full") == []
    unpack(published, tmp_path / "plain")
    found, expected = read_pipeline(tmp_path / "full"), read_pipeline(tmp_path / "plain")
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)
    torch.save({"state_dict": state, "callbacks": Unwelcome()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"could run code when read.*\.safetensors version"):
        unpack(tmp_path / "bad.ckpt", tmp_path / "bad")
    assert "this ran" not in capsys.readouterr().out and not (tmp_path / "bad").exists()


def test_of_averages_and_last_weights_one_is_chosen(published, tmp_path):
    state = load_file(published)
    places = {k: "model_ema." + k[6:].replace(".", "") for k in state if k.startswith(UNET)}
    assert "model_ema.diffusion_modelinput_blocks00weight" in places.values()
    averages = {place: state[name] + 1 for name, place in places.items()}
    averages["model_ema.num_updates"] = torch.tensor(7)
    file = tmp_path / "full.ckpt"
    torch.save({"state_dict": state | averages}, file)
    (taken,) = unpack(file, tmp_path / "default")
    assert "averaged weights (model_ema.*) were taken" in taken
    unpack(file, tmp_path / "ema", weights="ema")
    (taken,) = unpack(file, tmp_path / "raw", weights="raw")
    assert "weights of the last step were taken" in taken
    default, ema, raw = (
        load_file(tmp_path / name / "unet" / PARTS["unet"]) for name in ("default", "ema", "raw")
    )
    config = json.loads((tmp_path / "ema" / "unet" / "config.json").read_text())
    config["layers_per_block"] = 2
    for found, extract in ((ema, True), (default, True), (raw, False)):
        theirs = convert_ldm_unet_checkpoint(state | averages, config, extract_ema=extract)
        assert found.keys() == theirs.keys()
        assert all(torch.equal(found[name], theirs[name]) for name in found)
    averages.pop(places[f"{UNET}out.2.bias"])
    torch.save({"state_dict": state | averages}, file)
    with pytest.raises(ValueError, match=r"1 averages are missing \(.*out2bias.*weights=raw"):
        unpack(file, tmp_path / "short")
    unpack(file, tmp_path / "short", weights="raw")
    with pytest.raises(ValueError, match="no averages .*leave weights= out"):
        unpack(published, tmp_path / "none", weights="ema")


def test_the_prediction_is_asked_where_nothing_says_it(make_model, published, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "m.safetensors"
    export_pipeline(make_model(**MODELS["stable diffusion 2"]), folder, factor=SCALING_FACTOR)
    pack(folder, file)
    with pytest.raises(ValueError, match="its settings say .* v_prediction; leave prediction= out"):
        unpack(file, tmp_path / "x", prediction=Epsilon())
    state = load_file(file)
    save_file(state, file)  # which drops the settings, but not the mark
    unpack(file, tmp_path / "marked")
    state.pop("v_pred")
    save_file(state, file)
    with pytest.raises(ValueError, match=r"Add prediction=v .* or prediction=epsilon"):
        unpack(file, tmp_path / "unsaid")
    unpack(file, tmp_path / "v", prediction=Velocity())
    unpack(file, tmp_path / "base", prediction=Epsilon())
    unpack(published, tmp_path / "sd1", prediction=Velocity())
    for name, kind, size_px in (
        ("marked", Velocity, 768), ("v", Velocity, 768), ("base", Epsilon, 512),
        ("sd1", Velocity, 512),
    ):  # fmt: skip
        model = read_pipeline(tmp_path / name)
        assert isinstance(model.denoiser.prediction, kind) and model.size_px == size_px
    assert model.text_encoder.tokenize.pad_id == 49407
    two = read_pipeline(tmp_path / "v").text_encoder
    assert two.tokenize.pad_id == 0 and not two.config["quick_gelu"]


def test_zero_terminal_snr_shows_in_the_tables(make_model, tmp_path):
    schedule = scaled_linear(num_steps=1000, start=0.00085, end=0.012, zero_terminal_snr=True)
    parts = SD1 | {"prediction": Velocity(), "schedule": schedule}
    export_pipeline(make_model(**parts), tmp_path / "a", factor=SCALING_FACTOR)
    (said,) = pack(tmp_path / "a", tmp_path / "m.safetensors")
    assert said.startswith("scheduler: v-prediction and zsnr")
    state = load_file(tmp_path / "m.safetensors")
    assert state["betas"][-1] == 1.0 and {"v_pred", "ztsnr"} <= state.keys()
    state.pop("ztsnr")
    save_file({k: v.half() for k, v in state.items()}, tmp_path / "m.safetensors")
    unpack(tmp_path / "m.safetensors", tmp_path / "b")
    assert read_pipeline(tmp_path / "b").denoiser.schedule.description["zero_terminal_snr"]


def unpacked(file: Path) -> Path:
    folder = file.with_suffix("")
    unpack(file, folder)
    return folder


CHANGES: dict[str, tuple[str, torch.Tensor | None, str]] = {
    "unknown": ("control_model.x.weight", torch.zeros(1), r"control_model\.x\.weight"),
    "unknown in a part": (f"{UNET}extra.weight", torch.zeros(1), r"diffusion_model\.extra\.weight"),
    "missing": (
        f"{UNET}out.2.bias",
        None,
        r"m\.safetensors do .*; missing: model\.diffusion_model\.out\.2\.bias\.",
    ),
    "missing shape": (f"{UNET}out.2.weight", None, r"out\.2\.weight is missing"),
    "another size": (
        f"{UNET}out.2.bias",
        torch.zeros(5),
        r"size: model\.diffusion_model\.out\.2\.bias is \(5,\), not \(4,\)",
    ),
    "schedule": ("betas", torch.linspace(1e-4, 0.02, 1000), "noise schedule"),
    "two text towers": ("conditioner.embedders.1.model.x", torch.zeros(1), r"no text_encoder \("),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_does_not_fit_is_named(published, what, tmp_path):
    name, value, message = CHANGES[what]
    state = load_file(published)
    state.pop(name, None)
    save_file(state if value is None else state | {name: value}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        read_pipeline(unpacked(tmp_path / "m.safetensors"))


def test_a_file_that_lacks_a_part_says_which(published, tmp_path):
    state = {k: v for k, v in load_file(published).items() if not k.startswith("first_stage")}
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"holds no vae \(first_stage_model\.\*\)"):
        unpack(tmp_path / "m.safetensors", tmp_path / "out")
    save_file(load_file(published), tmp_path / "m.safetensors", metadata={METADATA: "{}"})
    with pytest.raises(ValueError, match="metadata ldm_config is damaged"):
        unpack(tmp_path / "m.safetensors", tmp_path / "out")


@pytest.mark.parametrize(
    "parts, setting",
    [
        ({"unet": {"pooling_heads": 4}}, "pooling_heads"),
        ({"prediction": Clean()}, "prediction"),
        ({"unet": {"adaptive_norm": True}}, "adaptive_norm"),
    ],
)
def test_what_the_layout_has_no_place_for_is_refused(make_model, parts, setting, tmp_path):
    export_pipeline(make_model(**parts), tmp_path / "folder")
    with pytest.raises(ValueError, match=rf"{setting}= of this model has no place"):
        pack(tmp_path / "folder", tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_the_tables_of_the_process_are_those_of_its_betas(published):
    state = {k: v.double() for k, v in load_file(published).items() if "." not in k}
    assert len(state) == 12
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    torch.testing.assert_close(state["betas"], betas, rtol=1e-5, atol=0)
    alpha_bar = torch.cumprod(1 - betas, dim=0)
    coef1, coef2 = state["posterior_mean_coef1"], state["posterior_mean_coef2"]
    # The posterior's mean of a constant picture without noise is that picture's own level.
    level = coef1 + coef2 * alpha_bar.sqrt()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    torch.testing.assert_close(level, before.sqrt(), rtol=2e-3, atol=1e-3)


def test_foreign_folders_are_packed_too(published, tmp_path):
    """Sharded or half weights and settings left out, as diffusers writes them."""
    unpack(published, tmp_path / "a")
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "a" / "unet")
    shutil.rmtree(tmp_path / "a" / "unet")
    unet.half().save_pretrained(tmp_path / "a" / "unet", max_shard_size="300KB")
    assert len(list((tmp_path / "a" / "unet").glob("*.safetensors"))) > 1
    pack(tmp_path / "a", tmp_path / "b.safetensors")
    expected = load_file(published)
    found = load_file(tmp_path / "b.safetensors")
    assert found.keys() == expected.keys()
    for name in found:
        if name.startswith(UNET):
            assert torch.equal(found[name], expected[name]), name
    assert json.loads((tmp_path / "a" / "unet" / "config.json").read_text())["_class_name"]
