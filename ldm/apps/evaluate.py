"""`ldm evaluate`: generates pictures and measures them, each number with its protocol."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ldm.apps.build import build
from ldm.apps.evaluations.subject import Subject
from ldm.apps.locate import model_folder, part_input
from ldm.apps.sample import generate, load_model, write_images
from ldm.apps.stages.assembly import open_shards
from ldm.manifest import write_json
from ldm.metrics.protocol import record
from ldm.text.clip import ClipTowers


def evaluate(config: DictConfig) -> int:
    """Write the metrics file; names are those of configs/metrics."""
    measures = [build(node) for node in config.metrics.values()]
    train, held_out = open_shards(config.data.root)
    folder = model_folder(config.model, "unet")
    model = load_model(config)
    count = config.num_samples
    prompts = [held_out.captions[i % len(held_out)] for i in range(count)]
    images = generate(model, prompts, config, name=f"evaluate ({count} pictures)")
    if config.samples is not None:
        samples = Path(config.samples)
        samples.mkdir(parents=True, exist_ok=True)
        write_images(images, prompts, samples, seed=config.seed)
    subject = Subject(
        model=model.cpu(),
        towers=ClipTowers.load(folder / "text_encoder").eval(),
        images=images,
        prompts=prompts,
        train=train,
        held_out=held_out,
        weights_dir=config.weights_dir,
    )
    protocol = _protocol(config, held_out.manifest.fingerprint)
    results: dict[str, Any] = {}
    for measure in measures:
        for name, value, more in measure(subject):
            results[name] = record(value, **protocol, **more)
            print(f"{name}: {value:.4g}", flush=True)
    write_json(config.out, results)
    print(f"{config.out}: {len(results)} numbers, each with its protocol")
    return 0


def _protocol(config: DictConfig, prompts: str) -> dict[str, Any]:
    sampler: Any = OmegaConf.to_container(config.sampler, resolve=True)
    name = sampler.pop("_target_").rpartition(".")[2]
    sampler.pop("_partial_")
    return {
        "model": part_input(config.model, "unet")["fingerprint"],
        "autoencoder": part_input(config.model, "vae")["fingerprint"],
        "weights": "averaged",
        "prompts": f"captions of held-out shards {prompts}",
        "sampler": name,
        "sampler_settings": sampler,
        "steps": config.steps,
        "spacing": config.spacing,
        "guidance": config.guidance,
        "negative": config.negative,
        "seed": config.seed,
        "block": config.block,
    }
