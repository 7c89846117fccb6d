"""Models that a run leaves on its way say what they were made of, as the run itself does."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

from omegaconf import OmegaConf

from ldm.apps.bill.inherited import inherited
from ldm.apps.bill.made_of import bill_at
from ldm.apps.run_directory import sign
from ldm.apps.slim_models import SlimModels

VGG = {"role": "training: LPIPS", "licence": "BSD", "trained_on": "ImageNet", "sha256": "ab"}


def test_what_taught_a_run_is_on_the_bill_of_its_models(tmp_path):
    def write_model(folder):
        (folder / "vae").mkdir()
        (folder / "vae" / "config.json").write_text("{}")

    assembly = SimpleNamespace(write_model=write_model, pretrained={"vgg16": VGG})
    config = OmegaConf.create({"stage": "autoencoder"})
    signed = partial(sign, config=config, inputs={})
    models = SlimModels(assembly, tmp_path, every_steps=2, keep=None, sign=signed)
    trained = {"vae": SimpleNamespace(exported=nullcontext)}
    models(
        SimpleNamespace(is_global_zero=True),
        SimpleNamespace(step=2, trained=trained, product="vae"),
    )
    made = str(tmp_path / "step_000000002")
    for bill in (bill_at(made), inherited("init", {"path": made, "fingerprint": ""}, "denoiser")):
        (part,) = bill.in_training
        assert part["name"] == "vgg16" and part["for"] == ["autoencoder"]
