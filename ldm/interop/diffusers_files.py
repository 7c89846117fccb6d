"""The files of a part in diffusers' folder format: config.json beside safetensors weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save_file
from torch import Tensor, nn

from ldm.interop.weight_files import index_of, read_files
from ldm.interop.weights_fit import require_fit
from ldm.manifest import atomic, write_json

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

# The first published Stable Diffusion autoencoders spell their attention in this older way.
_OLD_ATTENTION = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}

Network = TypeVar("Network", bound=nn.Module)


def find(folder: str | Path, part: str, file: str, *, made_by: str) -> Path:
    """The config file of a part, in its own folder or in that of its pipeline."""
    folder = Path(folder)
    for candidate in (folder / file, folder / part / file):
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"{folder / file} is missing: {folder} holds no {part} in diffusers' format. Make one with "
        f"`{made_by}`, or copy a diffusers folder there."
    )


def read(file: Path) -> dict[str, Any]:
    """The JSON object of a config file; ValueError when it is damaged."""
    try:
        config = json.loads(file.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged ({error}). Copy or export it again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} is damaged: it holds no JSON object. Copy or export it again.")
    return config


def write(
    network: nn.Module,
    folder: str | Path,
    config: Mapping[str, Any],
    *,
    class_name: str,
    sample_size: int | None,
) -> None:
    """Write a part's weights and config.json; a folder with a config.json is complete."""
    folder = Path(folder)
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    index_of(folder, WEIGHTS).unlink(missing_ok=True)  # of several files that this one replaces
    size = {} if sample_size is None else {"sample_size": sample_size}
    write_json(folder / CONFIG, {"_class_name": class_name, **config, **size})


def filled(network: Network, folder: Path) -> Network:
    """A network built on the meta device, with the weights of a folder; ValueError on misfit.

    Weights in fp32 are the file's own pages, read when they are first used and copied when they
    are first changed; others are cast to fp32.
    """
    state = {name: value.float() for name, value in read_weights(folder).items()}
    require_fit(state, network.state_dict(), origin=str(folder))
    network.load_state_dict(state, assign=True)
    assert not any(value.is_meta for value in (*network.parameters(), *network.buffers()))
    return network


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a part's folder, by new names; ValueError when they are missing or damaged."""
    return {_new_name(name): value for name, value in read_files(folder, WEIGHTS).items()}


def _new_name(name: str) -> str:
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name
