"""Published CLIP pairs against the programs that read them otherwise."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ldm.features.prepared import PreparedFeatures
from ldm.interop.clip_pair import read_clip_pair
from ldm.text.clip import ClipTowers
from tests.interop.tiny_clip import write_tiny_clip

CAPTIONS = ["a red circle", "", "two dogs under a very blue sky! " * 4]


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def published(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny-clip")
    model = write_tiny_clip(folder, hidden_act=request.param)
    return folder, model, request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For tests that need no reference; copied by those that change it."""
    folder = tmp_path_factory.mktemp("tiny-clip")
    write_tiny_clip(folder)
    return folder


def pictures(height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator).byte()


def image_features(pair):
    towers = pair.towers
    embed_dim = towers.config["embed_dim"]
    return PreparedFeatures(
        towers.model.visual, pair.preprocessing, num_features=embed_dim, protocol={}
    )


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (50, 81)])
@torch.no_grad()
def test_pictures_are_seen_as_by_transformers_from_8_bits_on(published, size, agree):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder, model, activation = published
    levels = pictures(*size)
    shown = [Image.fromarray(np.array(picture.permute(1, 2, 0))) for picture in levels]
    prepared = CLIPImageProcessorPil.from_pretrained(folder)(shown, return_tensors="pt")
    expected = model.get_image_features(**prepared).pooler_output
    pair = read_clip_pair(folder / "model.safetensors")
    found = image_features(pair)(levels.float() / 127.5 - 1)
    assert pair.activation == activation
    agree(found, expected, component="CLIP pair, pictures",
          configuration=f"{activation}, {size[0]} x {size[1]} px", tolerance=1e-5)  # fmt: skip


@torch.no_grad()
def test_captions_are_read_as_by_transformers_whatever_the_padding(published, agree):
    folder, model, activation = published
    pair = read_clip_pair(folder / "model.safetensors")
    padded_with_end = pair.towers.tokenize(CAPTIONS)  # as transformers pads
    padded_with_zero = open_clip.SimpleTokenizer(context_length=16)(CAPTIONS)
    assert not torch.equal(padded_with_end, padded_with_zero)
    expected = model.get_text_features(padded_with_end).pooler_output
    for ids in (padded_with_end, padded_with_zero):
        found = pair.towers.model.encode_text(ids)
        agree(found, expected, component="CLIP pair, captions", configuration=activation,
              tolerance=1e-5)  # fmt: skip
    assert float((found[0] - found[2]).abs().max()) > 0.1


@torch.no_grad()
def test_the_score_is_transformers(published, agree):
    from torch.nn.functional import normalize

    folder, model, activation = published
    pair = read_clip_pair(folder / "model.safetensors")
    images, ids = pictures(32, 32)[[0, 1, 0]].float() / 127.5 - 1, pair.towers.tokenize(CAPTIONS)
    whole = model(pixel_values=pair.preprocessing(images), input_ids=ids)
    expected = whole.logits_per_image.diag() / model.logit_scale.exp()
    image, text = image_features(pair)(images), pair.towers.model.encode_text(ids)
    found = (normalize(image, dim=-1) * normalize(text, dim=-1)).sum(-1)
    assert float(expected.std()) > 1e-3
    agree(found, expected, component="CLIP pair, cosine", configuration=activation, tolerance=1e-5)


def test_the_wrong_end_token_of_older_files_changes_nothing(tmp_path):
    """Files from before 2023 say eos_token_id 2; transformers then looks for the largest id."""
    model = write_tiny_clip(tmp_path, eos=2)
    pair = read_clip_pair(tmp_path / "model.safetensors")
    ids = pair.towers.tokenize(CAPTIONS)
    expected = model.get_text_features(ids).pooler_output
    torch.testing.assert_close(pair.towers.model.encode_text(ids), expected, rtol=1e-5, atol=1e-5)


