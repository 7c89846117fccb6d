"""The tokenizer beside a text tower, in the files that transformers' CLIPTokenizer reads."""

from pathlib import Path
from typing import Any

from ldm.interop.diffusers_files import read
from ldm.manifest import atomic, write_json
from ldm.text.tokenizer import END_OF_TEXT, merges, vocabulary

_SPECIAL = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
}
_PADS = {"<|endoftext|>": END_OF_TEXT, "!": 0}  # of Stable Diffusion 1 and 2


def write_tokenizer(folder: str | Path, *, context_length: int, pad_id: int) -> None:
    """Write vocab.json, merges.txt and the two files that say how they are used.

    With ``pad_id`` 0, transformers takes every "!" of a prompt for padding, as in the published
    Stable Diffusion 2.
    """
    folder = Path(folder)
    special = _SPECIAL | {"pad_token": vocabulary()[pad_id]}
    with atomic(folder / "merges.txt") as temporary:
        temporary.write_text("#version: 0.2\n" + "\n".join(merges()) + "\n", encoding="utf-8")
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(vocabulary())})
    write_json(folder / "special_tokens_map.json", special)
    settings: dict[str, Any] = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    write_json(folder / "tokenizer_config.json", settings | special)


def read_pad_id(folder: str | Path) -> int:
    """What a folder's tokenizer pads with; ValueError where its ids are not ``ClipTokenizer``'s.

    A folder without a tokenizer's files is taken to mean the usual one, that of transformers.
    """
    folder = Path(folder)
    found: Any = None
    if (file := folder / "vocab.json").is_file():
        found = read(file)
    elif (file := folder / "tokenizer.json").is_file():
        found = read(file).get("model", {}).get("vocab")
    if found is not None and found != {token: i for i, token in enumerate(vocabulary())}:
        raise ValueError(
            f"{file} is not CLIP's vocabulary (or has tokens beyond it), so prompts would become "
            "other ids than the model was trained with; such a model cannot be read."
        )
    pad: Any = "<|endoftext|>"
    for name in ("special_tokens_map.json", "tokenizer_config.json"):  # the latter counts
        if (file := folder / name).is_file():
            pad = read(file).get("pad_token") or pad
            pad = pad.get("content") if isinstance(pad, dict) else pad
        if not isinstance(pad, str) or pad not in _PADS:
            raise ValueError(
                f"{file}: pad_token = {pad!r} is not supported; only {' or '.join(_PADS)} is. The "
                "states after a prompt's end, which the UNet sees, depend on it."
            )
    return _PADS[pad]
