"""What is noted of pictures and captions in a published CLIP."""

import pytest
import torch
from torch.nn.functional import normalize

from ldm.apps.evaluations.observers.clip import clip, clip_image
from tests.apps.evaluations.given import Given, block, weights_in
from tests.interop.tiny_clip import write_tiny_clip

CAPTIONS = ["a red circle", "", "a blue square and two yellow dogs " * 5]
FOLDER = "clip-vit-large-patch14"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    weights_dir = tmp_path_factory.mktemp("weights")
    (weights_dir / FOLDER).mkdir()
    model = write_tiny_clip(weights_dir / FOLDER)
    return weights_in(weights_dir), model


@torch.no_grad()
def test_rows_are_transformers_embeddings_and_say_what_was_cut(published):
    setting, model = published
    observer = clip(setting, file="clip_vit_l14")
    images = block(3, captions=CAPTIONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = observer(images)
    ids = observer.towers.tokenize(CAPTIONS)
    assert ids[2, -1] == 49407  # the end token stays
    pixels = observer.image.preprocessing(images.images)
    for name, found in (
        ("image", model.get_image_features(pixel_values=pixels)),
        ("text", model.get_text_features(ids)),
    ):
        expected = normalize(found.pooler_output, dim=-1)
        torch.testing.assert_close(rows[name], expected, rtol=1e-5, atol=1e-6)
    assert rows["truncated"].tolist() == [False, False, True]


def test_names_of_one_file_are_one_network_and_the_image_tower_goes_alone(published):
    setting, _ = published
    pair = clip(setting, file="clip_vit_l14")
    same = clip(setting, file=FOLDER)
    alone = clip_image(setting, file=f"{FOLDER}/model.safetensors")
    assert same.protocol == pair.protocol and same.towers is pair.towers
    assert alone.features.network is pair.towers.model.visual
    images = block(2, captions=["", ""])
    features = alone(images)["features"]
    assert features.shape == (2, alone.num_features) == (2, 24)
    torch.testing.assert_close(normalize(features, dim=-1), pair(images)["image"])


def test_the_protocol_says_activation_weights_and_preprocessing(published):
    setting, _ = published
    protocol = clip(setting, file=FOLDER).protocol
    assert protocol["activation"] == "quick_gelu" and len(protocol["features_hash"]) == 16
    assert protocol["unpublished_weights"] == f"{FOLDER}/model.safetensors"
    assert protocol["towers"] == "image 2 layers of 48, text 2 layers of 32, joint width 24"
    assert protocol["resize"]["size_px"] == [32, 32] and protocol["mean"][0] == 0.48145466
    with pytest.raises(ValueError, match="activation=gelu was asked for"):
        clip(setting, file=FOLDER, activation="gelu")


def test_settings_beside_the_weights_change_protocol_and_rows(tmp_path):
    (tmp_path / FOLDER).mkdir()
    write_tiny_clip(tmp_path / FOLDER)
    config = tmp_path / FOLDER / "config.json"
    images = block(1)
    protocols, rows = [], []
    for heads in (2, 4):
        config.write_text(
            config.read_text().replace('heads": 2', f'heads": {heads}')  # the weights fit both
        )
        for make in (clip, clip_image):
            observer = make(weights_in(tmp_path), file=FOLDER)
            protocols.append(observer.protocol)
            rows.append(next(iter(observer(images).values())))
    for two, four in ((0, 2), (1, 3)):
        assert not torch.equal(rows[two], rows[four])
        differing = {key for key in protocols[two] if protocols[two][key] != protocols[four][key]}
        assert differing == {"settings_hash"}


def test_what_is_missing_is_named(published, tmp_path):
    setting, _ = published
    with pytest.raises(ValueError, match="damaged or another file"):
        clip(Given(weights_dir=setting.weights_dir), file=FOLDER)
    (tmp_path / FOLDER).mkdir()
    for name in ("clip_vit_l14", FOLDER):
        with pytest.raises(ValueError, match=r"model.safetensors, config.json.* are missing"):
            clip(Given(weights_dir=str(tmp_path)), file=name)
    with pytest.raises(ValueError, match="No pretrained file is called 'clip'"):
        clip(Given(weights_dir=str(tmp_path)), file="clip")
