"""CLIP towers in shape alone: the parameters that open_clip's have, without importing it.

For what is to be known before a run, as how many parameters there are and whether a picture and a
caption go through. Nothing is ever learned here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Settings that decide shapes, with open_clip's defaults; towers with others are not described.
VISION: dict[str, Any] = {
    "image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "head_width": 64,
    "mlp_ratio": 4.0,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12,
    "mlp_ratio": 4.0,
}  # fmt: skip


def describes(vision: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """Whether towers of these settings have the shapes that are known here."""
    is_square = isinstance(vision.get("image_size", 0), int)
    return is_square and vision.keys() <= VISION.keys() and text.keys() <= TEXT.keys()


class ClipShapes(nn.Module):
    """Both towers under the names of ``ClipTowers``; to be made on the meta device.

    ``forward``: images (B, 3, H, W) and ids (B, L) -> (features (B, E), features (B, E), scale).
    """

    def __init__(
        self, *, embed_dim: int, vision: Mapping[str, Any], text: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.model = _Clip(embed_dim, {**VISION, **vision}, {**TEXT, **text})

    def forward(self, image: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        return model.visual(image), model.text(ids), model.logit_scale


class _Clip(nn.Module):
    """The text tower lies beside ``visual``, not in a part of its own."""

    def __init__(self, embed_dim: int, vision: Mapping[str, Any], text: Mapping[str, Any]) -> None:
        super().__init__()
        width = text["width"]
        self.positional_embedding = nn.Parameter(torch.empty(text["context_length"], width))
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty(()))
        is_transformer = isinstance(vision["layers"], int)
        self.visual = (_VisionTransformer if is_transformer else _ResNet)(embed_dim, vision)
        self.transformer = _Transformer(width, text["heads"], text["layers"], text["mlp_ratio"])
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.ln_final = nn.LayerNorm(width)

    def text(self, ids: Tensor) -> Tensor:
        x = self.token_embedding(ids) + self.positional_embedding  # (B, L, D)
        return self.ln_final(self.transformer(x))[:, -1] @ self.text_projection  # (B, E)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, heads: int, layers: int, mlp_ratio: float) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(_Block(width, heads, mlp_ratio) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class _VisionTransformer(nn.Module):
    def __init__(self, embed_dim: int, vision: Mapping[str, Any]) -> None:
        super().__init__()
        width, patch = vision["width"], vision["patch_size"]
        patches = (vision["image_size"] // patch) ** 2
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(patches + 1, width))
        self.proj = nn.Parameter(torch.empty(width, embed_dim))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        heads = width // vision["head_width"]
        self.transformer = _Transformer(width, heads, vision["layers"], vision["mlp_ratio"])

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv1(image).flatten(2).transpose(1, 2)  # (B, patches, D)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x))[:, 0] @ self.proj  # (B, E)


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        out = 4 * planes
        self.conv1, self.bn1 = _conv(inputs, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = _conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = _conv(planes, out, 1), nn.BatchNorm2d(out)
        self.pool = nn.AvgPool2d(stride)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != out:
            self.downsample = nn.Sequential(_conv(inputs, out, 1), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        return self.bn3(self.conv3(y)) + self.downsample(self.pool(x))


class _AttentionPool(nn.Module):
    def __init__(self, side: int, width: int, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(side**2 + 1, width))
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)  # (B, h*w, D)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding
        scores = self.q_proj(x[:, :1]) @ self.k_proj(x).transpose(1, 2)
        return self.c_proj(scores @ self.v_proj(x))[:, 0]  # (B, E)


class _ResNet(nn.Module):
    """Stride 32: two of the stem, and a halving before each level but the first."""

    def __init__(self, embed_dim: int, vision: Mapping[str, Any]) -> None:
        super().__init__()
        width = vision["width"]
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2, self.bn2 = _conv(width // 2, width // 2, 3), nn.BatchNorm2d(width // 2)
        self.conv3, self.bn3 = _conv(width // 2, width, 3), nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(2)
        inputs = width
        for level, blocks in enumerate(vision["layers"]):
            planes = width * 2**level
            strides = [1 if level == 0 else 2] + [1] * (blocks - 1)
            self.add_module(f"layer{level + 1}", _level(inputs, planes, strides))
            inputs = 4 * planes
        self.attnpool = _AttentionPool(vision["image_size"] // 32, inputs, embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        x = self.bn3(self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(image))))))
        x = self.pool(x)
        for name, level in self.named_children():
            if name.startswith("layer"):
                x = level(x)
        return self.attnpool(x)


def _level(inputs: int, planes: int, strides: Sequence[int]) -> nn.Sequential:
    widths = [inputs] + [4 * planes] * (len(strides) - 1)
    return nn.Sequential(
        *(_Bottleneck(width, planes, s) for width, s in zip(widths, strides, strict=True))
    )


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
