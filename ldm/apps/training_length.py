"""How long a run trains: `max_steps`, or `max_images` in whole steps; one of both decides."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig, OmegaConf

from ldm.apps.errors import UserError


def decide_length(
    config: DictConfig, overrides: Sequence[str], where: Callable[[str], str] = lambda key: ""
) -> None:
    """Let ``max_steps`` say how long the run is, before anything is resolved that refers to it.

    ``max_images`` pictures seen are max_images / global_batch steps, rounded up: at least as many
    are seen. Which of both was typed (``overrides``) decides against what configs say; the other
    one then follows (max_steps) or is null (max_images). UserError where both are given alike, or
    neither; ``where`` says in which file.
    """
    typed = {word.partition("=")[0].lstrip("+") for word in overrides} & {"max_steps", "max_images"}
    keys = ("max_steps", "max_images", "global_batch")
    if not {*keys} <= {*config}:  # one is misspelt, and the schema says which
        return
    steps, images, global_batch = (
        None if OmegaConf.is_missing(config, key) else config[key] for key in keys
    )
    if images is not None and not (type(images) is int and images > 0):
        return  # which the schema refuses
    if steps is not None and images is not None:
        if len(typed) != 1:
            who = "are both typed" if typed else "are both in the configuration"
            raise UserError(
                f"max_steps={steps} and max_images={images} {who}, and one of them decides: leave "
                "one out, or set it to null."
            )
        if "max_steps" in typed:
            config.max_images = None
            return
    if images is not None and type(global_batch) is int and global_batch > 0:
        config.max_steps = steps_for(images, global_batch)  # else the schema says what is wrong
    elif steps is None and images is None and not OmegaConf.is_missing(config, "max_steps"):
        raise UserError(
            "max_steps=null does not fit: it must be a whole number of at least 1 where no "
            f"max_images=N says when training ends.{where('max_steps')}"
        )


def steps_for(images: int, global_batch: int) -> int:
    """How many whole steps see at least so many pictures."""
    return -(-images // global_batch)
