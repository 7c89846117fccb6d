"""`ldm evaluate`: generates pictures, or takes given ones, and measures them; with protocols."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import device_of
from ldm.apps.evaluations.measure import SAMPLES, Measure
from ldm.apps.evaluations.noted import NotedInFiles
from ldm.apps.evaluations.noting import measures_of, note
from ldm.apps.evaluations.sets.generated import GeneratedPictures
from ldm.apps.evaluations.setting import CommandSetting
from ldm.apps.locate import model_at_step
from ldm.apps.processes import require_devices
from ldm.apps.sample_folder import (
    GRID,
    GRID_IMAGES,
    is_finished,
    open_samples,
    read_picture,
    write_grid,
)
from ldm.manifest import write_json
from ldm.metrics.protocol import record


def evaluate(config: DictConfig) -> int:
    """Write the metrics file; names are those of configs/metrics."""
    setting, measures = asked(config)
    out = Path(config.out)
    notes = out.with_suffix(".notes") if config.notes is None else Path(config.notes)
    noted = NotedInFiles(setting, notes)
    kept = setting.pictures(SAMPLES) if setting.keeps_samples else None
    if kept is not None:
        assert isinstance(kept, GeneratedPictures) and kept.folder is not None
        open_samples(kept.folder, kept.record)
    note(setting, noted, measures)
    if kept is not None:
        _finish(kept)
    results: dict[str, Any] = {}
    for measure in measures:
        for name, value, protocol in measure.numbers(noted):
            results[name] = record(value, **protocol)
            print(f"{name}: {value:.4g}", flush=True)
    write_json(out, results)
    print(f"{out}: {len(results)} numbers, each with its protocol")
    return 0


def asked(config: DictConfig) -> tuple[CommandSetting, list[Measure]]:
    """What there is to be measured, and by what; UserError for what lacks, or does not fit.

    Nothing is made or written yet.
    """
    if config.checkpoint is not None:
        at_step = model_at_step(config.model, config.checkpoint)
        config = OmegaConf.create({**config, "model": at_step})
    require_devices(device_of(config.accelerator).type, config.devices)
    setting = CommandSetting(config)
    measures = measures_of(config, setting)
    setting.check({name for measure in measures for name in measure.observers})
    return setting, measures


def _finish(kept: GeneratedPictures) -> None:
    """The grid of a folder whose pictures are all there."""
    assert kept.folder is not None
    if not is_finished(kept.folder, kept.record):
        files = [kept.folder / row["file"] for row in kept.record["pictures"][:GRID_IMAGES]]
        write_grid(torch.stack([read_picture(file) for file in files]), kept.folder)
        print(f"{kept.folder}: {kept.count} pictures, {kept.folder / GRID}")
