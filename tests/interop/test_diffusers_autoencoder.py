"""Our autoencoders are diffusers': same names, outputs and gradients, folders that go both ways."""

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ldm.autoencoders.convolutional import Autoencoder
from ldm.autoencoders.regularizers import KL, VQ
from ldm.diffusion.latent_scale import LatentScale
from ldm.interop.diffusers import read_autoencoder, read_scale, write_autoencoder
from ldm.interop.diffusers_config import AUTOENCODER_DEFAULTS, VQ_DEFAULTS
from tests.parity import Agree, same_gradients

WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = "config.json"
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


def config(**changes: object) -> dict:
    plain = {
        "image_channels": 3, "latent_channels": 4, "channels": [8, 16],
        "attention": [False, False], "mid_attention": True, "layers_per_level": 1, "groups": 4,
    }  # fmt: skip
    return plain | changes


CONFIGS = {
    "one level": config(channels=[6], attention=[False], groups=3),
    "two layers, no attention at all": config(layers_per_level=2, mid_attention=False),
    "three layers, attention below": config(
        layers_per_level=3, attention=[False, True], latent_channels=3
    ),
    "four layers, attention above": config(
        layers_per_level=4, attention=[True, False], mid_attention=False, latent_channels=1
    ),
    "odd, grey": config(
        channels=[7, 14, 21], attention=[True, False, True], groups=7, image_channels=1
    ),
    "narrower below, one group": config(
        channels=[15, 5, 10], attention=[False, True, True], groups=1, latent_channels=5
    ),
    "four levels": config(
        channels=[6, 6, 12, 18], attention=[False, False, False, True], groups=6, layers_per_level=2
    ),
}
CODEBOOK = {"num_codes": 11, "beta": 0.25, "loss_weight": 1.0, "restart_rate": 0.0}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def randomised(network: Autoencoder) -> Autoencoder:
    """The same network away from its initialisation, where small codes would hide differences."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return network


def make(config: dict) -> Autoencoder:
    return randomised(Autoencoder(**config, regularizer=KL()))


def make_vq(config: dict, dim: int) -> Autoencoder:
    made = randomised(Autoencoder(**config, regularizer=VQ(dim=dim, **CODEBOOK)))
    nn.init.normal_(made.quantize.embedding.weight)  # type: ignore[union-attr]
    return made


def picture(config: dict, dtype: torch.dtype) -> Tensor:
    side = 2 ** len(config["channels"])
    return (torch.rand(2, config["image_channels"], 2 * side, side) * 2 - 1).to(dtype)


def pulled(*outputs: Tensor) -> Tensor:
    """A scalar in which every output counts differently."""
    weighed = (o * torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view_as(o) for o in outputs)
    return torch.stack([w.mean() for w in weighed]).sum()


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def change(file: Path, **options: object) -> None:
    """Edit a config file as a stranger would."""
    file.write_text(json.dumps(json.loads(file.read_text()) | options))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_kl_written_by_us_is_diffusers_autoencoder(
    name: str, dtype: torch.dtype, tolerance: float, tmp_path: Path, agree: Agree
) -> None:
    ours = make(CONFIGS[name])
    write_autoencoder(ours, tmp_path, scale=None)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert theirs.config.scaling_factor == 1.0
    assert shapes(ours) == shapes(theirs)
    ours, theirs = ours.to(dtype), theirs.to(dtype).train()
    image = picture(CONFIGS[name], dtype)
    posterior = theirs.encode(image).latent_dist
    noise = torch.randn_like(posterior.mean)
    reconstruction, code = ours(image, noise)
    moments = torch.cat([posterior.mean, posterior.logvar], dim=1)
    part, settings = "AutoencoderKL", {"configuration": name, "tolerance": tolerance}
    agree(code, moments, component=f"{part}.encode", **settings)
    torch.testing.assert_close(
        ours.regularizer.penalty(code), posterior.kl().float(), rtol=1e-5, atol=1e-3
    )
    expected = theirs.decode(posterior.mean + posterior.std * noise).sample
    agree(reconstruction, expected, component=f"{part}.decode", **settings)
    assert float(reconstruction.detach().std()) > 0.05
    pulled(reconstruction, code).backward()
    pulled(expected, moments).backward()
    gradients = same_gradients(ours, theirs, tolerance)
    agree(*gradients, component=f"{part}, gradients", **settings)


@pytest.mark.parametrize("name", CONFIGS)
def test_kl_written_by_diffusers_is_read(name: str, tmp_path: Path) -> None:
    write_autoencoder(make(CONFIGS[name]), tmp_path / "first", scale=None)
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path / "first")
    theirs.save_pretrained(tmp_path / "pipeline" / "vae")
    ours = read_autoencoder(tmp_path / "pipeline")
    assert ours.config == CONFIGS[name] and isinstance(ours.regularizer, KL)
    latent = torch.randn(1, CONFIGS[name]["latent_channels"], 4, 4)
    expected = theirs.decode(latent).sample
    torch.testing.assert_close(ours.decode(latent), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, dim", [(name, 3 + i) for i, name in enumerate(CONFIGS)])
@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_vq_written_by_us_is_diffusers_vq_model(
    name: str, dim: int, dtype: torch.dtype, tolerance: float, tmp_path: Path, agree: Agree
) -> None:
    ours = make_vq(CONFIGS[name], dim)
    write_autoencoder(ours, tmp_path, scale=None)
    theirs = diffusers.VQModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert theirs.config.scaling_factor == 1.0
    assert shapes(ours) == shapes(theirs) and "quantize.embedding.weight" in shapes(ours)
    ours, theirs = ours.to(dtype), theirs.to(dtype).train()
    image = picture(CONFIGS[name], dtype)
    reconstruction, code = ours(image, torch.zeros(()))
    latents = theirs.encode(image).latents
    part, settings = "VQModel", {"configuration": name, "tolerance": tolerance}
    agree(code, latents, component=f"{part}.encode", **settings)
    quantised, _, (_, _, indices) = theirs.quantize(latents)
    assert torch.equal(ours.regularizer.nearest(code).flatten(), indices)
    assert len(indices.unique()) > 1
    torch.testing.assert_close(
        ours.regularizer.decodable(code), quantised, rtol=tolerance, atol=tolerance
    )
    expected = theirs.decode(latents).sample
    agree(reconstruction, expected, component=f"{part}.decode", **settings)
    # Their loss has beta on the other term unless told otherwise, which their model cannot be.
    theirs.quantize.legacy = False
    loss = theirs.quantize(latents)[1]
    penalty = ours.regularizer.penalty(code).mean()
    torch.testing.assert_close(penalty, loss, rtol=tolerance, atol=tolerance)
    (pulled(reconstruction) + penalty).backward()
    (pulled(expected) + loss).backward()
    gradients = same_gradients(ours, theirs, tolerance)
    agree(*gradients, component=f"{part}, gradients", **settings)


@pytest.mark.parametrize("name, dim", [(name, 3 + i) for i, name in enumerate(CONFIGS)])
def test_vq_written_by_diffusers_is_read(name: str, dim: int, tmp_path: Path) -> None:
    write_autoencoder(make_vq(CONFIGS[name], dim), tmp_path / "first", scale=None)
    theirs = diffusers.VQModel.from_pretrained(tmp_path / "first")
    theirs.save_pretrained(tmp_path / "pipeline" / "vae")
    ours = read_autoencoder(tmp_path / "pipeline")
    assert ours.config == CONFIGS[name] and ours.latent_channels == dim
    assert isinstance(ours.regularizer, VQ) and ours.regularizer.num_codes == 11
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    latent = torch.randn(1, dim, 4, 4)
    expected = theirs.decode(latent).sample
    torch.testing.assert_close(ours.decode(latent), expected, rtol=1e-5, atol=1e-5)


@st.composite
def legal(draw: st.DrawFn) -> dict:
    """Any configuration that both can build, small."""
    groups = draw(st.integers(1, 5))
    levels = draw(st.integers(1, 3))
    return config(
        image_channels=draw(st.sampled_from([1, 3])),
        latent_channels=draw(st.integers(1, 5)),
        channels=[groups * draw(st.integers(1, 3)) for _ in range(levels)],
        attention=[draw(st.booleans()) for _ in range(levels)],
        mid_attention=draw(st.booleans()),
        layers_per_level=draw(st.integers(1, 4)),
        groups=groups,
    )


@settings(max_examples=12)
@given(legal(), st.sampled_from([None, 1, 3]))
def test_whatever_is_legal_is_the_same_network(tmp_path_factory, config: dict, dim: int | None):
    """``dim`` is a codebook's width, None a KL posterior."""
    torch.manual_seed(0)
    ours = make(config) if dim is None else make_vq(config, dim)
    model = diffusers.AutoencoderKL if dim is None else diffusers.VQModel
    folder = tmp_path_factory.mktemp("legal")
    write_autoencoder(ours, folder, scale=None)
    theirs = model.from_pretrained(folder, low_cpu_mem_usage=False).double().train()
    assert shapes(ours) == shapes(theirs)
    assert read_autoencoder(folder).config == config
    ours, image = ours.double(), picture(config, torch.float64)
    code = ours.encode(image)
    latent = ours.regularizer.mode(code)
    encoded = theirs.encode(image)
    expected = encoded.latents if dim else encoded.latent_dist.mode()
    torch.testing.assert_close(latent, expected, rtol=1e-10, atol=1e-10)
    decoded, reference = ours.decode(latent), theirs.decode(expected).sample
    torch.testing.assert_close(decoded, reference, rtol=1e-10, atol=1e-10)
    pulled(decoded, latent).backward()
    pulled(reference, expected).backward()
    same_gradients(ours, theirs, 1e-10)


