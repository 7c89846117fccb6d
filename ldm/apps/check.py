"""`ldm check`: a command's settings and inputs verified in seconds, on no device."""

import importlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ldm.apps.bill.scratch import check_from_scratch
from ldm.apps.build import build
from ldm.apps.compose import compose
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, parts_at
from ldm.apps.loggers import require_loggers
from ldm.apps.missing_weights import missing_weights, require_none
from ldm.apps.planning.estimate import device_memory, too_large
from ldm.apps.planning.memory import in_words
from ldm.apps.record.file import Typed
from ldm.apps.rules import (
    check_channels,
    check_evaluation,
    check_precision,
    check_recomputing,
    check_split,
    check_strategy,
    check_weighting,
    shares_of,
)
from ldm.apps.run_directory import is_first_process
from ldm.apps.stages.assembly import image_shards
from ldm.apps.taken_up import taken_up
from ldm.data.latents.buckets import shape_table
from ldm.data.remote import is_url
from ldm.diffusion.denoiser import Denoiser
from ldm.types import Condition


def check(command: str, words: Sequence[str], *, config_dir: str | None) -> int:
    """Verify; 0 when the configuration is sound, with what is still missing before it can run.

    UserError that names all of them where pretrained files are missing: no command of ours makes
    those, and this machine may have no network.
    """
    typed = Typed(words, config_dir)
    if command == "train":
        typed = taken_up(typed)
    config = compose(
        command, [*typed.words, *_stand_ins(command, typed.words)], config_dir=typed.config_dir
    )
    if command == "sample":
        from ldm.apps.sample import asked

        asked(config)
    if command == "cache":
        from ldm.apps.conditioning import text_runs

        text_runs(config)
        if config.buckets and config.size is not None:
            shape_table(
                config.size,
                step_px=config.bucket_step,
                max_aspect_ratio=config.max_aspect_ratio,
            )
    if command != "train":
        print(f"`ldm {command}`: settings are sound")
        missing = missing_weights(command, config)
        for lack in _lacking(command, config):
            if lack not in missing:
                print(f"before it can run: {lack}")
        require_none(missing)
        return 0
    require_sound(config, missing_inputs=False)
    network = _dry_pass(config)
    parameters = sum(p.numel() for p in network.parameters())
    (share,) = shares_of(config, [(config.size, config.size)])
    print(
        f"stage {config.stage}: settings are sound; {type(network).__name__} of "
        f"{parameters:,} parameters, global batch {share.global_batch} = "
        f"{share.world_size} process(es) x {share.micro_batch} x {share.accumulate}; "
        "forward and backward fit"
    )
    print(in_words(device_memory(config)))
    for obstacle in obstacles(config):
        print(f"before it can run: {obstacle}")
    require_none(missing_weights(command, config))
    return 0


def _lacking(command: str, config: DictConfig) -> Iterator[str]:
    """What a command is to read that is not there."""
    for read in _reads(command, config):
        try:
            read()
        except ValueError as error:
            yield str(error)


def _reads(command: str, config: DictConfig) -> Iterator[Callable[[], object]]:
    if command == "sample":
        yield partial(model_folder, config.model, "unet")
    if command == "evaluate":
        from ldm.apps.evaluate import asked

        if config.model is not None and not parts_at(config.model, ("unet", "vae")):
            yield partial(model_folder, config.model, "unet")
        yield partial(asked, config)
    if command == "cache":
        from ldm.apps.conditioning import text_parts, text_runs

        yield partial(model_folder, config.autoencoder_run, "vae")
        yield from (partial(text_parts, run) for run in text_runs(config))


def require_sound(config: DictConfig, *, missing_inputs: bool = True) -> None:
    """UserError for the first thing that would stop a training run, cheapest first."""
    for rule in (
        check_precision, check_strategy, check_recomputing, check_split, check_evaluation,
        check_from_scratch, require_loggers,
    ):  # fmt: skip
        rule(config)
    if config.stage == "diffusion" and config.data.order != "shuffled":
        raise UserError(
            f"data.order={config.data.order} is for image shards; a latent cache is read at random "
            "from memory maps. Set data.order=shuffled."
        )
    if config.stage == "diffusion" and config.schedule is not None:
        schedule, prediction = build(config.schedule), build(config.prediction)
        Denoiser(network=torch.nn.Identity(), schedule=schedule, prediction=prediction)
        schedule.levels(config.preview.steps, config.preview.spacing)
        remark = check_weighting(build(config.weighting), schedule, prediction)
        if remark and is_first_process():
            print(remark)
    if config.stage == "text_encoder" and "text_encoder_2" in config.text_encoder:
        raise UserError(
            "text_encoder=sdxl is two towers, which learn one by one: train "
            "text_encoder=clip_vit_l14 and text_encoder=openclip_vit_bigg14, each with a run= of "
            "its own, then give both to `ldm cache text_run=[A,B]`."
        )
    if config.stage == "autoencoder":
        stride = 2 ** (len(config.autoencoder.channels) - 1)
        if config.size % stride:
            raise UserError(
                f"size={config.size} is not divisible by the autoencoder's total stride {stride}; "
                f"choose a multiple of {stride}."
            )
        check_channels(config)
        if config.precision == "16-mixed" and is_first_process():
            print(
                "precision=16-mixed: adversarial training leaves the range of fp16 easily; "
                "bf16-mixed, where the device has it, needs no loss scale."
            )
        loss = config.loss
        if config.discriminator and loss.gan > 0.0 and loss.gan_start < loss.disc_start:
            raise UserError(
                f"loss.gan_start={loss.gan_start} lies before loss.disc_start={loss.disc_start}: "
                "the autoencoder would follow a discriminator that has learned nothing. Set "
                f"loss.gan_start={loss.disc_start} or later."
            )
    if missing_inputs:
        require_none(missing_weights("train", config))
        for obstacle in obstacles(config):
            raise UserError(obstacle)