def towers(quick_gelu=False):
    torch.manual_seed(0)
    return ClipTowers(
        embed_dim=16,
        vision={"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        text={"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
        quick_gelu=quick_gelu,
        states="last",
    )


def test_a_folder_of_open_clip_with_its_own_statistics(tmp_path):
    made = towers(quick_gelu=True)
    made.save(tmp_path)
    file = tmp_path / "open_clip_config.json"
    whole = json.loads(file.read_text())
    whole["preprocess_cfg"] |= {"interpolation": "bilinear", "resize_mode": "squash"}
    file.write_text(json.dumps(whole))
    pair = read_clip_pair(tmp_path / "open_clip_model.safetensors", activation="quick_gelu")
    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    shown = pair.preprocessing(pictures(32, 32).float() / 127.5 - 1)
    ids = pair.towers.tokenize(CAPTIONS)
    model = pair.towers.eval().model
    torch.testing.assert_close(model.encode_image(shown), theirs.encode_image(shown))
    torch.testing.assert_close(model.encode_text(ids), theirs.encode_text(ids))
    assert pair.preprocessing.protocol["resize"] == {
        "kernel": "bilinear, Pillow on 8 bits", "antialias": True, "size_px": [32, 32],
        "shape": "each side by itself",
    }  # fmt: skip
    assert pair.preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_single_file_with_the_name_of_its_model(prefix, tmp_path, monkeypatch):
    made = towers()
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: made.config)
    state = {prefix + name: value for name, value in made.model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "vit.pt")
    pair = read_clip_pair(tmp_path / "vit.pt", model="tiny")
    assert pair.activation == "gelu" and pair.preprocessing.shape == "crop_even"
    ids = pair.towers.tokenize(CAPTIONS)
    expected = made.eval().model.encode_text(ids)
    assert torch.equal(pair.towers.eval().model.encode_text(ids), expected)


def test_openais_weights_with_plain_gelu_are_refused(tmp_path, monkeypatch, folder):
    made = towers()
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: made.config)
    more = dict.fromkeys(("input_resolution", "context_length", "vocab_size"), torch.tensor(32))
    torch.save(made.model.state_dict() | more, tmp_path / "vit.pt")
    with pytest.raises(ValueError, match=r"OpenAI's weights.*model=tiny has gelu.*quickgelu"):
        read_clip_pair(tmp_path / "vit.pt", model="tiny")
    made.config["quick_gelu"] = True
    assert read_clip_pair(tmp_path / "vit.pt", model="tiny").activation == "quick_gelu"
    with pytest.raises(ValueError, match="activation=gelu was asked for.*quick_gelu"):
        read_clip_pair(folder / "model.safetensors", activation="gelu")


def test_a_file_without_a_description_needs_a_name(tmp_path):
    torch.save({}, tmp_path / "vit.pt")
    with pytest.raises(ValueError, match=r"nothing beside .*vit.pt says.*model=ViT-L-14-quickgelu"):
        read_clip_pair(tmp_path / "vit.pt")
    with pytest.raises(ValueError, match="'ViT-L14' is no model.*did you mean ViT-L-14"):
        read_clip_pair(tmp_path / "vit.pt", model="ViT-L14")
    with pytest.raises(ValueError, match="another tokenizer"):
        read_clip_pair(tmp_path / "vit.pt", model="ViT-B-16-SigLIP")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("config.json", {"model_type": "siglip"}, "describes a 'siglip'"),
        ("config.json", {"vision_config": {"hidden_act": "relu"}}, "hidden_act = 'relu'"),
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}, "towers of different"),
        ("config.json", {"projection_dim": 25}, "do not fit its settings.*text_projection"),
        ("preprocessor_config.json", {"size": 64}, "resized to 32 px"),
        ("preprocessor_config.json", {"do_center_crop": False}, "cropped to a square"),
    ],
)
def test_what_cannot_be_read_is_named(folder, tmp_path, name, change, message):
    shutil.copytree(folder, tmp_path / "changed")
    file = tmp_path / "changed" / name
    config = json.loads(file.read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_clip_pair(file.parent / "model.safetensors")


def test_missing_parts_are_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "changed")
    file = tmp_path / "changed" / "model.safetensors"
    state = load_file(file)
    save_file({k: v for k, v in state.items() if "pre_layrnorm" not in k}, file)
    with pytest.raises(ValueError, match=r"missing: visual.ln_pre"):
        read_clip_pair(file)
    (file.parent / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="preprocessor_config.json is missing"):
        read_clip_pair(file)
