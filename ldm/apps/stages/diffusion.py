"""Stage diffusion: a denoiser on a latent cache, which names its autoencoder and text encoder."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, part_input
from ldm.apps.stages.assembly import Assembly, trained
from ldm.data.batches import LatentBatches
from ldm.data.cache import LatentCache
from ldm.data.order import Share
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.latent_scale import LatentScale
from ldm.generation import TextToImage
from ldm.interop.diffusers import read_autoencoder, read_scale, read_unet
from ldm.interop.diffusers_files import WEIGHTS
from ldm.interop.pipeline import read_towers, write_pipeline
from ldm.manifest import file_hash
from ldm.tasks.diffusion import DiffusionTask
from ldm.text.clip import ClipText


def assemble(config: DictConfig, share: Share) -> Assembly:
    """Denoiser, frozen text tower, their task and the cached latents."""
    cache = LatentCache(config.data.root)
    folders = _verified_inputs(cache)
    held_out_root = Path(config.data.root) / "held_out"
    held_out = LatentCache(held_out_root) if held_out_root.is_dir() else cache
    autoencoder = read_autoencoder(folders["autoencoder"] / "vae").requires_grad_(False)
    towers = read_towers(folders["text_encoder"])
    _check_widths(config, cache, int(towers.config["text_cfg"]["width"]))
    scale = latent_scale(cache, config.latent_scale)
    network = build(config.backbone)
    if config.initialization is not None:
        build(config.initialization)(network)
    if config.channels_last:
        network.to(memory_format=torch.channels_last)
    denoiser = Denoiser(
        network=network,
        schedule=build(config.schedule),
        prediction=build(config.prediction),
    )
    text_encoder = ClipText(towers)
    task = DiffusionTask(
        denoiser=denoiser,
        text_encoder=text_encoder,
        regularizer=autoencoder.regularizer,
        scale=scale,
        trained=trained(denoiser.network, config),
        global_batch=share.global_batch,
        accumulate=share.accumulate,
        drop_rate=config.drop_rate,
        weighting=build(config.weighting),
        seed=config.seed,
    )
    model = TextToImage(
        denoiser=denoiser,
        autoencoder=autoencoder,
        text_encoder=text_encoder,
        scale=scale,
        size_px=int(cache.manifest.settings["size_px"]),
    )
    preview = config.preview
    prompts = list(preview.prompts) or list(dict.fromkeys(held_out.examples + cache.examples))
    prompts = [prompts[i % len(prompts)] for i in range(preview.num)]
    sampler = build(config.sampler)

    def draw() -> Tensor:
        model.autoencoder.to(task.device)
        return model(
            prompts,
            torch.arange(len(prompts)),
            sampler=sampler,
            steps=preview.steps,
            guidance=preview.guidance,
            spacing=preview.spacing,
        )

    def initialise(folder: Path) -> None:
        denoiser.network.load_state_dict(read_unet(folder / "unet").state_dict())
        if _same_weights(folder / "vae", folders["autoencoder"] / "vae"):
            # The latent space is theirs, so the denoiser goes on seeing it on their scale.
            found = read_scale(folder / "vae")
            scale.mean, scale.std = found.mean, found.std

    def write_model(folder: Path) -> None:
        write_pipeline(model, towers, folder)

    latents = {"path": str(cache.root.resolve()), "fingerprint": cache.manifest.fingerprint}
    return Assembly(
        task=task,
        batches=LatentBatches(cache, seed=config.seed),
        held_out=LatentBatches(held_out, seed=config.seed),
        num_held_out=len(held_out),
        inputs={"latents": latents},
        part="unet",
        initialise=initialise,
        write_model=write_model,
        draw=draw,
    )


def latent_scale(cache: LatentCache, mode: str) -> LatentScale:
    """Per-channel standardisation, or one factor for all channels as Stable Diffusion has it."""
    if mode == "per_channel":
        return LatentScale(cache.mean, cache.std)
    mean, std = torch.tensor(cache.mean), torch.tensor(cache.std)
    # The spread of all channels together around zero: what dividing by one factor makes unit.
    pooled = float((std.square() + mean.square()).mean().sqrt())
    return LatentScale([0.0] * len(mean), [pooled] * len(mean))


def _verified_inputs(cache: LatentCache) -> dict[str, Path]:
    """Folders of the cache's autoencoder and text encoder, still the ones it was made with."""
    folders = {}
    for name, part in (("autoencoder", "vae"), ("text_encoder", "text_encoder")):
        folder = input_folder(cache.manifest.inputs, name, cache.root)
        found = part_input(str(folder), part)["fingerprint"]
        made_with = cache.manifest.inputs[name]["fingerprint"]
        if found != made_with:
            raise UserError(
                f"the latent cache {cache.root} was made with another {name} (fingerprint "
                f"{made_with}) than lies at {folder} now ({found}). Make it again: ldm cache "
                f"out={cache.root} ..., after deleting it."
            )
        folders[name] = folder
    return folders


def _same_weights(one: Path, other: Path) -> bool:
    files = (one / WEIGHTS, other / WEIGHTS)
    return all(file.is_file() for file in files) and len({*map(file_hash, files)}) == 1


def _check_widths(config: DictConfig, cache: LatentCache, width: int) -> None:
    channels = len(cache.mean)
    if config.backbone.get("in_channels") != channels:
        raise UserError(
            f"backbone.in_channels={config.backbone.get('in_channels')}, but the latents of "
            f"{cache.root} have {channels} channels; set backbone.in_channels={channels} "
            f"backbone.out_channels={channels}."
        )
    if config.backbone.get("context_dim") != width:
        raise UserError(
            f"backbone.context_dim={config.backbone.get('context_dim')}, but the text encoder's "
            f"tokens are {width} wide; set backbone.context_dim={width}."
        )
