"""`ldm evaluate`: generates pictures and measures them, each number with its protocol."""

from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ldm.apps.build import build
from ldm.apps.evaluations.subject import Subject
from ldm.apps.locate import is_unconditional
from ldm.apps.request import counted
from ldm.apps.sample import generate, load_model
from ldm.apps.sample_folder import (
    generation_protocol,
    open_samples,
    paths_of,
    record_of,
    write_samples,
)
from ldm.apps.stages.assembly import open_shards
from ldm.manifest import write_json
from ldm.metrics.protocol import record


def evaluate(config: DictConfig) -> int:
    """Write the metrics file; names are those of configs/metrics."""
    measures = [build(node) for node in config.metrics.values()]
    train, held_out = open_shards(config.data)
    # Training captions only where those of held-out pictures run out.
    captions = chain(held_out.first_captions(), train.first_captions())
    if is_unconditional(config.model):
        captions = chain([""])
    prompts = list(islice(cycle(captions), config.num_samples))
    pictures = counted(prompts, seed=config.seed, block=config.block)
    model = load_model(config, pictures)
    subject = Subject(
        model=model,
        draw=lambda: generate(model, pictures, config, name=f"evaluate ({len(prompts)} pictures)"),
        prompts=prompts,
        train=train,
        held_out=held_out,
        weights_dir=config.weights_dir,
        generation=generation_protocol(config) | {"seed": config.seed},
    )
    measured = [measure(subject) for measure in measures]  # each checks what it needs
    if config.samples is not None:
        samples, of_samples = Path(config.samples), record_of(config, pictures)
        open_samples(samples, of_samples)
        write_samples(subject.images, pictures, of_samples, samples, paths=paths_of(config))
    results: dict[str, Any] = {}
    for found in measured:
        for name, value, protocol in found:
            results[name] = record(value, **protocol)
            print(f"{name}: {value:.4g}", flush=True)
    write_json(config.out, results)
    print(f"{config.out}: {len(results)} numbers, each with its protocol")
    return 0
