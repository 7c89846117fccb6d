"""Stable Diffusion XL whole: a published folder draws its picture here, and ours theirs."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from ldm.diffusion.latent_scale import LatentScale
from ldm.diffusion.samplers.ddim import ddim
from ldm.generation import TextToImage
from ldm.interop.condition_encoders import read_condition_encoder, write_condition_encoder
from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.pipeline import read_pipeline, write_pipeline
from ldm.interop.transformers_tokenizer import write_tokenizer
from ldm.random import normal, stream
from ldm.text.clip import ClipTowers
from ldm.text.clip_text_tower import ClipTextTower
from ldm.text.sdxl_text import SdxlText
from tests.parity import Agree

PROMPTS = ["wow, a cat", "a large red circle on a navy background"]
NEGATIVE = "a blurry, green square"
SEEDS = torch.tensor([3, 11])
SIZES = (96.0, 80.0, 4.0, 0.0, 64.0, 48.0)
UNET = {"context_dim": 20, "vector_dim": 8 + 6 * 256}


def ours(model: TextToImage, **settings: Any) -> torch.Tensor:
    """Pictures (2, 3, H, W) in [-1, 1]."""
    return model(
        PROMPTS, SEEDS, sampler=ddim, steps=4, guidance=3.0, spacing="trailing", **settings
    )


def theirs(pipeline: Any, **settings: Any) -> torch.Tensor:
    """The same from the same noise."""
    size = (settings.get("height", 64), settings.get("width", 64))
    latents = normal(stream(0, "initial"), SEEDS, (4, size[0] // 8, size[1] // 8)).float()
    images = pipeline(
        PROMPTS, latents=latents, num_inference_steps=4, guidance_scale=3.0, output_type="pt",
        **settings,
    ).images  # fmt: skip
    return images * 2 - 1


def load(folder: Path) -> Any:
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(
        folder, local_files_only=True, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tower(width: int, embed_dim: int | None, pad_id: int) -> ClipTextTower:
    return ClipTextTower(
        context_length=12, vocab_size=49408, width=width, heads=2, layers=2, mlp_ratio=2.0,
        embed_dim=embed_dim, quick_gelu=embed_dim is None, pad_id=pad_id,
    )  # fmt: skip


@pytest.fixture
def model(make_model: Any) -> TextToImage:
    model = make_model(unet=UNET)
    model.text_encoder = SdxlText(
        text_encoder=tower(8, None, 49407), text_encoder_2=tower(12, 8, 0), num_sizes=6,
        zero_null=False,
    ).requires_grad_(False)  # fmt: skip
    return model


def text_model(kind: Any, width: int, embed_dim: int, activation: str) -> Any:
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=12, projection_dim=embed_dim, hidden_act=activation,
    )  # fmt: skip
    found = kind(config).eval()
    for name, parameter in found.named_parameters():  # theirs begin near zero
        if "embedding" in name or "bias" in name:
            torch.nn.init.normal_(parameter)
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Stable Diffusion XL's layout that diffusers wrote, with weights of its own."""
    folder = tmp_path_factory.mktemp("published_xl")
    torch.manual_seed(1)
    tokenizers = []
    for name, pad_id in (("tokenizer", 49407), ("tokenizer_2", 0)):
        write_tokenizer(folder / name, context_length=12, pad_id=pad_id)
        tokenizers.append(transformers.CLIPTokenizer.from_pretrained(folder / name))
    diffusers.StableDiffusionXLPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=20,
            transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4),
            use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=256, projection_class_embeddings_input_dim=8 + 6 * 256,
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=64, scaling_factor=0.13025,
        ),
        text_encoder=text_model(transformers.CLIPTextModel, 8, 8, "quick_gelu"),
        text_encoder_2=text_model(transformers.CLIPTextModelWithProjection, 12, 8, "gelu"),
        tokenizer=tokenizers[0], tokenizer_2=tokenizers[1],
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            timestep_spacing="trailing", steps_offset=1,
        ),
        force_zeros_for_empty_prompt=True, add_watermarker=False,
    ).save_pretrained(folder / "theirs")  # fmt: skip
    return folder / "theirs"


@pytest.mark.parametrize("negative", ["", NEGATIVE], ids=["zeros", "negative"])
def test_a_published_folder_draws_their_picture_here(
    published: Path, negative: str, agree: Agree
) -> None:
    model = read_pipeline(published)
    assert isinstance(model.text_encoder, SdxlText) and model.text_encoder.zero_null
    agree(
        ours(model, negative=negative),
        theirs(load(published), negative_prompt=[negative] * 2 if negative else None),
        component="StableDiffusionXLPipeline",
        configuration="negative prompt" if negative else "no negative prompt",
        tolerance=1e-4,
    )


