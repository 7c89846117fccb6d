"""CLIP towers (Radford et al. 2021) built by open_clip, and the text side as condition encoder."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ldm.manifest import atomic, write_json
from ldm.nn.batch_norm import over_global_batch
from ldm.ranges import Count
from ldm.text.clip_settings import TextSettings, VisionSettings
from ldm.text.clip_text_tower import ClipTextTower
from ldm.text.tokenizer import ClipTokenizer
from ldm.types import Condition

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
STATES = ("last", "penultimate")


class ClipTowers(nn.Module):
    """A text and an image tower with a learned temperature, as open_clip builds them.

    ``vision`` and ``text`` are open_clip's vision_cfg and text_cfg; ``quick_gelu`` is its
    activation x sigmoid(1.702 x), which OpenAI's weights need. ``states`` says which of the text
    tower's states a denoiser is given: those after the "last" block, or after the "penultimate"
    as in Stable Diffusion 2. ``forward``: normalised images (B, 3, H, W) and ids (B, L) ->
    (image features (B, E), text features (B, E), scale), features of unit length.
    """

    def __init__(
        self,
        *,
        embed_dim: Count,
        vision: VisionSettings,
        text: TextSettings,
        quick_gelu: bool,
        states: Literal["last", "penultimate"],
    ) -> None:
        super().__init__()
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        if states not in STATES:
            raise ValueError(f"states={states!r} is unknown; choose {' or '.join(STATES)}.")
        _check_names("vision", vision, CLIPVisionCfg)
        _check_names("text", text, CLIPTextCfg)
        self.config: dict[str, Any] = {
            "embed_dim": embed_dim, "vision_cfg": dict(vision), "text_cfg": dict(text),
            "quick_gelu": quick_gelu,
        }  # fmt: skip
        self.model = CLIP(embed_dim, dict(vision), dict(text), quick_gelu)
        over_global_batch(self.model)
        self.states = states
        self.tokenize = ClipTokenizer(text["context_length"])

    def forward(self, image: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model(image, ids)

    def save(self, folder: str | Path) -> None:
        """Write open_clip's folder format, which ``create_model("local-dir:...")`` reads."""
        from safetensors.torch import save_file

        folder = Path(folder)
        config = {
            "model_cfg": self.config,
            "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3},
            "condition_cfg": {"states": self.states},  # ours; open_clip passes it over
        }
        state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
        with atomic(folder / WEIGHTS_FILE) as temporary:
            save_file(state, temporary)
        write_json(folder / CONFIG_FILE, config)

    @classmethod
    def load(cls, folder: str | Path) -> "ClipTowers":
        """Read what ``save`` wrote; ValueError naming the file when something is missing."""
        from safetensors.torch import load_file

        folder = Path(folder)
        if (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file():
            raise ValueError(
                f"{folder} holds a text tower of transformers without an image tower, and both are "
                "needed here. Train a pair with `ldm train experiment=demo_text_encoder`, or copy "
                "an open_clip folder there."
            )
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise ValueError(
                    f"{folder / name} is missing: {folder} is no CLIP folder. Train one with "
                    "`ldm train experiment=demo_text_encoder`, or copy an open_clip folder there."
                )
        whole = json.loads((folder / CONFIG_FILE).read_text())
        config = whole["model_cfg"]
        with torch.device("meta"):
            towers = cls(
                embed_dim=config["embed_dim"],
                vision=config["vision_cfg"],
                text=config["text_cfg"],
                quick_gelu=config.get("quick_gelu", False),
                states=whole.get("condition_cfg", {}).get("states", "last"),
            )
        fill(towers.model, load_file(str(folder / WEIGHTS_FILE)))
        return towers


def fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a tower of open_clip, built on the meta device, its weights, in fp32.

    RuntimeError where names or shapes do not fit.
    """
    floats = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    model.load_state_dict(floats, assign=True)
    if model.attn_mask is not None:  # causal, and in no file
        length = len(floats["positional_embedding"])
        model.attn_mask = torch.full((length, length), float("-inf")).triu(1)
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


Towers = ClipTowers | ClipTextTower


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

    Tokens are hidden states after the final layer norm: those of the last block (Stable Diffusion
    1) or of the one before it (Stable Diffusion 2), as ``towers.states`` says. The null condition
    is the encoding of "". ``towers`` keeps what it was made from, image tower and all, beside its
    own weights.
    """

    vector_dim = None
    is_learned = False

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        clip = towers.model
        self._towers = (towers,)  # in a tuple: the image tower is no part of this module
        self.tokenize = towers.tokenize
        self.config = towers.config
        self.width = int(towers.config["text_cfg"]["width"])
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final = clip.ln_final
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)

    @property
    def towers(self) -> Towers:
        """What the text tower was taken from."""
        return self._towers[0]

    def is_truncated(self, caption: str) -> bool:
        return self.tokenize.is_truncated(caption)

    def penultimate(self, ids: Tensor) -> Tensor:
        """States (B, L, D) before the last block, not normalised."""
        x = self.token_embedding(ids) + self.positional_embedding  # (B, L, D)
        for block in self.transformer.resblocks[:-1]:
            x = block(x, attn_mask=self.attn_mask)
        return x

    def last(self, penultimate: Tensor) -> Tensor:
        """States (B, L, D) after the last block, not normalised."""
        return self.transformer.resblocks[-1](penultimate, attn_mask=self.attn_mask)

    def forward(self, ids: Tensor, sizes: Tensor | None = None) -> Condition:
        return self.features(ids)

    def null(self, sizes: Tensor | None = None) -> Condition:
        """The encoding of the empty caption, with a batch of one."""
        return self.null_features()

    def features(self, ids: Tensor) -> Condition:
        """The whole condition."""
        x = self.penultimate(ids)
        return Condition(tokens=self.ln_final(self.last(x) if self.towers.states == "last" else x))

    def null_features(self) -> Condition:
        """The encoding of the empty caption, with a batch of one."""
        return self.features(self.tokenize([""]).to(self.positional_embedding.device))

    def with_sizes(self, features: Condition, sizes: Tensor | None) -> Condition:
        """The features as they are."""
        return features

    def default_sizes(self, height: int, width: int, *, negative: bool = False) -> None:
        """It is told no sizes."""
        return None
