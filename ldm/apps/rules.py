"""Rules between settings of different groups, in one readable place."""

from collections.abc import Sequence

from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.data.order import Share
from ldm.diffusion.prediction import Prediction
from ldm.diffusion.schedule import NoiseSchedule
from ldm.losses.weighting import Weighting


def share_of(config: DictConfig, rank: int = 0) -> Share:
    """How the global batch is cut; UserError when it does not divide."""
    world_size = config.devices * config.num_nodes
    whole, rest = divmod(config.global_batch, world_size)
    if rest:
        raise UserError(
            f"global_batch={config.global_batch} is not divisible by {world_size} processes; "
            f"choose a multiple of {world_size}."
        )
    try:
        return Share(config.global_batch, config.micro_batch or whole, rank, world_size)
    except ValueError as error:
        raise UserError(str(error)) from error


def shares_of(
    config: DictConfig, sizes_px: Sequence[tuple[int, int]], rank: int = 0
) -> list[Share]:
    """The same for pictures of each size, within the budget of pixels; UserError where one is not.

    ``sizes_px`` are heights and widths by bucket.
    """
    share = share_of(config, rank)
    try:
        return [share.within(config.max_micro_pixels, size) for size in sizes_px]
    except ValueError as error:
        raise UserError(str(error)) from error


def check_strategy(config: DictConfig) -> None:
    """UserError where the weights cannot be shared out among processes."""
    if config.strategy != "fsdp":
        return
    remedies = {
        f"stage {config.stage} has networks that fit on one device; set strategy=ddp": (
            config.stage != "diffusion"
        ),
        "there is only one process to hold them; set devices=N, or strategy=auto": (
            config.devices * config.num_nodes == 1
        ),
        "Muon needs whole matrices; set optimizer=adamw": (
            "muon" in str(config.optimizer._target_).lower()
        ),
        "what is cut must lie in memory row by row; set channels_last=false": (
            bool(config.get("channels_last"))
        ),
        "a compiled network is cut wherever weights are gathered; set compile=false": (
            config.compile
        ),
        f"precision={config.precision} does not go with it; set precision=bf16-mixed": (
            config.precision not in ("32-true", "64-true", "bf16-mixed")
        ),
    }
    for remedy, needed in remedies.items():
        if needed:
            raise UserError(f"strategy=fsdp shares the weights out among processes, but {remedy}.")


def check_evaluation(config: DictConfig) -> None:
    """UserError where evaluation during training has metrics and no steps, or the other way."""
    every, metrics = config.get("evaluate_every"), config.get("metrics")
    if every is not None and not metrics:
        raise UserError(
            f"evaluate_every={every} needs metrics=[...], such as metrics=[kid_own]; see "
            "configs/metrics."
        )
    if every is None and metrics:
        raise UserError(
            f"metrics=[{','.join(metrics)}] are those of evaluation during training: give "
            "evaluate_every=N, or leave them out."
        )


def check_precision(config: DictConfig) -> None:
    """UserError where weights of 16 bits would harm the stage."""
    if config.force_precision:
        return
    if config.precision == "16-true":
        raise UserError(
            "precision=16-true keeps the optimizer's moments in fp16, where squares of small "
            "gradients are 0 and steps explode. Set precision=16-mixed, or force_precision=true to "
            "try it."
        )
    lost = {"bf16-true": 256}.get(config.precision)
    if lost and config.stage == "autoencoder":
        raise UserError(
            f"precision={config.precision} keeps the weights themselves in 16 bits, where a step "
            f"below 1/{lost} of a weight is lost; between autoencoder and discriminator that "
            "decides who wins. Set precision=bf16-mixed, or force_precision=true to try it."
        )


def check_recomputing(config: DictConfig) -> None:
    """UserError where there are no blocks whose activations could be computed again."""
    if config.activation_checkpointing and config.stage == "text_encoder":
        raise UserError(
            "activation_checkpointing is for the denoiser and the autoencoder; text towers fit "
            "without. Set activation_checkpointing=false."
        )