def test_shorthand_of_vq_models_is_understood(tmp_path: Path) -> None:
    write_autoencoder(make_vq(config(), 4), tmp_path, scale=None)
    change(tmp_path / CONFIG, vq_embed_dim=None, lookup_from_codebook=True, force_upcast=True)
    assert read_autoencoder(tmp_path).latent_channels == 4


def test_the_first_stable_diffusion_spelling_of_attention_is_read(tmp_path: Path) -> None:
    autoencoder = make(CONFIGS["three layers, attention below"])
    write_autoencoder(autoencoder, tmp_path, scale=None)
    spelling = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / WEIGHTS)
    for new, old in spelling.items():
        state = {name.replace(f".{new}.", f".{old}."): value for name, value in state.items()}
    assert any(".query." in name for name in state)
    save_file(state, tmp_path / WEIGHTS, metadata={"format": "pt"})
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    for network in (read_autoencoder(tmp_path), theirs):
        torch.testing.assert_close(dict(network.state_dict()), dict(autoencoder.state_dict()))


@pytest.mark.parametrize(
    "model, defaults",
    [(diffusers.AutoencoderKL, AUTOENCODER_DEFAULTS), (diffusers.VQModel, VQ_DEFAULTS)],
)
def test_every_option_of_diffusers_is_known_with_its_default(model: Any, defaults: dict) -> None:
    signature = inspect.signature(model.__init__).parameters
    theirs = {name: p.default for name, p in signature.items() if name != "self"}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in theirs.items()} == defaults


