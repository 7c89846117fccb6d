"""A CLIP text tower by itself, for models that come without their image tower."""

from typing import Any

from torch import nn

from ldm.ranges import Count, Natural, Positive
from ldm.text.tokenizer import ClipTokenizer


class ClipTextTower(nn.Module):
    """The text half of ``ClipTowers``, as open_clip builds it; ``ClipText`` is made from either.

    ``embed_dim`` is the width of its projection into a space shared with pictures; None has no
    projection. ``quick_gelu`` is x sigmoid(1.702 x) in place of the exact GELU, as OpenAI's towers
    have it; ``pad_id`` is what its captions are padded with.
    """

    states = "last"

    def __init__(
        self,
        *,
        context_length: Count,
        vocab_size: Count,
        width: Count,
        heads: Count,
        layers: Count,
        mlp_ratio: Positive,
        embed_dim: Count | None,
        quick_gelu: bool,
        pad_id: Natural,
    ) -> None:
        super().__init__()
        from open_clip.transformer import QuickGELU, TextTransformer

        text: dict[str, Any] = {
            "context_length": context_length, "vocab_size": vocab_size, "width": width,
            "heads": heads, "layers": layers, "mlp_ratio": mlp_ratio,
        }  # fmt: skip
        self.config: dict[str, Any] = {"text_cfg": text, "quick_gelu": quick_gelu}
        self.model = TextTransformer(
            **text,
            act_layer=QuickGELU if quick_gelu else nn.GELU,
            output_dim=embed_dim,
            proj_type="none" if embed_dim is None else "linear",
        )
        self.tokenize = ClipTokenizer(context_length, pad_id)
