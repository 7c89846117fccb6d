"""What `ldm sample` is asked for: which pictures, by which prompts and seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from ldm.apps.errors import UserError
from ldm.apps.locate import is_unconditional
from ldm.generation import Towards


class Picture(NamedTuple):
    """One picture to make; ``position`` is its place in the block of those made at a time.

    One on the way to another has come ``weight`` (0..1) of the way to ``prompt_to`` and
    ``seed_to``, where None is its own.
    """

    prompt: str
    seed: int
    position: int
    prompt_to: str | None = None
    seed_to: int | None = None
    weight: float | None = None

    def row(self) -> dict[str, Any]:
        """Its part of a record, in plain values; without what is None."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def counted(prompts: Sequence[str], *, seed: int, block: int, first: int = 0) -> list[Picture]:
    """Picture i with the i-th prompt and seed + i, the first of them at a position of its block."""
    return [Picture(prompt, seed + i, (first + i) % block) for i, prompt in enumerate(prompts)]


def requested(config: DictConfig, like: Picture | None = None) -> list[Picture]:
    """The pictures that a configuration asks for; ``like`` is the one it repeats, at its position.

    On the way from prompt= to prompt_to=, or from seed= to seed_to=, there are num= pictures, both
    ends included; a single one has come as far as ``like``. UserError for what does not fit.
    """
    first = 0 if like is None else like.position
    prompts = [prompt for prompt in _prompts(config) for _ in range(config.num)]
    plain = counted(prompts, seed=config.seed, block=config.block, first=first)
    if config.prompt_to is None and config.seed_to is None:
        return plain
    if config.prompt_to is not None and config.prompts is not None:
        raise UserError('prompt_to= leads on from one prompt: give prompt="...", not prompts=FILE.')
    if config.num > 1:
        weights = [i / (config.num - 1) for i in range(config.num)]
    elif like is not None and like.weight is not None:
        weights = [like.weight]
    else:
        raise UserError(
            "one picture is no way from one to another: with prompt_to= or seed_to=, num= is the "
            "number of pictures on the way, both ends included."
        )
    return [
        picture._replace(
            seed=config.seed,
            prompt_to=config.prompt_to,
            seed_to=config.seed_to,
            weight=weights[i % config.num],
        )
        for i, picture in enumerate(plain)
    ]


def towards(pictures: Sequence[Picture]) -> Towards | None:
    """What the pictures are on their way to; None where they stay."""
    if all(picture.weight is None for picture in pictures):
        return None
    return Towards(
        prompts=[p.prompt if p.prompt_to is None else p.prompt_to for p in pictures],
        seeds=torch.tensor([p.seed if p.seed_to is None else p.seed_to for p in pictures]),
        weights=torch.tensor([p.weight for p in pictures], dtype=torch.float64),
    )


def _prompts(config: DictConfig) -> list[str]:
    if is_unconditional(config.model):
        if config.prompt or config.prompts or config.prompt_to or config.negative:
            raise UserError(
                f"the model {config.model} is conditioned by nothing; leave prompt=, prompts=, "
                "prompt_to= and negative= out."
            )
        return [""]
    if (config.prompt is None) == (config.prompts is None):
        raise UserError('give either prompt="..." or prompts=FILE (one prompt per line).')
    if config.prompt is not None:
        return [str(config.prompt)]
    return read_prompts(config.prompts)


def read_prompts(path: str) -> list[str]:
    """The lines of a file that are not empty; UserError where there are none."""
    return [line for line in read_lines(path) if line]


def read_lines(path: str) -> list[str]:
    """The lines of a file, "" for an empty one; UserError where all are."""
    file = Path(path)
    if not file.is_file():
        raise UserError(f"prompts={file}: there is no such file.")
    try:
        # By "\n" alone: splitlines would also break a caption at a form feed or U+2028.
        text = file.read_bytes().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"prompts={file} is no text in UTF-8; save it as such.") from error
    lines = [line.strip() for line in text.split("\n")]
    if not any(lines):
        raise UserError(f"prompts={file} holds no prompt.")
    return lines
