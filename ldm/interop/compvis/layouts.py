"""The kinds of models that have single files, and what readers take for granted of each."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ldm.text.tokenizer import END_OF_TEXT

UNET_PREFIX, AUTOENCODER_PREFIX = "model.diffusion_model.", "first_stage_model."


@dataclass(frozen=True)
class TextPart:
    """A text tower: a part of diffusers' folder, and its place in the file."""

    part: str
    prefix: str
    is_open_clip: bool  # has open_clip's names and exact GELU, where others have OpenAI's
    pad_id: int  # of its tokenizer
    has_projection: bool = False  # into the space shared with pictures
    has_unused_block: bool = False  # the last one: the denoiser is given its input


@dataclass(frozen=True)
class Layout:
    """A kind of model."""

    name: str
    text: tuple[TextPart, ...]
    sizes_px: Mapping[str, int]  # of the published ones, by prediction as diffusers calls it
    scaling_factor: float
    has_tables: bool  # of the noise process
    knows_marks: bool  # whether its readers look for the marks of v-prediction
    index: Mapping[str, Any]  # of the folder's model_index.json

    @property
    def prefixes(self) -> dict[str, str]:
        """Of the networks' tensors, by the part of the folder."""
        text = {tower.part: tower.prefix for tower in self.text}
        return {"unet": UNET_PREFIX, "vae": AUTOENCODER_PREFIX} | text

    def size_px(self, prediction: str) -> int:
        """The side of the pictures of a published model with this prediction, or else of any."""
        return self.sizes_px.get(prediction, next(iter(self.sizes_px.values())))


SD1 = Layout(
    name="Stable Diffusion 1",
    text=(TextPart("text_encoder", "cond_stage_model.transformer.", False, END_OF_TEXT),),
    sizes_px={"epsilon": 512},
    scaling_factor=0.18215,
    has_tables=True,
    knows_marks=False,
    index={"_class_name": "StableDiffusionPipeline"},
)
SD2 = Layout(
    name="Stable Diffusion 2",
    text=(TextPart("text_encoder", "cond_stage_model.model.", True, 0, has_unused_block=True),),
    sizes_px={"v_prediction": 768, "epsilon": 512},
    scaling_factor=0.18215,
    has_tables=True,
    knows_marks=False,
    index={"_class_name": "StableDiffusionPipeline"},
)
SDXL = Layout(
    name="Stable Diffusion XL",
    text=(
        TextPart("text_encoder", "conditioner.embedders.0.transformer.", False, END_OF_TEXT),
        TextPart("text_encoder_2", "conditioner.embedders.1.model.", True, 0, has_projection=True),
    ),
    sizes_px={"epsilon": 1024},
    scaling_factor=0.13025,
    has_tables=False,
    knows_marks=True,
    index={"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True},
)
REFINER = Layout(
    name="Stable Diffusion XL's refiner",
    text=(
        TextPart("text_encoder_2", "conditioner.embedders.0.model.", True, 0, has_projection=True),
    ),
    sizes_px={"epsilon": 1024},
    scaling_factor=0.13025,
    has_tables=False,
    knows_marks=False,
    index={
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
    },
)


def layout_of_file(names: Collection[str]) -> Layout:
    """By the names of the text towers' tensors."""
    for layout in (SDXL, REFINER, SD2):
        if any(name.startswith(layout.text[-1].prefix) for name in names):
            return layout
    return SD1


def layout_for(text_parts: Collection[str], *, linear_projection: bool) -> Layout:
    """For a model with these text encoders and a UNet like this, by which readers know it."""
    if "text_encoder_2" in text_parts:
        return SDXL if "text_encoder" in text_parts else REFINER
    return SD2 if linear_projection else SD1
