"""Our text tower and tokenizer are transformers': same ids, same states, folders both ways."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from ldm.interop.transformers import read_text_encoder, write_text_encoder
from ldm.interop.transformers_tokenizer import read_pad_id, write_tokenizer
from ldm.text.clip import ClipText, ClipTowers
from ldm.text.clip_text_tower import ClipTextTower
from ldm.text.tokenizer import END_OF_TEXT, VOCABULARY_SIZE, ClipTokenizer
from tests.parity import Agree

TEXT = {"context_length": 12, "vocab_size": VOCABULARY_SIZE, "width": 12, "heads": 3, "layers": 2}
VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
CAPTIONS = [
    "", "a large red circle on a navy background", "wow! a cat!", "!!", "It's 12:30, o'clock...",
    "Ünïcode, 北京 & a naïve café", "two   spaces\nand a line", "word " * 30, "!" * 40,
]  # fmt: skip


def away_from_zero(network: nn.Module) -> None:
    """Norms and biases too, where ones and zeros would hide a wrong name."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def text_encoder(*, quick_gelu: bool = False, states: str = "last", **changes: object) -> ClipText:
    torch.manual_seed(0)
    towers = ClipTowers(
        embed_dim=8, vision=VISION, text=TEXT | changes, quick_gelu=quick_gelu, states=states
    )
    away_from_zero(towers)
    return ClipText(towers)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, context_length=12, pad_id=END_OF_TEXT)
    return folder