def obstacles(config: DictConfig) -> Iterator[str]:
    """What this machine or its files still lack, each with its remedy."""
    root = Path(str(config.data.root))
    if is_url(str(config.data.root)):
        if config.stage == "diffusion":
            yield f"data.root={config.data.root}: a latent cache is read where it is; copy it here."
        else:
            try:
                image_shards(config.data)
            except ValueError as error:
                yield str(error)
    elif not (root / "manifest.json").is_file() and not any(root.glob("*.tar")):
        yield (
            f"data.root={root} holds no latent cache; make it with: ldm cache autoencoder_run=RUN "
            f"text_run=RUN data.root=SHARDS out={root}"
            if config.stage == "diffusion"
            else f"data.root={root} holds no image shards; make them with: ldm prepare "
            f"data=shapes|digits|folder out={root}"
        )
    if config.accelerator == "gpu":
        found = torch.cuda.device_count()
        if found < config.devices:
            yield (
                f"{config.devices} GPU(s) asked for and {found} found; set devices={max(found, 1)} "
                "or trainer=cpu."
            )
    if (obstacle := too_large(config)) is not None:
        yield obstacle
    if config.precision.startswith("bf16") and _is_gpu_without_bf16(config.accelerator):
        yield "this GPU has no bf16; set precision=16-mixed, or 32-true."
    if config.stage == "autoencoder" and config.perceptual == "own" and not config.text_run:
        yield "perceptual=own needs text_run=RUN, your own text encoder's run."
    if (root / "manifest.json").is_file() or is_url(str(config.data.root)):
        yield from _unmeasurable(config)
    models = config.max_steps // config.models_every if config.models_every else 0
    models = min(models, config.keep_models or models) + 1  # and model/
    checkpoint = _checkpoint_bytes(config)
    needed = checkpoint * (config.keep_checkpoints + 1) + checkpoint // 4 * models
    parent = next(p for p in [Path(config.run), *Path(config.run).absolute().parents] if p.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        yield (
            f"run={config.run} needs about {needed / 1e6:,.0f} MB for checkpoints and models, and "
            f"{free / 1e6:,.0f} MB are free; choose another disk, fewer keep_checkpoints or "
            "keep_models."
        )


def _unmeasurable(config: DictConfig) -> Iterator[str]:
    """What evaluation during training lacks."""
    if config.get("evaluate_every") is None or missing_weights("train", config):
        return  # files that are missing are told by themselves
    from ldm.apps.stages.evaluated import measures

    stage = importlib.import_module(f"ldm.apps.stages.{config.stage}")
    try:
        for _ in measures(config, stage.evaluation_setting(config)):
            pass
    except ValueError as error:
        yield str(error)


def _is_gpu_without_bf16(accelerator: str) -> bool:
    found = accelerator != "cpu" and torch.cuda.is_available()
    return found and not torch.cuda.is_bf16_supported(including_emulation=False)


def _network(config: DictConfig) -> Any:
    part = {
        "diffusion": "backbone",
        "autoencoder": "autoencoder",
        "text_encoder": "text_encoder",
    }[config.stage]
    with torch.device("meta"):
        return build(config[part])


def _checkpoint_bytes(config: DictConfig) -> int:
    """Weights, two moments and the average, in fp32."""
    return 16 * sum(p.numel() for p in _network(config).parameters())


def _dry_pass(config: DictConfig) -> torch.nn.Module:
    """The network on the meta device, after one forward and backward."""
    network = _network(config)
    with torch.device("meta"):
        if config.stage == "diffusion":
            side = 8 * network.stride
            x = torch.zeros(1, config.backbone.in_channels, side, side)
            width = config.backbone.context_dim
            tokens = None if width is None else torch.zeros(1, 8, width)
            vector = config.backbone.vector_dim and torch.zeros(1, config.backbone.vector_dim)
            condition = Condition(tokens=tokens, vector=vector)
            network(x, torch.zeros(1), condition).sum().backward()
        elif config.stage == "text_encoder":
            side = config.text_encoder.vision.image_size
            ids = torch.zeros(2, config.text_encoder.text.context_length, dtype=torch.int64)
            pictures, texts, _ = network(torch.zeros(2, 3, side, side), ids)
            (pictures * texts).sum().backward()
        elif config.stage == "autoencoder":
            image = torch.zeros(1, config.autoencoder.image_channels, config.size, config.size)
            code = network.encode(image)
            network.decode(network.regularizer.mode(code)).sum().backward()
            if config.discriminator:
                build(config.discriminator)(image).sum().backward()
    return network


def _stand_ins(command: str, words: Sequence[str]) -> list[str]:
    """For the check alone, a place for the data where none was named yet."""
    named = any(word.startswith("data.root=") for word in words)
    return ["data.root=DATA"] if command == "train" and not named else []
