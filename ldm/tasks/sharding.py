"""Weights that are shared out: each process holds a part of every tensor (FSDP2)."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ldm.nn.blocks import blocks
from ldm.nn.ema import Ema


class ShardedStrategy(DDPStrategy):
    """Shares the trained weights out among the processes of a machine; between machines, copies.

    Everything else (launching, groups, loops) is DDP's. The whole network passes through a device
    once, before it is cut. Mixed precision is autocast's, as elsewhere: gathering weights in bf16
    would halve the traffic, but round what normalisation multiplies by, and one process would no
    longer compute what several compute.
    """

    def configure_ddp(self) -> None:
        """Cut what trains, in place of wrapping it."""
        # Over all processes where a machine has one; else within each, where links are fast.
        sizes = {"replicate": self.num_nodes, "shard": self.num_processes}
        sizes = {name: size for name, size in sizes.items() if size > 1}
        mesh = init_device_mesh(
            self.root_device.type, tuple(sizes.values()), mesh_dim_names=tuple(sizes)
        )
        for part in self._trained():
            part.shard(mesh)

    @contextmanager
    def block_backward_sync(self) -> Generator[None, None, None]:
        """Within the block gradients add up on each process, whole and unshared."""
        networks = [part.network for part in self._trained()]
        for network in networks:
            network.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            for network in networks:
                network.set_requires_gradient_sync(True)

    def teardown(self) -> None:
        """As DDP's, but the weights stay on their devices, since the model is yet to be written."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    def _trained(self) -> list[Any]:
        task: Any = self.lightning_module
        return list(task.trained.values())


def share_out(network: nn.Module, optimizer: Optimizer, ema: Ema | None, mesh: DeviceMesh) -> None:
    """Cut a network, the state of its optimizer and its average; each process keeps its part.

    All must be whole and alike on all processes before.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    for module in (*blocks(network), network):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    parts: dict[str, Any] = dict(network.named_parameters())
    state = {
        parts[names[parameter]]: {
            key: _part_of(value, parts[names[parameter]]) for key, value in values.items()
        }
        for parameter, values in optimizer.state.items()
    }
    optimizer.state.clear()
    optimizer.state.update(state)
    for group in optimizer.param_groups:
        group["params"] = [parts[names[parameter]] for parameter in group["params"]]
    if ema is not None:
        ema.shadow = {name: _part_of(value, parts[name]) for name, value in ema.shadow.items()}


def _part_of(value: Any, parameter: DTensor) -> Any:
    """This process's part of a tensor that is cut as ``parameter`` is; counters stay whole."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    cut = distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
    # A copy in memory of its own: what was cut is still a view of the whole.
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(cut)


def whole(state: Any) -> Any:
    """The containers of ``state`` with whole tensors in place of parts: all processes call it.

    The first process gets them in the memory of the CPU, the others without content.
    """

    def gather(value: DTensor) -> Tensor:
        tensor = value.full_tensor()
        return tensor.to("cpu" if torch.distributed.get_rank() == 0 else "meta")

    return apply_to_collection(state, DTensor, gather)


@contextmanager
def gathered(network: nn.Module) -> Iterator[None]:
    """Within the block every process holds all weights, and may use the network by itself."""
    modules = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(True, recurse=False)


@contextmanager
def saying(network: nn.Module, state: dict[str, Any]) -> Iterator[None]:
    """Within the block ``network.state_dict()`` is ``state``, whatever the network holds."""

    def say(module: nn.Module, found: dict[str, Any], prefix: str, metadata: Any) -> None:
        found.update({prefix + name: value for name, value in state.items()})

    handle = network.register_state_dict_post_hook(say)
    try:
        yield
    finally:
        handle.remove()