def test_a_picture_that_is_no_square_is_theirs_too(published: Path) -> None:
    # By default both tell the networks of a whole picture of this size.
    expected = theirs(load(published), height=48, width=96)
    images = ours(read_pipeline(published), size=(48, 96))
    assert images.shape == (2, 3, 48, 96)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-4)


def test_sizes_reach_the_unet_in_their_order(published: Path) -> None:
    model = read_pipeline(published)
    expected = theirs(
        load(published), height=64, width=64, original_size=SIZES[:2],
        crops_coords_top_left=SIZES[2:4], target_size=SIZES[4:],
    )  # fmt: skip
    found = ours(model, sizes=SIZES, negative_sizes=SIZES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(found, ours(model), atol=1e-2)
    with pytest.raises(ValueError, match=r"is told 6, as \[64, 64, 0, 0, 64, 64\] in sizes="):
        ours(model, sizes=SIZES[:4])


def test_the_exported_folder_draws_our_picture_in_diffusers(
    model: TextToImage, tmp_path: Path
) -> None:
    export_pipeline(model, tmp_path)
    images = ours(model, negative=NEGATIVE)
    assert images.std() > 0.05
    pipeline = load(tmp_path)
    assert not pipeline.config.force_zeros_for_empty_prompt
    expected = theirs(pipeline, negative_prompt=[NEGATIVE] * 2)
    torch.testing.assert_close(expected, images, rtol=0, atol=1e-4)
    # Without a negative prompt both encode "", as it was trained.
    torch.testing.assert_close(theirs(pipeline), ours(model), rtol=0, atol=1e-4)
    again = read_pipeline(tmp_path)
    torch.testing.assert_close(ours(again, negative=NEGATIVE), images, rtol=0, atol=1e-4)


def test_towers_trained_here_are_written_with_their_image_towers(
    model: TextToImage, tmp_path: Path
) -> None:
    text = {"context_length": 12, "vocab_size": 49408, "heads": 2, "layers": 2}
    vision = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    first, second = (
        ClipTowers(
            embed_dim=8, vision=vision, text=text | {"width": width}, quick_gelu=False,
            states="last",
        )
        for width in (8, 12)
    )  # fmt: skip
    model.text_encoder = SdxlText(
        text_encoder=first, text_encoder_2=second, num_sizes=6, zero_null=False
    )
    model.eval().requires_grad_(False)
    write_pipeline(model, tmp_path / "run")
    for part in ("text_encoder", "text_encoder_2"):
        assert (tmp_path / "run" / part / "open_clip_model.safetensors").is_file()
    again = read_pipeline(tmp_path / "run")
    assert isinstance(again.text_encoder, SdxlText) and not again.text_encoder.zero_null
    torch.testing.assert_close(ours(again), ours(model), rtol=0, atol=0)
    export_pipeline(model, tmp_path / "exported")
    found = theirs(load(tmp_path / "exported"))
    torch.testing.assert_close(found, ours(model), rtol=0, atol=1e-4)


def test_the_refiner_has_one_tower_and_an_aesthetic_score(
    model: TextToImage, tmp_path: Path
) -> None:
    encoder = SdxlText(
        text_encoder=None, text_encoder_2=tower(12, 8, 0), num_sizes=5, zero_null=True
    )
    model.text_encoder = encoder
    with pytest.raises(ValueError, match="a vector of 1544 numbers .* gives a vector of 1288"):
        export_pipeline(model, tmp_path / "not")
    index = write_condition_encoder(encoder, tmp_path / "text", for_transformers=True)
    assert index["text_encoder"] == [None, None] and index["requires_aesthetics_score"]
    (tmp_path / "text" / "model_index.json").write_text(json.dumps(index))
    again = read_condition_encoder(tmp_path / "text")
    ids, sizes = encoder.tokenize(["a cat"]), torch.tensor([[64, 64, 0, 0, 6.0]])
    for mine, other in zip(encoder(ids, sizes), again(ids, sizes), strict=True):
        torch.testing.assert_close(mine, other)
    folder = tmp_path / "text" / "text_encoder_2"
    their_tower = transformers.CLIPTextModelWithProjection.from_pretrained(folder).eval()
    out = their_tower(ids[:, 0], output_hidden_states=True)
    condition = encoder(ids, sizes)
    torch.testing.assert_close(condition.tokens, out.hidden_states[-2], rtol=0, atol=1e-5)
    torch.testing.assert_close(condition.vector[:, :8], out.text_embeds, rtol=0, atol=1e-5)


def test_scale_and_statistics_survive(make_model: Any, tmp_path: Path, model: TextToImage) -> None:
    model.scale = LatentScale([0.0], [1 / 0.13025])
    export_pipeline(model, tmp_path)
    torch.testing.assert_close(theirs(load(tmp_path)), ours(model), rtol=0, atol=1e-4)
