"""A copy of a state in this machine's memory, so that training may go on while it is written."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_PLAIN = {bool, int, float, str, type(None)}


class Snapshot:
    """Copies nested containers of tensors to the CPU, into the same memory every time.

    What was taken is valid until the next is taken. From a GPU the copy goes through pinned
    memory, which is costly to get and so worth keeping. Nothing but tensors and plain values can
    be taken (TypeError), so that what is written of it loads with ``weights_only=True``.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[Any, ...], Tensor] = {}

    @torch.no_grad()
    def take(self, state: Any) -> Any:
        """The same plain containers with copies of their tensors, as they are now."""
        copied: list[tuple[Tensor, Tensor]] = []
        taken = self._copy(state, (), copied)
        memory, values = [to for to, _ in copied], [value for _, value in copied]
        if values:
            torch._foreach_copy_(memory, values, non_blocking=True)
        for device in {value.device for value in values if value.is_cuda}:
            torch.cuda.synchronize(device)
        return taken

    def _copy(self, value: Any, place: tuple[Any, ...], copied: list[tuple[Tensor, Tensor]]) -> Any:
        if isinstance(value, Tensor):
            memory = self._memory.get(place)
            if memory is None or (memory.shape, memory.dtype) != (value.shape, value.dtype):
                memory = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
                self._memory[place] = memory
            copied.append((memory, value.detach()))
            return memory
        if isinstance(value, Mapping):
            return {key: self._copy(part, (*place, key), copied) for key, part in value.items()}
        if isinstance(value, list | tuple):
            parts = (self._copy(part, (*place, i), copied) for i, part in enumerate(value))
            return list(parts) if isinstance(value, list) else tuple(parts)
        if type(value) not in _PLAIN:  # a subclass, as NumPy's float64 is one, would not load
            raise TypeError(f"{'.'.join(map(str, place))} is a {type(value)}, which is not plain")
        return value