def test_the_tokenizer_gives_the_same_ids_in_transformers(tokenizer_folder: Path) -> None:
    theirs = transformers.CLIPTokenizer.from_pretrained(tokenizer_folder)
    assert theirs.model_max_length == 12 and theirs.pad_token_id == 49407
    found = theirs(
        CAPTIONS, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(found, ClipTokenizer(12)(CAPTIONS))
    assert found[2, :6].tolist() == [49406, 2781, 256, 320, 2368, 256]  # "wow! a cat!"


def test_zeros_for_padding_as_in_stable_diffusion_2(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, context_length=12, pad_id=0)
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    words = [caption for caption in CAPTIONS if "!" not in caption]
    found = theirs(
        words, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    ).input_ids
    assert found[0].tolist() == [49406, 49407] + [0] * 10
    assert torch.equal(found, ClipTokenizer(12, 0)(words))
    # Theirs loses exclamation marks then, ours does not.
    assert ClipTokenizer(8, 0)(["wow! a cat!"])[0].tolist() == [
        49406, 2781, 256, 320, 2368, 256, 49407, 0
    ]  # fmt: skip


def test_the_tokenizer_of_transformers_is_recognised(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    assert read_pad_id(tmp_path) == END_OF_TEXT  # none: the usual one
    assert read_pad_id(tokenizer_folder) == END_OF_TEXT
    theirs = transformers.CLIPTokenizer.from_pretrained(tokenizer_folder)
    theirs.save_pretrained(tmp_path / "same")
    assert read_pad_id(tmp_path / "same") == END_OF_TEXT
    theirs.pad_token = "!"
    theirs.save_pretrained(tmp_path / "zeros")
    assert read_pad_id(tmp_path / "zeros") == 0
    theirs.pad_token = "a"
    theirs.save_pretrained(tmp_path / "other_pad")
    with pytest.raises(ValueError, match="pad_token = 'a' is not supported"):
        read_pad_id(tmp_path / "other_pad")
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    with pytest.raises(ValueError, match="is not CLIP's vocabulary"):
        read_pad_id(other)


@pytest.mark.parametrize("states", ["last", "penultimate"])
@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_states_are_equal_in_transformers(
    states: str, quick_gelu: bool, dtype: torch.dtype, tolerance: float, tmp_path: Path,
    agree: Agree,
) -> None:  # fmt: skip
    ours = text_encoder(quick_gelu=quick_gelu, states=states, mlp_ratio=3.0)
    write_text_encoder(ours, tmp_path)
    assert all(name.startswith("text_model.") for name in load_file(tmp_path / "model.safetensors"))
    theirs, loading = transformers.CLIPTextModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    ids = ours.tokenize(CAPTIONS)
    found = ours.to(dtype)(ids).tokens
    expected = theirs.to(dtype).eval()(ids).last_hidden_state
    assert found.std() > 0.1
    assert theirs.config.num_hidden_layers == (2 if states == "last" else 1)
    name = f"{states} block, {'quick_gelu' if quick_gelu else 'gelu'}"
    agree(found, expected, component="CLIPTextModel", configuration=name, tolerance=tolerance)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_text_model_of_transformers_is_read(quick_gelu: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=12, hidden_act="quick_gelu" if quick_gelu else "gelu",
    )  # fmt: skip
    theirs = transformers.CLIPTextModel(config).eval()
    away_from_zero(theirs)
    theirs.save_pretrained(tmp_path / "text_encoder")
    assert not (tmp_path / "text_encoder" / "open_clip_config.json").exists()
    for folder in (tmp_path / "text_encoder", tmp_path):
        tower = read_text_encoder(folder, pad_id=END_OF_TEXT)
        assert isinstance(tower, ClipTextTower)
        ours = ClipText(tower).double()
        ids = ours.tokenize(CAPTIONS)
        expected = theirs.double()(ids).last_hidden_state
        torch.testing.assert_close(ours(ids).tokens, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="without an image tower"):
        ClipTowers.load(tmp_path / "text_encoder")


def test_what_is_written_comes_back_bit_for_bit(tmp_path: Path) -> None:
    ours = text_encoder()
    write_text_encoder(ours, tmp_path)
    read = ClipText(read_text_encoder(tmp_path, pad_id=END_OF_TEXT))
    for name, value in ours.state_dict().items():
        assert torch.equal(read.state_dict()[name], value), name
    # Others have no prefix, a buffer of positions, or the projection too.
    state = load_file(tmp_path / "model.safetensors")
    plain = {name.removeprefix("text_model."): value for name, value in state.items()}
    more = {"embeddings.position_ids": torch.arange(12)[None]}
    more["text_projection.weight"] = torch.zeros(8, 12)
    save_file(plain | more, tmp_path / "model.safetensors")
    again = ClipText(read_text_encoder(tmp_path, pad_id=END_OF_TEXT))
    torch.testing.assert_close(again.state_dict(), ours.state_dict(), rtol=0, atol=0)


def test_what_transformers_lacks_is_refused_by_name(tmp_path: Path) -> None:
    for changes in ({"qk_norm": True}, {"no_causal_mask": True}, {"ls_init_value": 0.1}):
        (name,) = changes
        encoder = text_encoder()
        encoder.config["text_cfg"] |= changes
        with pytest.raises(ValueError, match=rf"text_encoder\.text\.{name}="):
            write_text_encoder(encoder, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option, value",
    [("hidden_act", "relu"), ("layer_norm_eps", 1e-6), ("model_type", "bert"), ("vocab_size", 30)],
)
def test_what_we_lack_is_refused_by_name(option: str, value: object, tmp_path: Path) -> None:
    write_text_encoder(text_encoder(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {option: value}))
    with pytest.raises(ValueError, match="bert" if option == "model_type" else option):
        read_text_encoder(tmp_path, pad_id=END_OF_TEXT)


def test_missing_and_misfitting_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        read_text_encoder(tmp_path, pad_id=END_OF_TEXT)
    write_text_encoder(text_encoder(), tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["text_model.final_layer_norm.bias"]
    del state["text_model.encoder.layers.0.self_attn.k_proj.bias"]
    state["text_model.encoder.layers.7.mlp.fc1.bias"] = torch.zeros(3)
    save_file(state, file)
    with pytest.raises(ValueError) as error:
        read_text_encoder(tmp_path, pad_id=END_OF_TEXT)
    for name in (
        "final_layer_norm.bias",
        "layers.0.self_attn.k_proj.bias",
        "layers.7.mlp.fc1.bias",
    ):
        assert name in str(error.value)
    file.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is missing.*ldm export"):
        read_text_encoder(tmp_path, pad_id=END_OF_TEXT)
