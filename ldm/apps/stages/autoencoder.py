"""Stage autoencoder: pictures to latents and back, on image shards."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ldm.apps.bill.learned_by import learned_by
from ldm.apps.build import build
from ldm.apps.errors import UserError
from ldm.apps.locate import model_folder, part_input
from ldm.apps.shards import image_shards, require_channels, shards_input
from ldm.apps.stages.assembly import Assembly, image_batches, trained
from ldm.apps.stages.evaluated import Evaluated
from ldm.apps.stages.training_setting import TrainingSetting
from ldm.data.order import Share, Slot
from ldm.interop.diffusers import read_autoencoder, write_autoencoder
from ldm.tasks.autoencoder import AutoencoderTask, Likelihood
from ldm.tasks.latent_pictures import LATENT_ROWS, latent_pictures
from ldm.text.clip import ClipTowers

PART = "vae"  # of a model folder
PREVIEWS = 16


def inputs(config: DictConfig) -> dict[str, dict[str, str]]:
    """What the run is made from: path and fingerprint."""
    found = {"shards": shards_input(image_shards(config.data))}
    if config.perceptual == "own":
        found["text_encoder"] = part_input(_text_run(config), "text_encoder")
    return found


def evaluation_setting(config: DictConfig) -> TrainingSetting:
    """What evaluations of this run may ask for: held-out pictures and their reconstructions."""
    return TrainingSetting(
        config, image_shards(config.data), lambda: _own_towers(config), draws=False
    )


def assemble(config: DictConfig, share: Share) -> Assembly:
    """Autoencoder, discriminator, perceptual distance, their task and the pictures."""
    batches, held_out = image_batches(config)
    remedy = "set autoencoder.image_channels={0} discriminator.in_channels={0}"
    require_channels(batches.shards, config.autoencoder.image_channels, remedy)
    autoencoder = build(config.autoencoder)
    if config.initialization is not None:
        build(config.initialization)(autoencoder)
    discriminator = build(config.discriminator) if config.discriminator else None
    if config.channels_last:
        autoencoder.to(memory_format=torch.channels_last)
    likelihood = Likelihood()
    parts = {"autoencoder": trained(autoencoder, config)}
    if config.learn_logvar:
        parts["likelihood"] = trained(likelihood, config, lr=config.lr)
    else:
        likelihood.requires_grad_(False)
    if discriminator is not None:
        parts["discriminator"] = trained(discriminator, config, lr=config.disc_lr)
    task = AutoencoderTask(
        autoencoder=autoencoder,
        likelihood=likelihood,
        discriminator=discriminator,
        perceptual=perceptual(config),
        weights=build(config.loss),
        trained=parts,
        seed=config.seed,
    )
    previews = torch.arange(min(PREVIEWS, held_out.counts[0]))
    originals = held_out[Slot(0, previews)].image

    def draw(rows: Sequence[int]) -> Tensor:
        """Originals and their reconstructions, in pairs."""
        images = originals[list(rows)].to(task.device, autoencoder.last_layer.dtype)
        latent = autoencoder.regularizer.mode(autoencoder.encode(images))
        pairs = torch.stack([images, autoencoder.decode(latent)], dim=1)
        return pairs.flatten(0, 1).clamp(-1.0, 1.0)

    def draw_latents(rows: Sequence[int]) -> Tensor:
        chosen = originals[torch.arange(LATENT_ROWS) % len(originals)]
        pictures = latent_pictures(
            autoencoder, chosen.to(task.device, autoencoder.last_layer.dtype)
        )
        return pictures[list(rows)].flatten(0, 1)

    def evaluated() -> Evaluated:
        return Evaluated(
            config,
            evaluation_setting(config),
            autoencoder,
            lambda: task.device,
            made_by={name: entry["fingerprint"] for name, entry in inputs(config).items()},
        )

    def initialise(folder: Path) -> None:
        autoencoder.load_state_dict(read_autoencoder(folder / "vae").state_dict())

    def write_model(folder: Path) -> None:
        write_autoencoder(autoencoder, folder / "vae", scale=None, sample_size=config.size)

    return Assembly(
        task=task,
        batches=batches,
        held_out=held_out,
        part=PART,
        initialise=initialise,
        write_model=write_model,
        write_trained=write_model,
        draw=draw,
        rows=len(originals),
        columns=8,
        draw_latents=draw_latents,
        pretrained=learned_by(config),
        evaluated=evaluated,
    )


def perceptual(config: DictConfig) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The frozen distance of ``perceptual=``, in the channels of ``perceptual_channels=``."""
    if config.perceptual == "none" or config.loss.perceptual == 0.0:
        return None
    distance, channels = _distance(config), config.perceptual_channels
    if channels is None:
        return distance
    chosen = list(channels)
    return lambda image, reconstruction: distance(image[:, chosen], reconstruction[:, chosen])


def _distance(config: DictConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS, or the own image tower's."""
    if config.perceptual == "lpips":
        from ldm.losses.lpips import pretrained_lpips

        return pretrained_lpips(config.weights_dir)
    from ldm.features.clip_image import ClipImageFeatures
    from ldm.losses.own_perceptual import OwnPerceptual

    towers = _own_towers(config)
    features = ClipImageFeatures(
        copy.deepcopy(towers.model),
        size_px=towers.config["vision_cfg"]["image_size"],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        normalize=False,
    )
    return OwnPerceptual(features)


def _own_towers(config: DictConfig) -> ClipTowers:
    return ClipTowers.load(model_folder(_text_run(config), "text_encoder") / "text_encoder").eval()


def _text_run(config: DictConfig) -> str:
    if config.text_run is None:
        raise UserError(
            "the image tower of your own text encoder is asked for, by perceptual=own or by "
            "metrics=: give text_run=RUN, or choose perceptual=lpips or none, and other metrics."
        )
    return str(config.text_run)