UNSUPPORTED = [("act_fn", "gelu"), ("out_channels", 4), ("down_block_types", ["DownBlock2D"] * 2)]


@pytest.mark.parametrize(
    "option, value", [*UNSUPPORTED, ("use_quant_conv", False), ("beta", 1), ("norm_type", "group")]
)
def test_what_the_kl_autoencoder_lacks_is_refused_by_name(
    option: str, value: object, tmp_path: Path
) -> None:
    write_autoencoder(make(config()), tmp_path, scale=None)
    change(tmp_path / CONFIG, **{option: value})
    with pytest.raises(ValueError, match=option):
        read_autoencoder(tmp_path)


@pytest.mark.parametrize(
    "option, value",
    [*UNSUPPORTED, ("norm_type", "spatial"), ("use_quant_conv", True), ("num_vq_embeddings", 12)],
)
def test_what_the_vq_autoencoder_lacks_is_refused_by_name(
    option: str, value: object, tmp_path: Path
) -> None:
    write_autoencoder(make_vq(config(), 4), tmp_path, scale=None)
    change(tmp_path / CONFIG, **{option: value})
    with pytest.raises(ValueError, match="embedding" if "embed" in option else option):
        read_autoencoder(tmp_path)


def test_a_regularizer_without_a_counterpart_is_refused(tmp_path: Path) -> None:
    class Plain:
        codes_per_latent, latent_channels = 1, None

    autoencoder = Autoencoder(**config(), regularizer=Plain())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only KL and VQ .* found Plain"):
        write_autoencoder(autoencoder, tmp_path, scale=None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_scale_per_channel_and_scalar(kind: str, tmp_path: Path) -> None:
    autoencoder = make(config()) if kind == "kl" else make_vq(config(), 4)
    model = diffusers.AutoencoderKL if kind == "kl" else diffusers.VQModel
    raw = torch.randn(2, 4, 3, 3)
    for scale in (
        LatentScale([0.5, -1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 0.25]),
        LatentScale([0.0], [1 / 0.18215]),
        LatentScale([0.1], [2.0]),
    ):
        write_autoencoder(autoencoder, tmp_path, scale=scale)
        read = read_scale(tmp_path)
        torch.testing.assert_close(read.normalize(raw), scale.normalize(raw))
        torch.testing.assert_close(read.denormalize(scale.normalize(raw)), raw)
        assert shapes(read_autoencoder(tmp_path)) == shapes(autoencoder)
        assert shapes(model.from_pretrained(tmp_path)) == shapes(autoencoder)
    theirs = model.from_pretrained(tmp_path)
    assert theirs.config.scaling_factor == 0.5
    assert theirs.config.shift_factor == pytest.approx(0.1)
    write_autoencoder(autoencoder, tmp_path, scale=None)
    torch.testing.assert_close(read_scale(tmp_path).normalize(raw), raw)


def test_scale_of_foreign_configs(tmp_path: Path) -> None:
    write_autoencoder(make(config()), tmp_path, scale=None)
    file = tmp_path / CONFIG
    found = json.loads(file.read_text())
    del found["scaling_factor"]  # as Stable Diffusion 1 was published
    file.write_text(json.dumps(found))
    assert read_scale(tmp_path).std.item() == pytest.approx(1 / 0.18215)
    change(file, scaling_factor=0.5, latents_mean=[1.0] * 4, latents_std=[3.0] * 4)
    assert read_scale(tmp_path).std.flatten().tolist() == [6.0] * 4
    change(file, latents_std=None)
    with pytest.raises(ValueError, match="latents_std"):
        read_scale(tmp_path)
