"""How the work is spread over processes, and what of it is kept or computed again."""

import os
from collections.abc import Iterator

from ldm.apps.rules.case import Case


def fsdp(case: Case) -> Iterator[str]:
    """Why weights cannot be shared out among processes."""
    config = case.config
    if config.strategy != "fsdp":
        return
    remedies = {
        f"stage {config.stage} has networks that fit on one device; set strategy=ddp": (
            config.stage != "diffusion"
        ),
        "there is only one process to hold them; set devices=N, or strategy=auto": (
            config.devices * config.num_nodes == 1
        ),
        "Muon needs whole matrices; set optimizer=adamw": (
            "muon" in str(config.optimizer._target_).lower()
        ),
        "what is cut must lie in memory row by row; set channels_last=false": (
            bool(config.get("channels_last"))
        ),
        "a compiled network is cut wherever weights are gathered; set compile=false": (
            config.compile
        ),
        f"precision={config.precision} does not go with it; set precision=bf16-mixed": (
            config.precision not in ("32-true", "64-true", "bf16-mixed")
        ),
    }
    for remedy, needed in remedies.items():
        if needed:
            yield f"strategy=fsdp shares the weights out among processes, but {remedy}."


def recomputing(case: Case) -> Iterator[str]:
    """Activations that are to be computed again, where no block could."""
    if case.config.activation_checkpointing and case.config.stage == "text_encoder":
        yield (
            "activation_checkpointing is for the denoiser and the autoencoder; towers "
            "are trained without. Set activation_checkpointing=false."
        )


def launched(case: Case) -> Iterator[str]:
    """As many processes as torchrun or Lightning has started, where one of them has."""
    config = case.config
    started, asked = os.environ.get("WORLD_SIZE", ""), config.devices * config.num_nodes
    if started.isdigit() and int(started) != asked:
        yield (
            f"{started} processes were started (WORLD_SIZE), and devices={config.devices} x "
            f"num_nodes={config.num_nodes} are {asked}. Set devices to the processes of one "
            "machine and num_nodes to the machines."
        )


def nodes_of_the_launcher(case: Case) -> Iterator[str]:
    """A remark: several machines are started by torchrun or SLURM, one command does not."""
    config = case.config
    if config.num_nodes > 1 and not {"WORLD_SIZE", "SLURM_NTASKS"} & {*os.environ}:
        yield (
            f"num_nodes={config.num_nodes}: start this command on each of the machines, by "
            "torchrun or srun (docs/clusters.md); alone it waits for the others."
        )
