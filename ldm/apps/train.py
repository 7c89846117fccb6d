"""`ldm train`: one stage, from its configuration to a finished model folder."""

import importlib
import sys
import time
from datetime import timedelta
from pathlib import Path

from omegaconf import DictConfig

from ldm.apps import exit_codes
from ldm.apps.announcement import in_one_line
from ldm.apps.beginning import assembled, init_input, quiet
from ldm.apps.bill.made_of import write_bill
from ldm.apps.durations import seconds_of
from ldm.apps.ending import finish, stopped
from ldm.apps.first_cause import FAILURE
from ldm.apps.process_start import BEGUN
from ldm.apps.record.file import Typed
from ldm.apps.record.sitting import Sitting
from ldm.apps.report.stages import PROMPTS
from ldm.apps.restarts import meet_after_restart
from ldm.apps.run_directory import begins_anew, held, is_first_process, open_run
from ldm.apps.shares import shares_of
from ldm.apps.stages.assembly import Assembly
from ldm.apps.trainer import make_trainer
from ldm.apps.training_data import TrainingData, buckets_in_words
from ldm.apps.watchers import open_loggers, watch
from ldm.callbacks.checkpoint import restore
from ldm.callbacks.interruption import Interruption
from ldm.callbacks.rows import FILE as ROWS
from ldm.data.order import Share
from ldm.manifest import read_manifest, remove_leftovers, write_json

_NOTHING = Typed()


def train(config: DictConfig, typed: Typed = _NOTHING) -> int:
    """Run the stage; its exit code: finished (now or before), stopped, or interrupted.

    ``typed`` is what the configuration was composed from, for the run's record.
    """
    stops = Interruption(config.stop_signals, _seconds_left(config))
    with stops as interruption, held(Path(config.run)):
        return _train(config, typed, interruption)


def _train(config: DictConfig, typed: Typed, interruption: Interruption) -> int:
    run = Path(config.run)
    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    inputs = stage.inputs(config)
    if config.init is not None:
        inputs = inputs | {"init": init_input(config.init, stage.PART)}
    if not open_run(config, inputs):
        if is_first_process():
            reached = read_manifest(run).facts["step"]
            print(f"{run} is finished (step {reached}): model in {run}/model")
        return exit_codes.FINISHED
    if is_first_process():
        remove_leftovers(run)
        (run / FAILURE).unlink(missing_ok=True)  # an earlier sitting's
    quiet()
    sitting = Sitting(config, typed) if is_first_process() else None
    assembly = assembled(config)
    task = assembly.task
    shares = shares_of(config, assembly.batches.sizes_px)
    if assembly.nothing_to_learn is not None:
        if sitting is not None:
            sitting.write(run, inputs, 0)
            write_bill(config, inputs, run, goes_on=False)
            print(f"{run}: {assembly.nothing_to_learn}")
        return finish(config, assembly, inputs)
    if assembly.prompts and is_first_process():
        write_json(run / "samples" / PROMPTS, assembly.prompts)
    record = sitting.for_checkpoints(inputs) if sitting is not None else {}
    watchers = watch(config, assembly, inputs, interruption, record)
    start = 0
    if not begins_anew(config):  # then, even where the first process has yet to move the old one
        mmap = config.strategy == "fsdp"
        start = restore(run / "checkpoints", task, watchers.with_state, mmap=mmap)
    meet_after_restart(config)
    if start == 0 and is_first_process() and (run / ROWS).exists():
        print(f"{run} has no checkpoint: it begins again at step 0, and so does its {ROWS}")
    if sitting is not None:
        sitting.write(run, inputs, start)
        write_bill(config, inputs, run, goes_on=start > 0)
    loggers = open_loggers(config, assembly, start, watchers.backends)  # which tell of both
    trainer = make_trainer(config, watchers.callbacks, loggers)
    _announce(config, assembly, shares, start)
    try:
        trainer.fit(task, TrainingData(assembly, config, start))
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # a second Ctrl-C, after Lightning
            raise error.__context__ from error
        raise
    except Exception as error:
        if trainer.world_size == 1:
            raise
        return watchers.first_cause.tell(error)
    checkpoint, number = watchers.checkpoint, interruption.signal_number
    if number is not None and task.step < config.max_steps:
        return stopped(trainer, checkpoint, number, start=start, step=task.step)
    if checkpoint.failure is not None:
        print(
            f"the last checkpoint is missing ({checkpoint.failure}): a larger max_steps needs it."
        )
    code = finish(config, assembly, inputs)
    watchers.patience.gather(None)  # launchers end the first process soon after the others
    return code


def _seconds_left(config: DictConfig) -> float | None:
    """How long this process may still go on, counted from its start; None: as long as it likes."""
    if config.max_time is None:
        return None
    return BEGUN + seconds_of(config.max_time) - time.monotonic()


def _announce(config: DictConfig, assembly: Assembly, shares: list[Share], start: int) -> None:
    if not is_first_process():
        return
    task = assembly.task
    count = sum(p.numel() for p in task.trained[task.product].network.parameters())
    print(in_one_line(config, task.product, count, shares, start))
    left = _seconds_left(config)
    if left is not None:
        print(f"max_time={config.max_time}: stops in {timedelta(seconds=max(0, round(left)))}")
    for line in buckets_in_words(assembly.batches, shares):
        print(line)
    sys.stdout.flush()
