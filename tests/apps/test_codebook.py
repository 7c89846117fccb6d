"""A vector-quantised autoencoder on the whole road: trained, cached, diffused, sampled, resumed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.autoencoders.regularizers import VQ
from ldm.callbacks.metrics_log import read_jsonl
from ldm.interop.diffusers import read_autoencoder
from ldm.interop.pipeline import read_pipeline
from ldm.manifest import read_json
from ldm.random import normal, stream

CODEBOOK = ["regularizer=vq", "regularizer.num_codes=32", "regularizer.restart_rate=0.5"]


@pytest.fixture(scope="module")
def road(world, ldm, tmp_path_factory) -> Path:
    """The world's shards and text encoder with a codebook between pixels and latents."""
    root = tmp_path_factory.mktemp("codebook")
    for words in (
        world.train("autoencoder", root / "autoencoder", *CODEBOOK),
        ["cache", f"autoencoder_run={root / 'autoencoder'}", f"text_run={world.text_encoder}",
         f"data.root={world.shards}", f"out={root / 'latents'}", "block=16"],
        ["train", *world.settings["diffusion"], f"data.root={root / 'latents'}",
         f"run={root / 'diffusion'}"],
    ):  # fmt: skip
        assert ldm(*words) == 0, words
    return root


def test_the_run_logs_its_codebook_and_no_posterior(road):
    rows = read_jsonl(road / "autoencoder" / "metrics.jsonl")
    trained = [row for row in rows if "train/loss" in row]
    (validated,) = [row for row in rows if "val/psnr" in row]
    assert len(trained) == 4
    for name, row in [*(("train", row) for row in trained), ("val", validated)]:
        assert 1 / 32 <= row[f"{name}/codebook_usage"] <= 1.0
        assert (
            1.0 <= row[f"{name}/codebook_perplexity"] <= 32 * row[f"{name}/codebook_usage"] + 1e-3
        )
        assert row[f"{name}/quantization_error"] > 0.0
        assert not any("kl" in key or "sigma" in key for key in row)


def test_the_model_is_a_folder_of_diffusers_with_the_averaged_codebook(road):
    import diffusers

    folder = road / "autoencoder" / "model" / "vae"
    ours, theirs = read_autoencoder(folder), diffusers.VQModel.from_pretrained(folder)
    assert isinstance(ours.regularizer, VQ) and ours.regularizer.num_codes == 32
    saved = torch.load(
        road / "autoencoder" / "checkpoints" / "step_000000004.pt", weights_only=True
    )["trained"]["autoencoder"]
    name = "quantize.embedding.weight"
    assert torch.equal(theirs.state_dict()[name], saved["ema"][name])
    assert not torch.equal(saved["network"][name], saved["ema"][name])
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(
        ours.decode(ours.encode(image)), theirs(image).sample, rtol=1e-5, atol=1e-5
    )


def test_the_cache_holds_what_is_not_yet_quantised(road, world):
    codes = np.load(road / "latents" / "32x32" / "codes.npy")[:, 0]
    assert codes.shape == (64, 4, 8, 8)
    latents = torch.from_numpy(codes).float()
    quantiser = read_autoencoder(road / "autoencoder" / "model" / "vae").regularizer
    assert float((latents - quantiser.decodable(latents)).abs().max()) > 1e-3
    facts = read_json(road / "latents" / "manifest.json")["facts"]
    mean, std = latents.double().mean((0, 2, 3)), latents.double().std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(facts["mean"], dtype=torch.float64), mean)
    torch.testing.assert_close(torch.tensor(facts["std"], dtype=torch.float64), std)


def test_pictures_are_decoded_from_codes(road, ldm, tmp_path):
    model = road / "diffusion" / "model"
    assert read_json(model / "model_index.json")["vae"] == ["diffusers", "VQModel"]
    for out in ("a", "b"):
        words = ["sample", f"model={model}", "prompt=a red circle", "num=2", "steps=2"]
        assert ldm(*words, f"out={tmp_path / out}", "block=2") == 0
    first, again = (np.asarray(Image.open(tmp_path / out / "grid.png")) for out in ("a", "b"))
    assert (first == again).all() and first.std() > 0.0
    pipeline = read_pipeline(model)
    latent = torch.randn(1, 4, 8, 8)
    quantised = pipeline.autoencoder.regularizer.decodable(latent)
    torch.testing.assert_close(
        pipeline.autoencoder.decode(latent), pipeline.autoencoder.decode(quantised)
    )


def test_restarted_codes_survive_a_resume_bit_for_bit(road, world, ldm, tmp_path):
    whole = torch.load(
        road / "autoencoder" / "checkpoints" / "step_000000004.pt", weights_only=True
    )
    run = tmp_path / "run"
    # The end of the learning rate's schedule stays where it was: the run is cut by its checkpoint.
    assert ldm(*world.train("autoencoder", run, *CODEBOOK)) == 0
    (run / "checkpoints" / "step_000000004.pt").unlink()
    (run / "manifest.json").unlink()
    assert ldm(*world.train("autoencoder", run, *CODEBOOK)) == 0
    resumed = torch.load(run / "checkpoints" / "step_000000004.pt", weights_only=True)
    for part in ("network", "ema"):
        for name, value in whole["trained"]["autoencoder"][part].items():
            assert torch.equal(resumed["trained"]["autoencoder"][part][name], value), name


