"""`ldm train replay=DUMP`: a step that was not finite once more, looked at from inside."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

from ldm.apps.beginning import assembled, quiet
from ldm.apps.dumps import config_fingerprint, kept_checkpoint
from ldm.apps.errors import UserError
from ldm.apps.run_directory import CONFIG
from ldm.apps.schema.check import check_schema
from ldm.apps.trainer import make_trainer
from ldm.apps.training_data import TrainingData
from ldm.apps.watchers import watch
from ldm.callbacks.checkpoint import restore
from ldm.callbacks.interruption import Interruption
from ldm.manifest import read_json

SHOWN = 8  # samples
ONE_PROCESS = {"devices": 1, "num_nodes": 1, "strategy": "auto", "logger": None}


def replay(dump: str, words: Sequence[str]) -> int:
    """Go silently to the step of a dump, take it, print a page about it; 0.

    The run's own configuration holds, but for ``words`` (``precision=32-true`` tells whether the
    precision is to blame). One process does the work of all, and nothing is written into the run.
    """
    path = Path(dump).expanduser()
    if not path.is_file() or path.suffix != ".json":
        raise UserError(f"replay={dump} is no dump; they lie in RUN/dumps/step_*.json.")
    found = read_json(path)
    config = _config(path.resolve().parents[1], found, words)
    quiet()
    assembly = assembled(config)
    watchers = watch(config, assembly, {}, Interruption(), {})
    task, step = assembly.task, found["step"]
    start = restore(kept_checkpoint(path), task, watchers.with_state)
    if start != (found["checkpoint_step"] or 0):
        raise UserError(
            f"{kept_checkpoint(path)} should hold the checkpoint of step "
            f"{found['checkpoint_step']}; without it the step cannot be repeated."
        )
    last = OmegaConf.merge(config, {"max_steps": step + 1})
    assert isinstance(last, DictConfig)
    print(f"{path}: {step - start} step(s) to step {step}, from that of step {start}", flush=True)
    look = Look(step)
    make_trainer(config, [look], []).fit(task, TrainingData(assembly, last, start))
    samples = {sample["index"]: sample for sample in found["samples"]}
    for line in look.page(samples):
        print(line)
    return 0


def _config(run: Path, found: dict[str, Any], words: Sequence[str]) -> DictConfig:
    """The run's configuration with ``words``, for one process."""
    if not (run / CONFIG).is_file():
        raise UserError(f"{run} has no {CONFIG}; a dump is replayed where the run left it.")
    config = OmegaConf.load(run / CONFIG)
    assert isinstance(config, DictConfig)
    if config_fingerprint(config) != found["config_fingerprint"]:
        print(f"{run / CONFIG} has changed since; the step may not be the same")
    ranks = config.devices * config.num_nodes
    config.micro_batch = config.micro_batch or config.global_batch // ranks
    discriminator = config.get("discriminator") or {}
    if config.stage == "text_encoder" or discriminator.get("norm") == "batch":
        config.micro_batch = None  # they need the batch whole
    for key, value in ONE_PROCESS.items():
        config[key] = value
    for word in words:
        key, _, value = word.partition("=")
        if OmegaConf.select(config, key, default=word) is word:
            raise UserError(f"{word} is no setting of the run, which replay= repeats.")
    config = OmegaConf.merge(config, OmegaConf.from_dotlist(list(words)))
    assert isinstance(config, DictConfig)
    check_schema("train", config)
    return config


class Look(Callback):
    """Watches one step: what is not finite first, forwards and backwards, and each sample's loss.

    Unlike training it asks the host at every module.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        self.first_output: str | None = None
        self.bad_gradients: list[str] = []
        self.losses: dict[int, float] = {}
        self.logs: dict[str, float] = {}
        self._hooks: list[Any] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        if module.step != self.step:
            return
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            losses = module.sample_losses(batch).float().tolist()
        self.losses |= dict(zip(batch.index.tolist(), losses, strict=True))
        if not self._hooks:
            self._hooks = [*self._watch(module)]

    def _watch(self, task: Any) -> Iterator[Any]:
        for part in task.trained.values():
            for name, parameter in part.network.named_parameters():
                if parameter.requires_grad:
                    yield parameter.register_post_accumulate_grad_hook(self._gradient_of(name))
        for name, module in task.named_modules():
            if name:
                yield module.register_forward_hook(self._output_of(name))

    def _gradient_of(self, name: str) -> Any:
        def look(parameter: nn.Parameter) -> None:
            if name not in self.bad_gradients and not bool(parameter.grad.isfinite().all()):  # type: ignore[union-attr]
                self.bad_gradients.append(name)

        return look

    def _output_of(self, name: str) -> Any:
        def look(module: nn.Module, given: Any, output: Any) -> None:
            if self.first_output is None and not _finite(output):
                came = "" if _finite(given) else ", which was given what is not finite already"
                self.first_output = f"{name} ({type(module).__name__}){came}"

        return look

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if self._hooks:
            self.logs |= {name: float(value) for name, value in outputs.items()}

    def page(self, samples: dict[int, dict[str, Any]]) -> Iterator[str]:
        """What there is to say, line by line; ``samples`` by global index."""
        norms = {k: v for k, v in self.logs.items() if k.endswith("gradient_norm")}
        shown = ", ".join(f"{k} {v:.4g}" for k, v in {"loss": self.logs["loss"], **norms}.items())
        bad = self.bad_gradients or not all(_is_finite(v) for v in self.logs.values())
        yield f"step {self.step}: {shown}"
        if not bad:
            yield "everything is finite here: another device, precision or word may be the reason"
        elif self.first_output is None:
            yield "every module's output is finite: the loss or its gradient is not"
        else:
            yield f"first output that is not finite: {self.first_output}"
        if self.bad_gradients:
            count, few = len(self.bad_gradients), ", ".join(self.bad_gradients[:3])
            yield f"gradients that are not finite, as they came: {count} ({few}, ...)"
        yield "samples by loss, those that are not finite first:"
        order = sorted(self.losses, key=lambda i: (_is_finite(self.losses[i]), -self.losses[i]))
        for i in order[:SHOWN]:
            facts = ", ".join(f"{k} {json.dumps(v)}" for k, v in samples.get(i, {}).items())
            yield f"  {self.losses[i]:.4g}: {facts}"


def _finite(value: Any) -> bool:
    """Whether all floating tensors in a module's input or output are finite."""
    tensors = [t for t in torch.utils._pytree.tree_leaves(value) if isinstance(t, Tensor)]
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


def _is_finite(value: float) -> bool:
    return value - value == 0.0
