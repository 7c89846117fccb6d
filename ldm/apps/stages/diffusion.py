"""Stage diffusion: a denoiser on a latent cache, which names its autoencoder and text encoder."""

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.locate import input_folder, part_input
from ldm.apps.run_directory import is_first_process
from ldm.apps.stages.assembly import Assembly, trained
from ldm.data.batches import LatentBatches
from ldm.data.cache import LatentCache
from ldm.data.order import Share
from ldm.diffusion.denoiser import Denoiser
from ldm.diffusion.latent_scale import LatentScale
from ldm.generation import TextToImage
from ldm.interop.diffusers import read_autoencoder, read_scale, read_schedule, read_unet
from ldm.interop.diffusers_files import WEIGHTS
from ldm.interop.pipeline import read_towers, write_pipeline
from ldm.manifest import file_hash
from ldm.tasks.diffusion import DiffusionTask
from ldm.text.clip import ClipText


def inputs(config: DictConfig) -> dict[str, dict[str, str]]:
    """What the run is made from: path and fingerprint."""
    cache = LatentCache(config.data.root)
    path = str(cache.root.resolve())
    return {"latents": {"path": path, "fingerprint": cache.manifest.fingerprint}}


def assemble(config: DictConfig, share: Share) -> Assembly:
    """Denoiser, frozen text tower, their task and the cached latents."""
    cache = LatentCache(config.data.root)
    folders = _verified_inputs(cache)
    held_out_root = Path(config.data.root) / "held_out"
    held_out = LatentCache(held_out_root) if held_out_root.is_dir() else cache
    if held_out is cache:
        print(f"{cache.root} has no held_out/: the validation loss is that of training latents")
    autoencoder = read_autoencoder(folders["autoencoder"] / "vae").requires_grad_(False)
    towers = read_towers(folders["text_encoder"])
    _check_widths(config, cache, int(towers.config["text_cfg"]["width"]))
    scale = latent_scale(cache, config.latent_scale)
    network = build(config.backbone)
    _check_size(config, cache, network.stride)
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
        num_held_out=len(held_out),
        accumulate=share.accumulate,
        drop_rate=config.drop_rate,
        offset_noise=config.offset_noise,
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
        _say_what_differs(denoiser, folder)
        if _same_weights(folder / "vae", folders["autoencoder"] / "vae"):
            # The latent space is theirs, so the denoiser goes on seeing it on their scale.
            found = read_scale(folder / "vae")
            scale.mean, scale.std = found.mean, found.std

    def write_model(folder: Path) -> None:
        write_pipeline(model, towers, folder)

    return Assembly(
        task=task,
        batches=LatentBatches(cache, seed=config.seed),
        held_out=LatentBatches(held_out, seed=config.seed),
        num_held_out=len(held_out),
        part="unet",
        initialise=initialise,
        write_model=write_model,
        draw=draw if prompts else None,
    )


def latent_scale(cache: LatentCache, mode: str) -> LatentScale:
    """Per-channel standardisation, or one factor for all channels as Stable Diffusion has it."""
    if mode == "per_channel":
        return LatentScale(cache.mean, cache.std)
    mean, std = torch.tensor(cache.mean), torch.tensor(cache.std)
    # The spread of all channels together around zero: what dividing by one factor makes unit.
    pooled = float((std.square() + mean.square()).mean().sqrt())
    return LatentScale([0.0], [pooled])


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


def _check_size(config: DictConfig, cache: LatentCache, stride: int) -> None:
    size_px, (height, width) = cache.manifest.settings["size_px"], cache.manifest.facts["shape"][1:]
    if config.size != size_px:
        raise UserError(
            f"size={config.size}, but the latents of {cache.root} are of pictures of {size_px} px; "
            f"set size={size_px}, or cache them again with `ldm cache size={config.size} ...`."
        )
    if height % stride or width % stride:
        multiple = stride * size_px // height
        raise UserError(
            f"latents of {height} x {width} cannot be halved to the depth of this backbone, which "
            f"needs multiples of {stride}; cache pictures whose size is a multiple of {multiple}, "
            "or use fewer backbone.channels."
        )


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


def _check_widths(config: DictConfig, cache: LatentCache, width: int) -> None:
    channels = len(cache.mean)
    if config.backbone.get("in_channels") != channels:
        raise UserError(
            f"backbone.in_channels={config.backbone.get('in_channels')}, but the latents of "
            f"{cache.root} have {channels} channels; set backbone.in_channels={channels} "
            f"backbone.out_channels={channels}."
        )
    if config.backbone.get("context_dim") not in (width, None):  # None: unconditional
        raise UserError(
            f"backbone.context_dim={config.backbone.get('context_dim')}, but the text encoder's "
            f"tokens are {width} wide; set backbone.context_dim={width}."
        )
