"""What one training is, whatever it runs on: operations, parameters, memory, sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from omegaconf import DictConfig, OmegaConf

from ldm.apps.planning import flops, memory, sizes
from ldm.apps.planning.companions import Companions, companions
from ldm.apps.planning.in_shape import parts_in_shape
from ldm.apps.planning.parts import parameters, parts_of
from ldm.apps.planning.scaling import shards
from ldm.apps.report.numbers import size_in_words
from ldm.apps.shares import needs_whole_batch, shares_of


@dataclass(frozen=True)
class Estimate:
    """All that a configuration says by itself."""

    config: DictConfig
    tensors: int  # that the trained network's weights are
    flops: flops.Flops
    parameters: dict[str, int]
    held: memory.Holdings
    memory: dict[str, float]  # as configured, on each device
    checkpoint_bytes: float
    model_bytes: dict[str, float]
    cache_bytes_per_image: dict[str, int] | None
    companions: Companions


def estimate(
    config: DictConfig,
    *,
    experiment: str | None = None,
    latents_by: str | None = None,
    captions_by: str | None = None,
) -> Estimate:
    """Of a configuration of any stage, by a look at the shapes of its networks' tensors."""
    found = companions(
        config, autoencoder=latents_by, text_encoder=captions_by, experiment=experiment
    )
    parts = parts_of(config, found)
    held = memory.holdings_of(config, parts)
    counts = {"trained": parameters(parts.product)}
    counts |= {name: parameters(network) for name, network in parts.learns_beside.items()}
    counts |= {name: parameters(network) for name, network in parts.frozen.items()}
    return Estimate(
        config,
        sum(1 for _ in parts.product.parameters()),
        flops.flops_of(parts, recompute=config.activation_checkpointing),
        counts,
        held,
        memory.memory_of(held, cutting(config)),
        sizes.checkpoint_bytes(held, parts),
        sizes.model_bytes(parts),
        sizes.cache_bytes_per_image(config, found),
        found,
    )


def cutting(config: DictConfig) -> memory.Cutting:
    """How a configuration lays a batch and its weights on devices."""
    (share,) = shares_of(config, [(config.size, config.size)])
    parts = shards(config.devices * config.num_nodes, config.devices)
    return memory.Cutting(
        share.micro_batch, share.accumulate > 1, parts if config.strategy == "fsdp" else 1
    )


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training takes: on each device by part, and of its files."""

    memory: dict[str, float]
    checkpoint: float
    trained: float  # of a model, what was trained alone
    model: float  # and whole


# The settings that decide what a training holds, however its batch is cut. The others are not even
# there when it is looked at, for it is done once for all jobs of a sweep that differ in them.
_HELD_BY = [
    "stage", "size", "precision", "accelerator", "activation_checkpointing", "optimizer",
    "ema_decay", "backbone", "autoencoder", "discriminator", "text_encoder", "perceptual", "loss",
    "max_steps",
]  # fmt: skip
_Takes = tuple[memory.Holdings, float, dict[str, float]]  # bytes: held, of a checkpoint, of a model
_KNOWN: dict[str, _Takes | None] = {}


def footprint(config: DictConfig, experiment: str | None) -> Footprint | None:
    """What ``ldm check`` says of the memory and disk of a training, perhaps of an experiment.

    None where the network cannot be looked at so: the latents that are there do not go through it,
    or it does what tensors without numbers cannot.
    """
    found = companions(config, autoencoder=None, text_encoder=None, experiment=experiment)
    told = OmegaConf.masked_copy(config, _HELD_BY)
    told.optimizer.pop("lr", None)
    key = f"{OmegaConf.to_yaml(told)}{found}"
    if key not in _KNOWN:
        _KNOWN[key] = _takes(told, found)
    if (takes := _KNOWN[key]) is None:
        return None
    held, checkpoint, model = takes
    return Footprint(
        memory.memory_of(held, cutting(config)), checkpoint, model["trained"], sum(model.values())
    )


def _takes(config: DictConfig, found: Companions) -> _Takes | None:
    try:
        parts = parts_in_shape(config, found)
        held = memory.holdings_of(config, parts)
    except ValueError:  # the user's mistakes
        raise
    except Exception:  # of whatever network: it may train well all the same
        return None
    return held, sizes.checkpoint_bytes(held, parts), sizes.model_bytes(parts)


def too_large(config: DictConfig, found: Mapping[str, float]) -> str | None:
    """Why this machine's GPU cannot hold what training takes, with what to type; None: it can.

    Told of estimates a tenth above what the GPU has, as they may be off by that. ``found`` is a
    footprint's memory.
    """
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return None
    (share,) = shares_of(config, [(config.size, config.size)])
    here, wanted = torch.cuda.get_device_properties(0).total_memory, sum(found.values())
    if share.world_size == share.accumulate == 1:  # gradients grow where activations go
        wanted -= min(found["gradients"], found["activations"])
    if wanted <= 1.1 * here:
        return None
    remedies = []
    if needs_whole_batch(config):
        remedies.append("a lower global_batch, or more devices")
    elif found.get("activations", 0.0) > 0.2 * wanted and share.micro_batch > 1:
        remedies.append(f"micro_batch={max(1, share.micro_batch // 2)} or less")
    if not config.activation_checkpointing and config.stage != "text_encoder":
        remedies.append("activation_checkpointing=true")
    if config.stage == "diffusion" and config.strategy != "fsdp":
        remedies.append("strategy=fsdp on several devices")
    return (
        f"training needs about {size_in_words(wanted)} on each GPU, and this one has "
        f"{size_in_words(here)} ({memory.in_words(found)}). Set "
        f"{', '.join(remedies) or 'a smaller size or network'}; `ldm plan` says what each takes."
    )
