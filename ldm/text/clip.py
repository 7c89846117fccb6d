"""CLIP towers (Radford et al. 2021) built by open_clip, and the text side as condition encoder."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.nn.batch_norm import over_global_batch
from ldm.types import Condition

END_OF_TEXT = 49407
CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"


class ClipTokenizer:
    """open_clip's byte-pair tokenizer: captions -> ids (B, L) int64, padded with end-of-text.

    open_clip pads with 0, transformers with the end token; positions after the end differ with
    the pad, and a UNet attends to them, so one convention is fixed here: transformers'.
    Captions longer than L - 2 tokens keep their end token. ids are below 49408.
    """

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length

    def __call__(self, captions: Sequence[str]) -> Tensor:
        ids = _bpe()(list(captions), context_length=self.context_length)
        # Padding follows the first end token; a zero before it is the token "!".
        ended = (ids == END_OF_TEXT).cumsum(dim=1) > 0
        return torch.where(ended, END_OF_TEXT, ids)

    def is_truncated(self, caption: str) -> bool:
        """Whether a caption loses words."""
        return len(_bpe().encode(caption)) > self.context_length - 2


def _bpe() -> Any:
    """open_clip's tokenizer, made once per process (reading its merges takes a moment)."""
    global _BPE
    if _BPE is None:
        from open_clip.tokenizer import SimpleTokenizer

        _BPE = SimpleTokenizer()
    return _BPE


_BPE: Any = None


class ClipTowers(nn.Module):
    """A text and an image tower with a learned temperature, as open_clip builds them.

    ``vision`` and ``text`` are open_clip's vision_cfg and text_cfg. ``forward``: normalised images
    (B, 3, H, W) and ids (B, L) -> (image features (B, E), text features (B, E), scale), features
    of unit length.
    """

    def __init__(
        self, *, embed_dim: int, vision: Mapping[str, Any], text: Mapping[str, Any]
    ) -> None:
        super().__init__()
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        _check_names("vision", vision, CLIPVisionCfg)
        _check_names("text", text, CLIPTextCfg)
        self.config: dict[str, Any] = {
            "embed_dim": embed_dim, "vision_cfg": dict(vision), "text_cfg": dict(text),
        }  # fmt: skip
        self.model = CLIP(embed_dim, dict(vision), dict(text))
        over_global_batch(self.model)
        self.tokenize = ClipTokenizer(text["context_length"])

    def forward(self, image: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model(image, ids)

    def save(self, folder: str | Path) -> None:
        """Write open_clip's folder format, which ``create_model("local-dir:...")`` reads."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": self.config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n")
        state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        save_file(state, str(folder / WEIGHTS_FILE))

    @classmethod
    def load(cls, folder: str | Path) -> "ClipTowers":
        """Read what ``save`` wrote; ValueError naming the file when something is missing."""
        from safetensors.torch import load_file

        folder = Path(folder)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ValueError(
                    f"{folder / name} is missing: {folder} is no CLIP folder. Train one with "
                    "`ldm train experiment=demo_text_encoder`, or copy an open_clip folder there."
                )
        config = json.loads((folder / CONFIG_FILE).read_text())["model_cfg"]
        towers = cls(
            embed_dim=config["embed_dim"], vision=config["vision_cfg"], text=config["text_cfg"]
        )
        towers.model.load_state_dict(load_file(str(folder / WEIGHTS_FILE)))
        return towers


def _check_names(part: str, given: Mapping[str, Any], settings: type) -> None:
    known = [field.name for field in fields(settings)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known) or known
            raise ValueError(
                f"{part}.{name} is no setting of open_clip's towers; did you mean "
                f"{' or '.join(close)}?"
            )


class ClipText(nn.Module):
    """The text tower as condition encoder: ids (B, L) -> Condition with tokens (B, L, D).

    Tokens are the last hidden states after the final layer norm, as Stable Diffusion 1 uses them.
    The image tower is not kept. The null condition is the encoding of "".
    """

    def __init__(self, towers: ClipTowers) -> None:
        super().__init__()
        clip = towers.model
        self.tokenize = towers.tokenize
        self.config = towers.config
        self.width = int(towers.config["text_cfg"]["width"])
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final = clip.ln_final
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)

    def forward(self, ids: Tensor, sizes: Tensor | None = None) -> Condition:
        x = self.token_embedding(ids) + self.positional_embedding  # (B, L, D)
        x = self.transformer(x, attn_mask=self.attn_mask)
        return Condition(tokens=self.ln_final(x))

    def null(self) -> Condition:
        """The encoding of the empty caption, with a batch of one."""
        return self(self.tokenize([""]).to(self.positional_embedding.device))
