"""What a weights file is that holds no whole model, as far as its tensors' names show."""

from collections.abc import Collection

_NO_MODEL = "which changes another model and is none itself. Import that model"
_FOLDER = "of a folder in diffusers' layout. Name the folder that holds model_index.json"
_ALONE = "by itself, and a model has three networks. Import the file of the whole model"
_OTHERS = "another kind (Flux, Stable Diffusion 3); only Stable Diffusion 1, 2 and XL can be read"
_KINDS = (  # what some name starts with, or holds where a * stands before it
    (("lora_", "*.lora", "*_lora", "*.hada_"), f"a LoRA, {_NO_MODEL}, with the LoRA fused into it"),
    (("control_model.", "controlnet_"), f"a ControlNet, {_NO_MODEL}"),
    (("emb_params", "clip_g", "clip_l"), f"a textual inversion, {_NO_MODEL}"),
    (("*double_blocks.", "*joint_blocks."), f"of {_OTHERS}"),
    (("down_blocks.",), f"a UNet {_FOLDER}"),
    (("encoder.down_blocks.",), f"an autoencoder {_FOLDER}"),
    (("text_model.encoder.",), f"a text encoder {_FOLDER}"),
    (("encoder.down.",), f"an autoencoder {_ALONE}"),
    (("input_blocks.", "diffusion_model."), f"a UNet {_ALONE}"),
    (("transformer.resblocks.",), f"a text encoder {_ALONE}"),
)


def kind_of_file(names: Collection[str]) -> str | None:
    """What it is and what to do instead, after "is"; None where nothing is recognised."""
    for patterns, kind in _KINDS:
        for pattern in patterns:
            anywhere, part = pattern.startswith("*"), pattern.removeprefix("*")
            if any(part in name if anywhere else name.startswith(part) for name in names):
                return kind
    return None
