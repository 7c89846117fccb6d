"""Features of any image network that timm knows, with weights from a local file.

With DINOv2 ViT-L/14 at 224 px these are the features of FD-DINOv2 (Stein et al. 2023).
"""

import difflib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldm import weights
from ldm.features.prepared import PreparedFeatures, Preprocessing


class _Pooled(nn.Module):
    """What timm's classifier would see: the class token or an average, as the model pools."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        maps = self.model.forward_features(x)  # type: ignore[operator]
        return self.model.forward_head(maps, pre_logits=True)  # type: ignore[operator]  # (B, D)


def read_timm(model: str, path: str | Path, *, size_px: int | None) -> PreparedFeatures:
    """Features of timm's network ``model``, before its classifier, with the weights of a file.

    The file is timm's own or its origin's, as far as timm knows how to convert that. Pictures are
    squashed to ``size_px`` (None: the size that the weights are for) and normalised as timm's
    settings for the model say. ValueError for an unknown model or a file of another one.
    """
    import timm

    config = _config(model)
    size = (size_px, size_px) if size_px else config.input_size[1:]
    # Transformers are built for a size; convolutions take any.
    built_for: dict[str, Any] = {"img_size": size} if config.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):  # what it draws at first is no concern of others
        network = timm.create_model(model, pretrained=False, num_classes=0, **built_for)
    state = weights.load_state_dict(path)
    positions = _resample_as_dinov2(state, network)
    _fill(network, state, config, origin=f"{path}")
    token = getattr(network, "global_pool", "") == "token"
    protocol = {
        "features": f"timm {model}",
        "pooling": "class token after the last norm" if token else "the model's own, before logits",
        "positions": positions,
        "features_hash": weights.hash_tensors(network.state_dict()),
    }
    preprocessing = Preprocessing(
        size=tuple(size),
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation,
        shape="squash",
    )
    return PreparedFeatures(
        _Pooled(network),
        preprocessing,
        num_features=int(network.head_hidden_size),  # type: ignore[arg-type]
        protocol=protocol,
    )


def _config(model: str) -> Any:
    """timm's settings of a pretrained model, which come with the package."""
    import timm

    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else "See timm.list_models()."
        raise ValueError(f"model={model!r} is no image network of timm. {hint}")
    try:
        config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        raise ValueError(f"model={model!r}: {error}. Leave out what follows the dot.") from error
    if config is None:
        raise ValueError(f"model={model!r} has no pretrained weights in timm; choose another.")
    return config


def _fill(network: nn.Module, state: dict[str, Tensor], config: Any, *, origin: str) -> None:
    """Load weights as timm converts them, without those of the classifier."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, network)
    heads = [config.classifier] if isinstance(config.classifier, str) else config.classifier or []
    state = {k: v for k, v in state.items() if not k.startswith(tuple(f"{h}." for h in heads))}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{origin} holds the weights of another model: {error}") from error


def _resample_as_dinov2(state: dict[str, Tensor], network: nn.Module) -> str:
    """Bring DINOv2's position embeddings to the network's grid in place, as its authors do.

    They differ from timm in that nothing is averaged (no antialiasing) and that a tenth of a patch
    is added to the grid. Only Meta's files without registers (``mask_token`` tells) are changed;
    returns what a record must say.
    """
    stored = state.get("pos_embed")
    if stored is None or "mask_token" not in state or "register_tokens" in state:
        return "as timm resamples them (bicubic, antialias on)"
    height, width = network.patch_embed.grid_size  # type: ignore[union-attr,misc]
    side = round((stored.shape[1] - 1) ** 0.5)
    if side**2 + 1 == stored.shape[1] and (height, width) != (side, side):
        grid = stored[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
        factor = ((height + 0.1) / side, (width + 0.1) / side)
        grid = functional.interpolate(grid, scale_factor=factor, mode="bicubic")
        assert grid.shape[-2:] == (height, width)
        state["pos_embed"] = torch.cat(
            [stored[:, :1], grid.flatten(2).transpose(1, 2)], dim=1
        )  # (1, 1 + h w, D)
    return "as DINOv2 resamples them (bicubic, antialias off, offset 0.1)"
