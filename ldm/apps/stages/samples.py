"""Evaluation of a denoiser in training: what it draws, beside the pictures behind its latents."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ldm.apps.build import build
from ldm.apps.conditioning import encoder_of
from ldm.apps.errors import UserError
from ldm.apps.evaluations.measure import SAMPLES
from ldm.apps.evaluations.own_towers import own_towers
from ldm.apps.locate import input_folder
from ldm.apps.shards import image_shards
from ldm.apps.stages.evaluated import Evaluated
from ldm.apps.stages.training_setting import TrainingSetting
from ldm.data.latents.cache import LatentCache
from ldm.data.remote import is_url
from ldm.data.shards.reader import ImageShards
from ldm.generation import TextToImage
from ldm.text.clip import ClipTowers


def sampling_setting(config: DictConfig, cache: LatentCache) -> TrainingSetting:
    """What measures may ask for while a denoiser learns on a cache, of the shards behind that."""
    shards = _shards_behind(cache, config)

    def towers() -> ClipTowers:
        encoder = encoder_of(cache, width=config.backbone.get("context_dim"))
        return own_towers(encoder, f"{cache.root} was made without one")

    unconditional = cache.manifest.settings["condition"] == "none"
    return TrainingSetting(config, shards, towers, draws=True, unconditional=unconditional)


def _shards_behind(cache: LatentCache, config: DictConfig) -> ImageShards:
    """Those that the latents were made from; UserError where they are no longer to be found."""
    entry, named = cache.manifest.inputs["shards"], config.evaluation.shards
    found = entry["path"]
    if named is not None:
        found = named
    elif not is_url(found):
        found = str(input_folder(cache.manifest.inputs, "shards", cache.root))
    remedy = "name their place with evaluation.shards=DIR, or set evaluate_every=null"
    data = config.data.copy()
    data.root = found
    try:
        shards = image_shards(data)
    except ValueError as error:
        raise UserError(
            f"evaluation compares with the pictures that {cache.root} was made from: {error} If "
            f"they lie elsewhere, {remedy}."
        ) from error
    if shards.manifest.fingerprint != entry["fingerprint"]:
        raise UserError(
            f"{found} holds other pictures (fingerprint {shards.manifest.fingerprint}) than those "
            f"that {cache.root} was made from ({entry['fingerprint']}); {remedy}."
        )
    return shards


def evaluated_samples(config: DictConfig, model: TextToImage, cache: LatentCache) -> Evaluated:
    """Samples as `ldm evaluate` draws them: picture i from the i-th prompt and seed + i."""
    evaluation, sampler = config.evaluation, build(config.sampler)
    setting = sampling_setting(config, cache)
    prompts = setting.words(SAMPLES)
    model.text_encoder.tokenize(prompts)  # now: what is no class would fail later
    model.levels(evaluation.steps, evaluation.spacing)

    def draw(rows: Sequence[int]) -> Tensor:
        model.autoencoder.to(model.scale.mean.device)
        (images,) = model.in_blocks(
            [prompts[i] for i in rows],
            [evaluation.seed + i for i in rows],
            block=evaluation.block,
            sampler=sampler,
            steps=evaluation.steps,
            guidance=float(evaluation.guidance),
            spacing=evaluation.spacing,
        )
        return images

    settings: Any = OmegaConf.to_container(config.sampler, resolve=True)
    drawn = {
        "sampler": str(settings.pop("_target_")).rpartition(".")[2],
        "sampler_settings": {k: v for k, v in settings.items() if k != "_partial_"},
        **{name: evaluation[name] for name in ("steps", "guidance", "spacing", "seed", "block")},
        "guidance_rescale": 0.0,
        "negative": "",
        "size_px": config.size,
    }
    made_by = {
        name: entry["fingerprint"]
        for name, entry in cache.manifest.inputs.items()
        if name != "shards"  # which the latents stand for
    }
    return Evaluated(
        config,
        setting,
        model.autoencoder,
        lambda: model.scale.mean.device,
        made_by={"latents": cache.manifest.fingerprint, **made_by},
        draw=draw,
        drawn=drawn,
    )
