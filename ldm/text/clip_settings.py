"""What open_clip's towers may be told: its ``CLIPVisionCfg`` and ``CLIPTextCfg``, with ranges."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from ldm.ranges import Count, Length, Natural, Positive, Share


class _Blocks(TypedDict, total=False):
    """Blocks of either tower; open_clip has defaults for all that is left out."""

    width: Count
    mlp_ratio: Positive
    ls_init_value: Positive | None
    final_ln_after_pool: bool
    pool_type: str
    output_tokens: bool
    act_kwargs: Mapping[str, Any] | None
    norm_kwargs: Mapping[str, Any] | None
    block_type: str | None
    qk_norm: bool
    scaled_cosine_attn: bool
    scale_heads: bool
    scale_attn_inner: bool
    scale_attn: bool
    scale_fc: bool


class VisionSettings(_Blocks, total=False):
    """The image tower: a vision transformer, or a residual network where ``layers`` are four."""

    image_size: Count | Annotated[Sequence[Count], Length(2)]
    patch_size: Count
    layers: Count | Annotated[Sequence[Count], Length(4)]
    head_width: Count
    patch_dropout: Share
    attentional_pool: bool
    attn_pooler_queries: Count
    attn_pooler_heads: Count
    no_ln_pre: bool
    pos_embed_type: str
    timm_model_name: str | None
    timm_model_pretrained: bool
    timm_pool: str
    timm_proj: str
    timm_proj_bias: bool
    timm_drop: Share
    timm_drop_path: Share | None


class TextSettings(_Blocks, total=False):
    """The text tower."""

    context_length: Count
    vocab_size: Count
    heads: Count
    layers: Count
    embed_cls: bool
    pad_id: Natural
    eos_id: Natural
    no_causal_mask: bool
    proj_bias: bool
    proj_type: str
    hf_tokenizer_name: str | None
    tokenizer_mode: str | None
    tokenizer_kwargs: Mapping[str, Any] | None
    hf_model_name: str | None
    hf_model_pretrained: bool
    hf_proj_type: str
    hf_pooler_type: str
