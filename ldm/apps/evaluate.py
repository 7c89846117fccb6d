"""`ldm evaluate`: generates pictures, or takes given ones, and measures them; with protocols."""

from itertools import chain
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import device_of
from ldm.apps.errors import UserError
from ldm.apps.evaluations.held import held
from ldm.apps.evaluations.measure import REFERENCE, SAMPLES, Measure
from ldm.apps.evaluations.noted import NotedInFiles
from ldm.apps.evaluations.noting import measures_of, note
from ldm.apps.evaluations.sets.generated import GeneratedPictures
from ldm.apps.evaluations.setting import CommandSetting
from ldm.apps.locate import model_at_step
from ldm.apps.processes import require_devices
from ldm.apps.report.page import refresh_report
from ldm.apps.sample_folder import (
    GRID,
    GRID_IMAGES,
    is_finished,
    open_samples,
    read_sample,
    write_grid,
)
from ldm.manifest import fingerprint, write_json
from ldm.metrics.one_thread import one_thread
from ldm.metrics.protocol import record, versions
from ldm.metrics.statistics import Observed, write_statistics


def evaluate(config: DictConfig) -> int:
    """Write the metrics file; names are those of configs/metrics."""
    setting, measures = asked(config)
    with held(Path(config.out)):
        return _evaluate(config, setting, measures)


def _evaluate(config: DictConfig, setting: CommandSetting, measures: list[Measure]) -> int:
    out = Path(config.out)
    notes = out.with_suffix(".notes") if config.notes is None else Path(config.notes)
    noted = NotedInFiles(setting, notes)
    kept = setting.pictures[SAMPLES] if setting.pictures.keeps_samples else None
    if kept is not None:
        assert isinstance(kept, GeneratedPictures) and kept.folder is not None
        open_samples(kept.folder, kept.record)
    note(setting, noted, measures)
    if setting.pictures.builds_statistics:
        return _build_statistics(setting, noted, measures)
    if kept is not None:
        _finish(kept)
    results: dict[str, Any] = {}
    with one_thread():
        for name, value, protocol in chain.from_iterable(m.numbers(noted) for m in measures):
            results[name] = record(value, **protocol)
            why = results[name].get("why")
            print(f"{name}: {value:.4g}{f' (not valid: {why})' if why else ''}", flush=True)
    if not results:
        raise UserError("nothing could be measured, as said above; choose other metrics.")
    write_json(out, results)
    refresh_report(out.parent)
    print(f"{out}: {len(results)} numbers, each with its protocol")
    return 0


def asked(config: DictConfig) -> tuple[CommandSetting, list[Measure]]:
    """What there is to be measured, and by what; UserError for what lacks, or does not fit.

    Nothing is made or written yet.
    """
    if config.checkpoint is not None:
        at_step = model_at_step(config.model, config.checkpoint)
        config = OmegaConf.create({**config, "model": at_step})
    if not config.get("metrics"):  # [] leaves no such key
        raise UserError("metrics=[] measures nothing; name some, such as metrics=[fd_own].")
    if Path(config.out).is_dir() or not Path(config.out).name:
        raise UserError(
            f"out={config.out} is a directory; name a file, such as metrics.json in it."
        )
    require_devices(device_of(config.accelerator).type, config.devices)
    setting = CommandSetting(config)
    measures = measures_of(config, setting)
    is_file_of_statistics = Path(config.out).suffix == ".safetensors"
    if setting.pictures.builds_statistics and not is_file_of_statistics:
        raise UserError(
            "there is nothing to judge: give samples=DIR, or model=RUN that makes pictures. To "
            "make a file of statistics of the reference, give out=FILE.safetensors."
        )
    if setting.pictures.builds_statistics and config.num_samples is not None:
        raise UserError(
            f"num_samples={config.num_samples} says how many pictures are judged, and a file of "
            "statistics is made of all pictures of the reference; leave it out."
        )
    if is_file_of_statistics and not setting.pictures.builds_statistics:
        raise UserError(
            f"out={config.out}: a .safetensors file holds statistics of a reference, and there are "
            "samples to judge. Give out=FILE.json, or leave samples= and model= out."
        )
    setting.check({name for measure in measures for name in measure.observers})
    return setting, measures


def _build_statistics(setting: CommandSetting, noted: NotedInFiles, measures: list[Measure]) -> int:
    """Write what the measures' observers noted of the reference into one file."""
    out, reference = Path(setting.config.out), setting.pictures[REFERENCE]
    observed = {
        (o.name, fingerprint(o.protocol)): Observed(o.name, o.protocol, noted(REFERENCE, o))
        for measure in measures
        for o in measure.observers.get(REFERENCE, ())
    }
    write_statistics(
        out,
        list(observed.values()),
        size_px=reference.size_px,
        protocol=noted.compared_with(REFERENCE),
        provenance={
            "made_from": setting.config.reference,
            "pictures": reference.identity,
            "versions": versions(),
        },
    )
    names = ", ".join(name for name, _ in observed)
    print(f"{out}: statistics of {reference.count} pictures as seen by {names}")
    return 0


def _finish(kept: GeneratedPictures) -> None:
    """The grid of a folder whose pictures are all there."""
    assert kept.folder is not None
    if not is_finished(kept.folder, kept.record):
        files = [kept.folder / row["file"] for row in kept.record["pictures"][:GRID_IMAGES]]
        write_grid(torch.stack([read_sample(file) for file in files]), kept.folder)
        print(f"{kept.folder}: {kept.count} pictures, {kept.folder / GRID}")
