"""The commands on one CUDA device: `make test-gpu`. What is exact on the CPU is close here."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.apps.main import main
from ldm.callbacks.metrics_log import read_jsonl
from ldm.manifest import read_json

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
STAGES = ("text_encoder", "autoencoder", "diffusion")


def losses(run) -> list[float]:
    rows = read_jsonl(run / "metrics.jsonl")
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_resumes_and_keeps_its_average_in_fp32(world, tmp_path, stage, precision):
    run = tmp_path / "run"
    more = ["text_run=" + str(world.text_encoder)] if stage == "autoencoder" else []
    words = world.train(stage, run, "trainer=gpu", f"precision={precision}", *more)
    assert main([*words, "max_steps=2"]) == 0
    assert main(words) == 0  # goes on to step 4, with optimizer and average on the device
    assert len(losses(run)) == 4 and all(torch.tensor(losses(run)).isfinite())
    (newest,) = sorted((run / "checkpoints").glob("*.pt"))[-1:]
    for part in torch.load(newest, weights_only=True)["trained"].values():
        for value in (part["ema"] or {}).values():
            assert value.dtype == torch.float32


@pytest.mark.parametrize("stage", STAGES)
def test_a_gpu_trains_what_the_cpu_trains(world, tmp_path, stage):
    found = []
    for trainer in ("cpu", "gpu"):
        run = tmp_path / trainer
        assert main(world.train(stage, run, f"trainer={trainer}", "precision=32-true")) == 0
        found.append(torch.tensor(losses(run)))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_latents_pictures_and_numbers_come_from_the_gpu(world, tmp_path):
    latents, out = tmp_path / "latents", tmp_path / "metrics.json"
    assert main(["cache", f"autoencoder_run={world.autoencoder}", f"text_run={world.text_encoder}",
                 f"data.root={world.shards}", f"out={latents}",
                 "accelerator=gpu"]) == 0  # fmt: skip
    here, there = (read_json(path / "manifest.json") for path in (world.latents, latents))
    assert there["facts"]["mean"] == pytest.approx(here["facts"]["mean"], abs=1e-2)
    assert main(["evaluate", f"model={world.root}", f"data.root={world.shards}", f"out={out}",
                 "metrics=[reconstruction,clip_score_own,prompt_accuracy]", "num_samples=4",
                 "steps=2", "accelerator=gpu"]) == 0  # fmt: skip
    assert read_json(out)["prompt_accuracy"]["protocol"]["device"] == "cuda"


def test_edited_pictures_come_out_the_same_to_the_bit(world, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    out, again = tmp_path / "out", tmp_path / "again"
    words = [f"image={tmp_path / 'photo.png'}", "prompt_to=a blue square", "seed_to=5", "num=8"]
    assert main(["sample", f"model={world.root}", "prompt=a red circle", *words, "steps=4",
                 "block=8", "accelerator=gpu", f"out={out}"]) == 0  # fmt: skip
    assert main(["sample", f"like={out / '000005.png'}", f"out={again}"]) == 0
    assert (again / "000000.png").read_bytes() == (out / "000005.png").read_bytes()
    kept = pixels[..., 3] >= 128
    assert (np.asarray(Image.open(out / "000005.png"))[kept] == pixels[kept][:, :3]).all()