def choose_regularizer(config: DictConfig, overrides: Sequence[str]) -> None:
    """What ``regularizer=`` asks for, or else the autoencoder's own; then both keys say it.

    UserError where the settings of the one that is replaced were changed by ``overrides``.
    """
    if "regularizer" not in config:
        config.regularizer = config.autoencoder.regularizer
        return
    for override in overrides:
        _, replaced, setting = override.partition("autoencoder.regularizer.")
        if replaced:
            raise UserError(
                f"{override} would be lost: regularizer= takes the place of what the autoencoder "
                f"brings. Leave one of them out; regularizer.{setting} sets it where the new one "
                "has such a setting."
            )
    config.autoencoder.regularizer = config.regularizer


def check_weighting(
    weighting: Weighting, schedule: NoiseSchedule, prediction: Prediction
) -> str | None:
    """What to say of a weighting that hardly counts the last step, where sampling begins.

    UserError where it does not count at all. Min-SNR's weights of v and of the clean sample fall
    with the signal (Hang et al. 2023): to 6e-3 and 9e-4 of the largest on Stable Diffusion's
    schedule, without harm to samples of small networks; to 5e-5 and 8e-6 on DDPM's, where their
    first estimate is off by half the data's spread and the samples' mean by some percent.
    """
    weights = weighting(prediction, schedule.alpha(schedule.steps), schedule.sigma(schedule.steps))
    share = float(weights[-1] / weights.max())
    if share == 0.0:
        raise UserError(
            "this weighting gives the last step of the schedule no weight, and sampling begins "
            "there; set weighting=uniform."
        )
    if share >= 5e-4:
        return None
    return (
        f"weighting: the last step of the schedule counts {share:.0e} of what the most important "
        "one does, and sampling begins there with an estimate that is hardly trained; "
        "weighting=uniform trains it."
    )


def check_channels(config: DictConfig) -> None:
    """UserError where parts of stage autoencoder take pictures of different channels."""
    channels, chosen = config.autoencoder.image_channels, config.perceptual_channels
    discriminator = config.discriminator
    if discriminator and discriminator.get("in_channels", channels) != channels:
        raise UserError(
            f"discriminator.in_channels={discriminator.in_channels}, but the autoencoder's "
            f"pictures have {channels} channels; set discriminator.in_channels={channels}."
        )
    if chosen is not None and (len(chosen) not in (1, 3) or not all(c < channels for c in chosen)):
        raise UserError(
            f"perceptual_channels={list(chosen)} must be three channels of the autoencoder's "
            f"{channels} (or one, seen as grey), counted from 0."
        )
    looks = config.perceptual != "none" and config.loss.perceptual > 0.0
    if looks and chosen is None and channels not in (1, 3):
        raise UserError(
            f"perceptual={config.perceptual} knows red, green and blue, and the pictures have "
            f"{channels} channels; say which three it sees, such as perceptual_channels=[0,1,2], "
            "or set perceptual=none."
        )


def check_split(config: DictConfig) -> None:
    """UserError where a stage needs the whole batch at once, and it would come in passes."""
    (share,) = shares_of(config, [(config.size, config.size)])
    if share.accumulate == 1:
        return
    if config.stage == "text_encoder":
        needs, remedy = "compares every picture with every caption of the global batch", ""
    elif config.stage == "autoencoder" and (config.discriminator or {}).get("norm") == "batch":
        needs = "with discriminator.norm=batch takes statistics over the global batch"
        remedy = "set discriminator.norm=group, "
    else:
        return
    raise UserError(
        f"stage {config.stage} {needs}, and with micro_batch={config.micro_batch} "
        f"max_micro_pixels={config.max_micro_pixels} it would come in {share.accumulate} passes. "
        f"Set both to null, {remedy}lower global_batch, or use more devices."
    )
