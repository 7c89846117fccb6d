"""Lightning's trainer, set up for ours: it loops and moves data; all else is our own."""

from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies import DDPStrategy

from ldm.apps.build import device_of
from ldm.tasks.sharding import ShardedStrategy


def make_trainer(config: DictConfig, callbacks: list[Any], loggers: list[Any]) -> pl.Trainer:
    """A trainer on the configured devices that counts nothing, saves nothing, prints nothing."""
    return pl.Trainer(
        accelerator="gpu" if device_of(config.accelerator).type == "cuda" else "cpu",
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=_strategy(config),
        **_precision(config),
        max_epochs=1,
        logger=loggers,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        log_every_n_steps=10**9,  # MetricsLog logs
    )


def _strategy(config: DictConfig) -> Any:
    if config.devices * config.num_nodes == 1:
        return "auto"
    backend = "nccl" if device_of(config.accelerator).type == "cuda" else "gloo"
    if config.strategy == "fsdp":
        return ShardedStrategy(process_group_backend=backend)
    return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True)


def _precision(config: DictConfig) -> dict[str, Any]:
    """What Lightning is told. With weights of 16 bits it computes as with mixed precision.

    Its own way would make everything 16 bits, timesteps and random draws too. The loss scale of
    fp16 is our own.
    """
    computes = {"bf16-true": "bf16-mixed", "16-true": "16-mixed"}
    precision: Any = computes.get(config.precision, config.precision)
    if not precision.endswith("-mixed"):
        return {"precision": precision}
    mixed = MixedPrecision(precision, device_of(config.accelerator).type)
    mixed.scaler = None
    return {"plugins": [mixed]}
