"""Counts of steps against each other, and the learning rate against what is usual."""

from collections.abc import Iterator

from ldm.apps.rules.case import Case

# Peaks between which AdamW trains networks of any size here: Stable Diffusion's is 1e-4, towers of
# a few million parameters take some 1e-3. Muon's updates are scaled to AdamW's.
_LOWEST_LR = 1e-7
_HIGHEST_LR = {"adam": 1e-2, "muon": 5e-2}


def gan_after_discriminator(case: Case) -> Iterator[str]:
    """The autoencoder follows a discriminator that has learned something."""
    loss = case.config.loss
    if case.config.discriminator and loss.gan > 0.0 and loss.gan_start < loss.disc_start:
        yield (
            f"loss.gan_start={loss.gan_start} lies before loss.disc_start={loss.disc_start}: "
            "the autoencoder would follow a discriminator that has learned nothing. Set "
            f"loss.gan_start={loss.disc_start} or later."
        )


def gan_that_never_comes(case: Case) -> Iterator[str]:
    """A remark: a run that ends before its discriminator enters."""
    config, loss = case.config, case.config.loss
    if config.discriminator and loss.gan > 0.0 and loss.gan_start >= config.max_steps:
        yield (
            f"loss.gan_start={loss.gan_start} is not before max_steps={config.max_steps}: the "
            "autoencoder never feels its discriminator. Lower loss.disc_start and loss.gan_start, "
            "raise max_steps, or set discriminator=none to do without."
        )


def warm_up(case: Case) -> Iterator[str]:
    """A remark: a learning rate that never reaches its peak."""
    warmup, steps = case.config.warmup_steps, case.config.max_steps
    if warmup >= steps > 1:
        yield (
            f"warmup_steps={warmup} is not below max_steps={steps}: the learning rate never "
            f"passes {steps / warmup:.0%} of lr. Set warmup_steps={max(1, steps // 20)} or so."
        )


def what_never_happens(case: Case) -> Iterator[str]:
    """A remark: what is to come every so many steps, of which there are fewer."""
    config = case.config
    for key, lost in (
        ("validate_every", "there is no held-out loss and no sample picture"),
        ("checkpoint_every", "an interruption by force, as a power cut, loses the whole run"),
        ("models_every", "no model is left on the way"),
        ("evaluate_every", "none of metrics= is measured"),
        ("log_every", "metrics.jsonl holds one line of training, at its end"),
    ):
        every = config.get(key)
        if every is not None and every > config.max_steps:
            yield (
                f"{key}={every} is more than max_steps={config.max_steps}: {lost}. Set "
                f"{key}={max(1, config.max_steps // 4)} or so."
            )


def learning_rate(case: Case) -> Iterator[str]:
    """A remark: a peak that networks of this kind are not trained with."""
    config = case.config
    kind = "muon" if "muon" in str(config.optimizer._target_).lower() else "adam"
    for key in ("lr", "disc_lr"):
        peak = config.get(key)
        if peak is None or _LOWEST_LR <= peak <= _HIGHEST_LR[kind]:
            continue
        where = "above" if peak > _HIGHEST_LR[kind] else "below"
        limit = _HIGHEST_LR[kind] if where == "above" else _LOWEST_LR
        yield (
            f"{key}={peak:g} is {where} {limit:g}, the end of what trains with this optimizer; "
            "1e-4 is Stable Diffusion's. It is taken as it is, never scaled by batch or devices."
        )


def evaluation(case: Case) -> Iterator[str]:
    """Metrics during training, and how often: both or none."""
    config = case.config
    every, metrics = config.get("evaluate_every"), config.get("metrics")
    if every is not None and not metrics:
        yield (
            f"evaluate_every={every} needs metrics=[...], such as metrics=[kid_own]; see "
            "configs/metrics."
        )
    if every is None and metrics:
        yield (
            f"metrics=[{','.join(metrics)}] are those of evaluation during training: give "
            "evaluate_every=N, or leave them out."
        )
