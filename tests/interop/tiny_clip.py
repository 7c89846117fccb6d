"""A tiny CLIPModel of transformers with random weights, as its publisher would save it."""

import json
from pathlib import Path
from typing import Any

import torch

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def write_tiny_clip(folder: Path, *, hidden_act: str = "quick_gelu", eos: int = 49407) -> Any:
    """Writes config.json, preprocessor_config.json, model.safetensors; returns the model."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": hidden_act}
    config = CLIPConfig(
        text_config=tower
        | {"hidden_size": 32, "intermediate_size": 96, "max_position_embeddings": 16,
           "eos_token_id": eos, "bos_token_id": 49406, "pad_token_id": 49407},
        vision_config=tower
        | {"hidden_size": 48, "intermediate_size": 144, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    for parameter in model.parameters():
        if parameter.ndim:  # larger than at the start, so that activations bend
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    preprocessor = {
        "crop_size": 32, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": STD,
        "resample": 3, "size": 32,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model
