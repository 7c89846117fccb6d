"""How the processes of a torchrun restart meet: those before them left their addresses behind."""

import os

import torch
from omegaconf import DictConfig

from ldm.apps.build import device_of
from ldm.apps.errors import UserError

# torchrun keeps one store over its restarts, without a prefix for each (pytorch issue 135712).
_OWN_STORES = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def meet_after_restart(config: DictConfig) -> None:
    """Found the process group of a restart under a name of its own; else Lightning founds it.

    UserError where torchrun may restart several machines, which count restarts each for themselves.
    """
    may = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if may == 0 or os.environ.get(_OWN_STORES) == "1":
        return
    if config.num_nodes > 1:
        raise UserError(
            f"torchrun --max-restarts={may} on several machines: processes that are started again "
            f"would look for those before them. Set {_OWN_STORES}=1 for torchrun on each machine "
            "(pytorch issue 135712)."
        )
    restarts = os.environ["TORCHELASTIC_RESTART_COUNT"]
    if restarts == "0":
        return
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    torch.distributed.init_process_group(
        "nccl" if device_of(config.accelerator).type == "cuda" else "gloo",
        store=torch.distributed.PrefixStore(  # type: ignore[attr-defined]
            f"restart_{restarts}",
            torch.distributed.TCPStore(*place, is_master=False),  # type: ignore[attr-defined]
        ),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
