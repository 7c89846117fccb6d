"""Stage diffusion: a denoiser on a latent cache, which names its autoencoder and text encoder."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ldm.apps.build import build
from ldm.apps.conditioning import encoder_of
from ldm.apps.errors import UserError
from ldm.apps.run_directory import is_first_process
from ldm.apps.stages.assembly import HELD_OUT_SEED, Assembly, trained
from ldm.apps.stages.latents import (
    check_size,
    check_widths,
    latent_scale,
    verified_inputs,
)
from ldm.apps.stages.samples import evaluated_samples, sampling_setting
from ldm.apps.stages.training_setting import TrainingSetting
from ldm.backbones.unet import UNet
from ldm.data.batches import LatentBatches
from ldm.data.latents.cache import LatentCache
from ldm.data.order import InBuckets, Once, Share
from ldm.diffusion.denoiser import Denoiser
from ldm.generation import TextToImage
from ldm.interop.condition_encoders import CLASS_ENCODER, read_condition_encoder
from ldm.interop.diffusers import read_autoencoder, read_scale, read_schedule, read_unet
from ldm.interop.diffusers_files import WEIGHTS
from ldm.interop.pipeline import write_learned, write_pipeline
from ldm.manifest import file_hash
from ldm.tasks.diffusion import DiffusionTask
from ldm.text.classes import ClassTable

PART = "unet"  # of a model folder


def inputs(config: DictConfig) -> dict[str, dict[str, str]]:
    """What the run is made from: path and fingerprint."""
    cache = LatentCache(config.data.root)
    path = str(cache.root.resolve())
    return {"latents": {"path": path, "fingerprint": cache.manifest.fingerprint}}


def evaluation_setting(config: DictConfig) -> TrainingSetting:
    """What measures may ask for during this stage."""
    return sampling_setting(config, LatentCache(config.data.root))


def assemble(config: DictConfig, share: Share) -> Assembly:
    """Denoiser, what conditions it, their task and the cached latents."""
    cache = LatentCache(config.data.root)
    vae = verified_inputs(cache)["autoencoder"] / "vae"
    held_out = _held_out(cache)
    text_encoder = encoder_of(cache, width=config.backbone.get("context_dim"))
    assert isinstance(text_encoder, nn.Module)
    check_widths(
        config,
        cache,
        text_encoder.width,
        text_encoder.vector_dim,
        with_classes=isinstance(text_encoder, ClassTable),
    )
    if config.strategy == "fsdp" and text_encoder.is_learned:
        raise UserError(
            "strategy=fsdp shares out the denoiser alone, but these latents have classes, whose "
            "table learns beside it; set strategy=ddp."
        )
    model = TextToImage(
        denoiser=_denoiser(config),
        autoencoder=read_autoencoder(vae).requires_grad_(False),
        text_encoder=text_encoder.requires_grad_(text_encoder.is_learned),
        scale=latent_scale(cache, config.latent_scale),
        size_px=cache.size_px,
    )
    network = model.denoiser.network
    assert isinstance(network, UNet)
    check_size(config, cache, network.stride)
    learned = nn.ModuleDict({"unet": network, CLASS_ENCODER: text_encoder})
    task = DiffusionTask(
        denoiser=model.denoiser,
        text_encoder=text_encoder,
        regularizer=model.autoencoder.regularizer,
        scale=model.scale,
        trained=trained(learned if text_encoder.is_learned else network, config),
        global_batch=share.global_batch,
        num_held_out=len(held_out),
        drop_rate=config.drop_rate,
        offset_noise=config.offset_noise,
        weighting=build(config.weighting),
        seed=config.seed,
    )
    prompts = _prompts(config, list(dict.fromkeys(held_out.examples + cache.examples)))
    return Assembly(
        task=task,
        batches=LatentBatches(
            cache, order=InBuckets(config.seed, cache.counts, share.global_batch), seed=config.seed
        ),
        held_out=LatentBatches(
            held_out, order=Once(HELD_OUT_SEED, held_out.counts), seed=HELD_OUT_SEED
        ),
        part=PART,
        initialise=lambda folder: _initialise(model, folder, vae),
        write_model=lambda folder: write_pipeline(model, folder),
        write_trained=lambda folder: write_learned(model, folder),
        draw=_preview(config, model, prompts) if prompts else None,
        rows=len(prompts),
        prompts=prompts,
        timesteps=task.timesteps,
        evaluated=partial(evaluated_samples, config, model, cache),
    )


def _held_out(cache: LatentCache) -> LatentCache:
    root = cache.root / "held_out"
    if root.is_dir():
        return LatentCache(root)
    if num := cache.manifest.facts.get("num_held_out"):
        raise UserError(
            f"{root} is missing, with its {num} latents; run the `ldm cache` that made "
            f"{cache.root} again."
        )
    print(f"{cache.root} has no held_out/: the validation loss is that of training latents")
    return cache


def _denoiser(config: DictConfig) -> Denoiser:
    network = build(config.backbone)
    if config.initialization is not None:
        build(config.initialization)(network)
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    schedule, prediction = build(config.schedule), build(config.prediction)
    return Denoiser(network=network, schedule=schedule, prediction=prediction)


def _prompts(config: DictConfig, captions: list[str]) -> list[str]:
    """Those of the sample pictures, as configured, or else of ``captions``."""
    found = list(config.preview.prompts) or captions
    return [found[i % len(found)] for i in range(config.preview.num)]


def _preview(
    config: DictConfig, model: TextToImage, prompts: list[str]
) -> Callable[[Sequence[int]], Tensor]:
    """What draws the sample pictures of ``prompts``, each from the seed of its place."""
    preview, sampler = config.preview, build(config.sampler)
    model.text_encoder.tokenize(prompts)  # now: what is no class would end the first validation

    def draw(rows: Sequence[int]) -> Tensor:
        model.autoencoder.to(model.scale.mean.device)
        return model(
            [prompts[i] for i in rows],
            torch.tensor(rows),
            sampler=sampler,
            steps=preview.steps,
            guidance=preview.guidance,
            spacing=preview.spacing,
        )

    return draw


def _initialise(model: TextToImage, folder: Path, vae: Path) -> None:
    """Begin with the denoiser of a model folder, and with what is learned beside it."""
    model.denoiser.network.load_state_dict(read_unet(folder / "unet").state_dict())
    _say_what_differs(model.denoiser, folder)
    if isinstance(model.text_encoder, ClassTable):
        _initialise_classes(model.text_encoder, folder)
    if _same_weights(folder / "vae", vae):
        # The latent space is theirs, so the denoiser goes on seeing it on their scale.
        found = read_scale(folder / "vae")
        model.scale.mean, model.scale.std = found.mean, found.std


def _say_what_differs(denoiser: Denoiser, folder: Path) -> None:
    """Another schedule or prediction is how models are moved to those, and how they are broken."""
    if not (folder / "scheduler").is_dir():
        return
    schedule, prediction = read_schedule(folder / "scheduler")
    before = f"{prediction.name} on {schedule.description}"
    now = f"{denoiser.prediction.name} on {denoiser.schedule.description}"
    if before != now and is_first_process():
        print(f"init: the network of {folder} predicted {before}; it will learn {now}")


def _same_weights(one: Path, other: Path) -> bool:
    files = (one / WEIGHTS, other / WEIGHTS)
    return all(file.is_file() for file in files) and len({*map(file_hash, files)}) == 1


def _initialise_classes(table: ClassTable, folder: Path) -> None:
    """The tokens of those classes that the other model has too; the others stay as they are."""
    other = read_condition_encoder(folder)
    if not isinstance(other, ClassTable) or other.width != table.width:
        raise UserError(
            f"init={folder} has no table of classes {table.width} wide to begin with; use a model "
            "with condition=classes and this backbone.context_dim."
        )
    shared = [*(name for name in table.names if name in other.names), ""]
    rows, theirs = table.tokenize(shared)[:, 0], other.tokenize(shared)[:, 0]
    with torch.no_grad():
        table.embedding.weight[rows] = other.embedding.weight[theirs]
    if is_first_process() and len(shared) <= len(table.names):
        print(f"init: {len(table.names) + 1 - len(shared)} classes of these latents are new to it")
