"""The end of a run: its model and manifest where it is finished, else what to do to go on."""

import signal
import sys
from pathlib import Path

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig

from ldm.apps import exit_codes
from ldm.apps.bill.made_of import complete_bill
from ldm.apps.closing import closing, said
from ldm.apps.report.page import write_report
from ldm.apps.run_directory import is_first_process, sign
from ldm.apps.stages.assembly import Assembly
from ldm.callbacks.checkpoint import Checkpoint
from ldm.callbacks.rows import FILE as ROWS
from ldm.callbacks.rows import read_jsonl


def finish(config: DictConfig, assembly: Assembly, inputs: dict[str, dict[str, str]]) -> int:
    """Write the model folder with the averaged weights, then the manifest that says so; exit code.

    All processes call it, since each may hold a part of the weights; the first writes.
    """
    run, task = Path(config.run), assembly.task
    with task.trained[task.product].exported():
        if is_first_process():
            assembly.write_model(run / "model")
    if not is_first_process():
        return exit_codes.FINISHED
    rows = read_jsonl(run / ROWS)
    held_out = [(row["step"], k, v) for row in rows for k, v in row.items() if k.startswith("val/")]
    facts = {name: value for step, name, value in held_out if step == held_out[-1][0]}
    line, more = closing(config.stage, rows, config)
    if assembly.pretrained:
        more = more | {"pretrained": dict(assembly.pretrained)}
    sign(run, config, inputs, {"step": task.step, **facts, **more})
    complete_bill(run)
    write_report(run)
    numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(facts.items()) if said(k))
    shown = f" ({numbers})" if numbers else ""
    print(f"{run}: finished at step {task.step}{shown}; model in {run}/model", flush=True)
    if line:
        print(f"{run}: {line}", flush=True)
    return exit_codes.FINISHED


def stopped(
    trainer: pl.Trainer, checkpoint: Checkpoint, number: int, *, start: int, step: int
) -> int:
    """The exit code of a run that signal ``number`` stopped; the first process says where."""
    if checkpoint.failure is not None:
        newest = checkpoint.newest()
        print(
            f"interrupted at step {step}, which could not be saved ({checkpoint.failure}); the "
            f"same command {f'goes on from step {newest}' if newest else 'begins at step 0'}.",
            file=sys.stderr,
        )
        return exit_codes.FAILED  # not what asks to be started again
    names = {signal.SIGINT: "Ctrl-C", signal.SIGALRM: "max_time"}
    if trainer.is_global_zero:
        name = names.get(signal.Signals(number), signal.Signals(number).name)
        saved = "which is saved" if step > start else "where it began"
        print(f"interrupted at step {step} ({name}), {saved}; the same command goes on.")
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if isinstance(environment, LightningEnvironment) and trainer.local_rank > 0:
        # Lightning, which started this process, kills the first one after any other code.
        return exit_codes.FINISHED
    return exit_codes.INTERRUPTED if number == signal.SIGINT else exit_codes.STOPPED
