"""The tokenizer beside a text tower, in the files that transformers' CLIPTokenizer reads."""

from pathlib import Path
from typing import Any

from ldm.interop.diffusers_files import read
from ldm.manifest import atomic, write_json
from ldm.text.tokenizer import merges, vocabulary

_SPECIAL = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
}


def write_tokenizer(folder: str | Path, *, context_length: int) -> None:
    """Write vocab.json, merges.txt and the two files that say how they are used."""
    folder = Path(folder)
    with atomic(folder / "merges.txt") as temporary:
        temporary.write_text("#version: 0.2\n" + "\n".join(merges()) + "\n", encoding="utf-8")
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(vocabulary())})
    write_json(folder / "special_tokens_map.json", _SPECIAL)
    settings: dict[str, Any] = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    write_json(folder / "tokenizer_config.json", settings | _SPECIAL)


def require_clip_tokenizer(folder: str | Path) -> None:
    """ValueError where a folder's tokenizer gives other ids than our ``ClipTokenizer``.

    A folder without a tokenizer's files is taken to mean the usual one.
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
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if not (file := folder / name).is_file():
            continue
        pad = read(file).get("pad_token", _SPECIAL["pad_token"])
        pad = pad.get("content") if isinstance(pad, dict) else pad
        if pad != _SPECIAL["pad_token"]:
            raise ValueError(
                f"{file}: pad_token = {pad!r} is not supported; only {_SPECIAL['pad_token']!r} is. "
                "The states after a prompt's end, which the UNet sees, depend on it."
            )
