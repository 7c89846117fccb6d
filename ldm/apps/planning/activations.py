"""What the forward pass keeps for the backward pass, found on the meta device.

Autograd is asked what it saves (saved-tensor hooks), each piece of memory counted once and weights
not at all. Autocast, which the meta device has not, is imitated: products in 16 bits, norms in
fp32, each weight cast once. Attention keeps what fused kernels keep: its inputs, its output and one
number per row.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from ldm.apps.planning.parts import BATCH, Parts, Pass
from ldm.nn.blocks import blocks

_PRODUCTS = (
    F.conv2d, F.linear, F.scaled_dot_product_attention, F.multi_head_attention_forward,
    torch.matmul, torch.bmm, torch.baddbmm, Tensor.matmul, Tensor.__matmul__,
)  # fmt: skip
_NORMS = (F.group_norm, F.layer_norm, F.batch_norm, F.softmax)


@dataclass(frozen=True)
class Kept:
    """Bytes that a pass leaves for its way back."""

    per_picture: float
    casts: float  # of weights, whatever the number of pictures
    recomputing: float  # per picture, where the blocks compute theirs again

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(
            self.per_picture + other.per_picture,
            self.casts + other.casts,
            self.recomputing + other.recomputing,
        )


def kept_by(parts: Parts, low: torch.dtype | None) -> Kept:
    """What a stage keeps for its largest pictures; ``low`` is autocast's type, None without."""
    largest = max(parts.passes, key=lambda shape: shape[0] * shape[1])
    found = kept(parts.passes[largest][0], low)
    for other in parts.beside:
        if other.share > 0.0:
            found += kept(other, None if other.exact else low)
    return found


def kept(way: Pass, low: torch.dtype | None) -> Kept:
    """The same of one pass."""
    noted = _Noted(way.network)
    mode = _AsOnDevice(low)
    with noted.by_block(), mode, torch.autograd.graph.saved_tensors_hooks(noted.see, _never):
        end = way.forward()
    casts = mode.casts
    everywhere = noted.sizes(casts)
    by_block: dict[nn.Module | None, float] = {}
    for storage, size in everywhere.items():
        owner = noted.owner[storage]
        by_block[owner] = by_block.get(owner, 0.0) + size
    outside = by_block.pop(None, 0.0)
    inputs = sum(
        size
        for storage, size in noted.inputs.items()
        if noted.owner.get(storage) is not None or storage not in everywhere
    )
    del end
    return Kept(
        per_picture=sum(everywhere.values()) / BATCH,
        casts=float(sum(cast.untyped_storage().nbytes() for cast in casts)),
        recomputing=(outside + inputs + max(by_block.values(), default=0.0)) / BATCH,
    )


class _Noted:
    """The pieces of memory that autograd saves, and in which repeated block."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._weights = {_storage(p) for p in (*network.parameters(), *network.buffers())}
        self._alive: list[Tensor] = []  # so that no address is given to another
        self._size: dict[int, int] = {}
        self.owner: dict[int, nn.Module | None] = {}
        self.inputs: dict[int, int] = {}
        self._block: nn.Module | None = None

    def see(self, tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage not in self._weights and storage not in self.owner:
            self._alive.append(tensor)
            self._size[storage] = tensor.untyped_storage().nbytes()
            self.owner[storage] = self._block
        return tensor

    def sizes(self, without: list[Tensor]) -> dict[int, int]:
        """Bytes by piece of memory, but for those of tensors ``without``."""
        left_out = {_storage(tensor) for tensor in without}
        return {storage: size for storage, size in self._size.items() if storage not in left_out}

    @contextmanager
    def by_block(self) -> Iterator[None]:
        """Within the context what is saved is known to belong to the block at work."""
        handles = []
        for block in blocks(self._network):
            handles.append(block.register_forward_pre_hook(self._enter))
            handles.append(block.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._block = block
        self._alive.append(inputs[0])
        self.inputs[_storage(inputs[0])] = inputs[0].untyped_storage().nbytes()

    def _leave(self, block: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._block = None


class _AsOnDevice(TorchFunctionMode):
    """Functions keep what they would keep under autocast to ``low`` with fused attention."""

    def __init__(self, low: torch.dtype | None) -> None:
        super().__init__()
        self.low = low
        self._cast: dict[int, Tensor] = {}
        self._weights: list[Tensor] = []

    @property
    def casts(self) -> list[Tensor]:
        """The copies of weights that were made."""
        return list(self._cast.values())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self.low is not None:
            to = self.low if func in _PRODUCTS else torch.float32 if func in _NORMS else None
            if to is not None:
                change = partial(self._to, to)
                args, kwargs = tree_map_only(Tensor, change, (args, kwargs))
        if func is F.scaled_dot_product_attention:
            return _Fused.apply(*args[:3])
        return func(*args, **(kwargs or {}))

    def _to(self, dtype: torch.dtype, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype == dtype:
            return tensor
        if not tensor.is_leaf or not tensor.requires_grad:
            return tensor.to(dtype)
        key = _storage(tensor)
        if key not in self._cast:  # autocast remembers weights, and only these
            self._cast[key] = tensor.to(dtype)
        return self._cast[key]


class _Fused(torch.autograd.Function):
    """Attention as fused kernels keep it; shapes only."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # Each position's heads lie side by side, as the projections left them.
        out = query.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3])
        out = out.transpose(1, 2)
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("nothing is computed here")


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _never(tensor: Tensor) -> Tensor:
    raise AssertionError("no backward pass is gone")