def test_init_takes_the_codebook_along_and_needs_one(road, world, ldm, tmp_path, capsys):
    words = world.train("autoencoder", tmp_path / "next", *CODEBOOK, "max_steps=1", "lr=1e-9")
    assert ldm(*words, f"init={road / 'autoencoder'}") == 0
    first, second = (
        read_autoencoder(run / "model" / "vae").regularizer.embedding.weight
        for run in (road / "autoencoder", tmp_path / "next")
    )
    unchanged = (first - second).abs().amax(1) < 1e-6
    assert int(unchanged.sum()) > 0  # the rest was dead in this step's batch, and moved
    capsys.readouterr()
    assert ldm(*words, f"init={world.autoencoder}", "resume=never") == 2
    assert "is of another architecture" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", ["demo_autoencoder", "folder_autoencoder"])
def test_every_small_experiment_takes_a_codebook(experiment, ldm, tmp_path, capsys):
    words = [f"experiment={experiment}", "regularizer=vq", f"run={tmp_path / 'run'}"]
    assert ldm("check", *words) == 0
    assert "forward and backward fit" in capsys.readouterr().out


def test_the_report_of_the_run_shows_the_codebook(road):
    page = (road / "autoencoder" / "report.html").read_text()
    assert "Codebook usage" in page and "Codebook perplexity" in page
    assert "KL per latent dimension" not in page


def test_the_denoisers_training_leaves_the_codebook_to_the_autoencoder(road):
    step = torch.load(road / "diffusion" / "checkpoints" / "step_000000004.pt", weights_only=True)
    assert list(step["trained"]) == ["denoiser"]
    first, second = (
        read_autoencoder(road / stage / "model" / "vae").state_dict()
        for stage in ("autoencoder", "diffusion")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.glob("0*.png"))]).astype(int)


def test_a_codebook_goes_out_and_in_again(road, world, ldm, tmp_path, capsys):
    import diffusers

    def refused(model: Path, *words: str) -> str:
        assert ldm("export", f"model={model}", f"out={tmp_path / 'no'}", *words) == 2
        return capsys.readouterr().err

    assert "Train the denoiser with latent_scale=scalar" in refused(road / "diffusion")
    file = refused(road / "diffusion", "format=single_file")
    assert "setting regularizer=vq of this model has no place" in file
    scalar, text, latents = tmp_path / "scalar", tmp_path / "text", tmp_path / "latents"
    train = ["train", *world.settings["diffusion"], "latent_scale=scalar", "max_steps=1"]
    assert ldm(*train, f"data.root={road / 'latents'}", f"run={scalar}") == 0
    assert "text_encoder.text.context_length=20 of this model has no place" in refused(scalar)
    for words in (
        world.train("text_encoder", text, "text_encoder.text.context_length=77", "max_steps=1"),
        ["cache", f"autoencoder_run={road / 'autoencoder'}", f"text_run={text}",
         f"data.root={world.shards}", f"out={latents}", "block=16"],
        [*train, f"data.root={latents}", f"run={tmp_path / 'long'}"],
        ["export", f"model={tmp_path / 'long'}", f"out={tmp_path / 'out'}"],
    ):  # fmt: skip
        assert ldm(*words) == 0, words
    card = (tmp_path / "out" / "README.md").read_text()
    assert "LDMTextToImagePipeline.from_pretrained(" in card
    settings = ["prompt=a red circle", "num=2", "block=2", "sampler=ddim", "steps=4"]
    how = ["sample", *settings, "guidance=3.0", "seed=7"]
    assert ldm(*how, f"model={tmp_path / 'long'}", f"out={tmp_path / 'ours'}") == 0
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = normal(stream(0, "initial"), torch.arange(7, 9), (4, 8, 8)).float()
    theirs = pipeline(
        ["a red circle"] * 2, latents=noise, num_inference_steps=4, guidance_scale=3.0,
        output_type="np",
    ).images  # fmt: skip
    ours = pictures(tmp_path / "ours")
    assert ours.std() > 1 and abs((theirs * 255).round().astype(int) - ours).max() <= 1
    capsys.readouterr()
    assert ldm(*how, f"model={tmp_path / 'out'}", f"out={tmp_path / 'x'}") == 2
    assert "laid out for diffusers' LDMTextToImagePipeline" in capsys.readouterr().err
    assert ldm("import", f"from={tmp_path / 'out'}", f"run={tmp_path / 'run'}") == 0
    assert ldm(*how, f"model={tmp_path / 'run'}", f"out={tmp_path / 'again'}") == 0
    assert abs(pictures(tmp_path / "again") - ours).max() <= 1
