"""Config files of other origin: whatever stands in them is read, or refused in a sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ldm.interop.diffusers_export import export_pipeline
from ldm.interop.pipeline import read_pipeline, write_pipeline

CODE = {"_target_": "ldm.manifest.write_json", "path": "PWNED", "value": 1}
UNET, VAE, SCHEDULE = "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"
TEXT, TOKENIZER = "text_encoder/config.json", "tokenizer/tokenizer_config.json"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, make_model: Any) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_pipeline(make_model(), folder)
    return folder


@pytest.mark.parametrize(
    "file, option, value",
    [
        (UNET, "use_linear_projection", CODE),
        (UNET, "use_linear_projection", "${oc.env:HOME}"),
        (UNET, "norm_num_groups", 0),
        (UNET, "layers_per_block", -1),
        (UNET, "down_block_types", None),
        (UNET, "in_channels", "4"),
        (UNET, "sample_size", 0),
        (VAE, "scaling_factor", 0),
        (VAE, "scaling_factor", None),
        (VAE, "scaling_factor", float("nan")),
        (VAE, "latent_channels", {"a": 4}),
        (SCHEDULE, "num_train_timesteps", "1000"),
        (SCHEDULE, "prediction_type", ["epsilon"]),
        (SCHEDULE, "beta_schedule", ["linear"]),
        (SCHEDULE, "beta_start", None),
        (TEXT, "num_attention_heads", 5),
        (TEXT, "hidden_size", "64"),
        (TEXT, "hidden_size", 0),
        (TEXT, "vocab_size", None),
        (TOKENIZER, "pad_token", ["!"]),
        (TOKENIZER, "pad_token", {"special": True}),
        ("model_index.json", "size_px", "64"),
    ],
)
def test_a_value_of_another_kind_is_named(
    exported: Path, file: str, option: str, value: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    config = json.loads((folder / file).read_text()) | {option: value}
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=option):
        read_pipeline(folder)


def test_our_own_unets_have_plain_settings_only(make_model: Any, tmp_path: Path) -> None:
    write_pipeline(make_model(), tmp_path)
    file = tmp_path / UNET
    config = {"_class_name": "ldm.UNet", "groups": CODE}
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="groups = .* must be whole numbers, flags or null"):
        read_pipeline(tmp_path)


@pytest.mark.parametrize("statistics", [([0.0] * 2, [1.0] * 2), ([0.0] * 4, [1.0, 1.0, 0.0, 1.0])])
def test_statistics_for_other_channels_are_refused(
    exported: Path, statistics: tuple[list[float], list[float]], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    mean, std = statistics
    config = json.loads((folder / VAE).read_text()) | {"latents_mean": mean, "latents_std": std}
    (folder / VAE).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lists of 4 numbers"):
        read_pipeline(folder)
