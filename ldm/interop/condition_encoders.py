"""What turns captions into conditions, as the parts of a model folder.

text_encoder/ (and text_encoder_2/ beside it for Stable Diffusion XL) hold CLIP towers in either of
two layouts: open_clip's, with the image tower they were trained with, or that of transformers, by
themselves with a tokenizer/ each. class_encoder/ holds a table of classes. A model without any of
these is unconditional.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ldm.interop.diffusers_files import CONFIG, WEIGHTS, read, read_weights
from ldm.interop.transformers import read_text_encoder, write_text_encoder
from ldm.interop.transformers_tokenizer import read_pad_id, write_tokenizer
from ldm.manifest import atomic, write_json
from ldm.text.classes import ClassTable
from ldm.text.clip import CONFIG_FILE, ClipText, ClipTowers, Towers
from ldm.text.sdxl_text import SdxlText
from ldm.text.unconditional import Unconditional
from ldm.types import ConditionEncoder

TEXT_ENCODERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
CLASS_ENCODER = "class_encoder"
PARTS = (*TEXT_ENCODERS, CLASS_ENCODER)
_CLASS_TABLE = "ldm.ClassTable"


def read_towers(folder: str | Path, part: str = "text_encoder") -> Towers:
    """The text tower of a model folder, with its image tower where that lies there too."""
    folder = Path(folder)
    place = folder / part
    if (place / CONFIG).is_file() and not (place / CONFIG_FILE).is_file():
        return read_text_encoder(place, pad_id=read_pad_id(folder / TEXT_ENCODERS[part]))
    return ClipTowers.load(place)


def read_condition_encoder(folder: str | Path) -> ConditionEncoder:
    """What a model folder is conditioned by, according to the parts that are there."""
    folder = Path(folder)
    has = {part: (folder / part).is_dir() for part in PARTS}
    if has["text_encoder_2"]:
        return SdxlText(
            text_encoder=read_towers(folder) if has["text_encoder"] else None,
            text_encoder_2=read_towers(folder, "text_encoder_2"),
            **sdxl_settings(folder),
        )
    if has["text_encoder"]:
        return ClipText(read_towers(folder))
    return _read_classes(folder / CLASS_ENCODER) if has[CLASS_ENCODER] else Unconditional()


def sdxl_settings(folder: Path) -> dict[str, Any]:
    """What a folder's index says of the condition of Stable Diffusion XL, as ``SdxlText`` has it.

    Where it says nothing, the defaults are those of diffusers' pipeline.
    """
    index = read(file) if (file := folder / "model_index.json").is_file() else {}
    return {
        "num_sizes": 5 if index.get("requires_aesthetics_score", False) else 6,
        "zero_null": bool(index.get("force_zeros_for_empty_prompt", True)),
    }


def write_condition_encoder(
    encoder: ConditionEncoder, folder: str | Path, *, for_transformers: bool = False
) -> dict[str, Any]:
    """Write the parts, CLIP towers as they came or ``for_transformers``; their index entries.

    The index is the pipeline's model_index.json: library and class of each part, and what only
    this kind of condition needs.
    """
    folder = Path(folder)
    if isinstance(encoder, ClipText):
        return _write_text(encoder, folder, "text_encoder", for_transformers=for_transformers)
    if isinstance(encoder, SdxlText):
        second = _write_text(
            encoder.text_encoder_2, folder, "text_encoder_2", for_transformers=for_transformers,
            projection=encoder.text_projection,
        )  # fmt: skip
        first: dict[str, Any] = {"text_encoder": [None, None], "tokenizer": [None, None]}
        if encoder.text_encoder is not None:
            first = _write_text(
                encoder.text_encoder, folder, "text_encoder", for_transformers=for_transformers
            )
        scored = {"requires_aesthetics_score": True} if encoder.num_sizes == 5 else {}
        return first | second | scored | {"force_zeros_for_empty_prompt": encoder.zero_null}
    if isinstance(encoder, ClassTable):
        _write_classes(encoder, folder / CLASS_ENCODER)
        return {CLASS_ENCODER: ["ldm", "ClassTable"]}
    assert isinstance(encoder, Unconditional)
    return {}


def _write_text(
    encoder: ClipText,
    folder: Path,
    part: str,
    *,
    for_transformers: bool,
    projection: Tensor | None = None,
) -> dict[str, list[str]]:
    towers, tokenizer = encoder.towers, TEXT_ENCODERS[part]
    if isinstance(towers, ClipTowers) and not for_transformers:
        towers.save(folder / part)
        return {part: ["open_clip", "CLIP"]}
    write_text_encoder(encoder, folder / part, projection=projection)
    write_tokenizer(
        folder / tokenizer,
        context_length=encoder.tokenize.context_length,
        pad_id=encoder.tokenize.pad_id,
    )
    kind = "CLIPTextModel" if projection is None else "CLIPTextModelWithProjection"
    return {part: ["transformers", kind], tokenizer: ["transformers", "CLIPTokenizer"]}


def _write_classes(table: ClassTable, folder: Path) -> None:
    with atomic(folder / WEIGHTS) as temporary:
        save_file({"embedding.weight": table.embedding.weight.detach().cpu()}, temporary)
    write_json(folder / CONFIG, {"_class_name": _CLASS_TABLE, "names": table.names})


def _read_classes(folder: Path) -> ClassTable:
    names, state = read(folder / CONFIG).get("names"), read_weights(folder)
    weight = state.get("embedding.weight")
    if not isinstance(names, list) or weight is None or len(weight) != len(names) + 1:
        raise ValueError(
            f"{folder} is damaged: its {CONFIG} should name the classes of the table in {WEIGHTS}. "
            "Copy it again."
        )
    table = ClassTable(names=[str(name) for name in names], width=weight.shape[1])
    table.load_state_dict(state)
    return table
