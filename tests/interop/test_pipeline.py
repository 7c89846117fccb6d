"""Whole models: what we export draws our picture in diffusers, what others wrote draws theirs."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.prediction import Velocity
from ldm.diffusion.samplers.ddim import ddim
from ldm.generation import TextToImage
from ldm.interop.condition_encoders import read_towers
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.pipeline import read_pipeline, write_pipeline
from ldm.random import normal, stream
from ldm.text.clip import ClipText, ClipTowers
from ldm.text.clip_text_tower import ClipTextTower

PROMPTS = ["wow! a cat!", "a large red circle on a navy background"]
PLAIN = ["wow, a cat", PROMPTS[1]]  # for transformers where "!" is padding
NEGATIVE = "a blurry, green square"
SEEDS = torch.tensor([3, 11])


def ours(model: TextToImage, *, steps: int = 5) -> torch.Tensor:
    """Pictures (2, 3, H, W) in [-1, 1]."""
    prompts = PROMPTS if model.text_encoder.tokenize.pad_id else PLAIN
    return model(
        prompts, SEEDS, sampler=ddim, steps=steps, guidance=3.0, spacing="trailing",
        negative=NEGATIVE,
    )  # fmt: skip


def theirs(pipeline: Any, *, steps: int = 5) -> torch.Tensor:
    """The same from the same noise."""
    side = pipeline.unet.config.sample_size
    latents = normal(stream(0, "initial"), SEEDS, (4, side, side)).float()
    prompts = PROMPTS if pipeline.tokenizer.pad_token_id else PLAIN
    images = pipeline(
        prompts, negative_prompt=[NEGATIVE] * 2, latents=latents, num_inference_steps=steps,
        guidance_scale=3.0, output_type="pt",
    ).images  # fmt: skip
    return images * 2 - 1


def load(folder: Path) -> Any:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"unet": {"pooling_heads": 4, "linear_projection": True}, "prediction": Velocity()},
        {"tower": {"pad_id": 0, "quick_gelu": False}},
        {
            "scale": LatentScale([0.0], [1 / 0.18215]),
            "autoencoder": {"channels": [8, 16], "attention": [False, True]},
        },
    ],
    ids=["per channel", "pooled text, v", "padded with 0", "scalar"],
)
def test_the_exported_folder_draws_our_picture_in_diffusers(
    make_model, parts, tmp_path, agree, request
):
    model = make_model(**parts)
    export_pipeline(model, tmp_path)
    pipeline = load(tmp_path)
    assert pipeline.safety_checker is None and pipeline.vae.config.scaling_factor == 1.0
    assert pipeline.tokenizer.model_max_length == 12
    images = ours(model)
    assert images.std() > 0.05
    agree(
        images,
        theirs(pipeline),
        component="StableDiffusionPipeline",
        configuration=f"exported, {request.node.callspec.id}",
        tolerance=1e-4,  # 1/255 is 8e-3
    )
    # And back: the same model, its statistics now in the autoencoder.
    torch.testing.assert_close(ours(read_pipeline(tmp_path)), images, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, make_model: Any) -> Path:
    """A folder in Stable Diffusion 1's layout that diffusers wrote, with weights of its own."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(1)
    export_pipeline(make_model(), folder / "ours")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "ours" / "tokenizer")
    diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=12,
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=64,
        ),
        text_encoder=transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=3,
                max_position_embeddings=12, projection_dim=12,
            )
        ),
        tokenizer=tokenizer,
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            timestep_spacing="trailing", steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder / "theirs")  # fmt: skip
    return folder / "theirs"


def test_a_published_folder_draws_their_picture_here(published):
    model = read_pipeline(published)
    assert model.size_px == 64
    assert model.scale.std.item() == pytest.approx(1 / 0.18215)
    expected = theirs(load(published))
    torch.testing.assert_close(ours(model), expected, rtol=0, atol=1e-4)


def test_towers_come_in_both_layouts(make_model, published, tmp_path):
    assert isinstance(read_towers(published), ClipTextTower)
    model = read_pipeline(published)
    write_pipeline(model, tmp_path / "alone")
    assert isinstance(read_towers(tmp_path / "alone"), ClipTextTower)
    assert (tmp_path / "alone" / "tokenizer" / "vocab.json").is_file()
    torch.testing.assert_close(ours(read_pipeline(tmp_path / "alone")), ours(model))
    pair = ClipTowers(
        embed_dim=8,
        vision={"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        text={"context_length": 12, "vocab_size": 49408, "width": 12, "heads": 3, "layers": 1},
        quick_gelu=False, states="last",
    )  # fmt: skip
    model = make_model()
    model.text_encoder = ClipText(pair)
    write_pipeline(model, tmp_path / "pair")
    assert isinstance(read_towers(tmp_path / "pair"), ClipTowers)
    images = ours(model)
    torch.testing.assert_close(ours(read_pipeline(tmp_path / "pair")), images)
    export_pipeline(model, tmp_path / "exported")
    torch.testing.assert_close(theirs(load(tmp_path / "exported")), images, rtol=0, atol=1e-4)


def changed(file: Path, **options: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | options))


def test_what_is_missing_or_does_not_fit_is_named(published, tmp_path):
    with pytest.raises(ValueError, match=r"model_index\.json is missing"):
        read_pipeline(tmp_path)
    folder = tmp_path / "copy"
    shutil.copytree(published, folder)
    changed(folder / "unet" / "config.json", sample_size=None)
    with pytest.raises(ValueError, match="sample_size = None"):
        read_pipeline(folder)
    changed(folder / "model_index.json", text_encoder_2=[None, None], image_encoder=None)
    with pytest.raises(ValueError, match="sample_size = None"):  # null stands for none
        read_pipeline(folder)
    changed(folder / "model_index.json", text_encoder_2=["transformers", "CLIPTextModel"])
    with pytest.raises(ValueError, match="text_encoder_2/ is missing"):
        read_pipeline(folder)
    changed(folder / "model_index.json", image_encoder=["transformers", "CLIPVisionModel"])
    with pytest.raises(ValueError, match="conditioned by pictures"):
        read_pipeline(folder)
    changed(folder / "model_index.json", text_encoder_2=None, image_encoder=None)
    shutil.rmtree(folder / "vae")
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(ValueError, match="vae/, text_encoder/ are missing"):
        read_pipeline(folder)


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"unet": {"context_dim": 10}}, "tokens 10 wide, and the text encoder's are 12"),
        ({"unet": {"in_channels": 7}}, "maps 7 channels to 4"),
        ({"unet": {"vector_dim": 8}}, "a vector of 8 numbers"),
    ],
)
def test_parts_of_different_models_are_refused(make_model, parts, message, tmp_path):
    model = make_model(**parts)
    with pytest.raises(ValueError, match=message):
        export_pipeline(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_pipeline(model, tmp_path / "ours")
    with pytest.raises(ValueError, match=message):
        read_pipeline(tmp_path / "ours")
