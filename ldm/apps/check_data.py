"""`ldm check data.root=DIR`: image shards against their index, or a latent cache's arrays."""

import os
from collections.abc import Sequence
from pathlib import Path

from ldm.apps.errors import UserError
from ldm.data.latents.cache import KIND, LatentCache
from ldm.data.remote import LocalCopies, is_url
from ldm.data.shards.files import ShardFiles, shard_files
from ldm.data.shards.verify import num_samples, verify_shards
from ldm.manifest import known_manifest

_COPIES = ("data.cache_dir", "data.cache_gb")
_SHOWN = 100  # faults that are printed


def is_about_data(words: Sequence[str]) -> bool:
    """Whether words name a place of data and nothing that would be trained on it."""
    keys = [word.partition("=")[0] for word in words]
    return "data.root" in keys and {*keys} <= {"data.root", "decode", *_COPIES}


def check_data(words: Sequence[str]) -> int:
    """Verify, list what is wrong by file and key; 0 when nothing is."""
    for word in words:
        if "=" not in word:
            raise UserError(f"{word} has no value: type {word}=..., as in data.root=shards.")
    given = {key: os.path.expanduser(value) for key, value in (w.split("=", 1) for w in words)}
    decode = given.get("decode", "false").lower()
    if decode not in ("true", "false"):
        raise UserError(f"decode={given['decode']} does not fit: it must be true or false.")
    root = given["data.root"]
    if not is_url(root) and not Path(root).is_dir():
        raise UserError(f"data.root={root} is no directory; give that of shards or of latents.")
    copies = _copies(*map(given.get, _COPIES))
    files = shard_files(root, copies)
    held_out = files.held_out()
    faults = 0
    for part in [files, *([shard_files(held_out, copies)] if held_out else [])]:
        here = part.root if isinstance(part.root, Path) else None
        if here and (manifest := known_manifest(here)) and manifest.kind == KIND:
            faults += _check_latents(here)
        else:
            faults += _check_shards(part, decode == "true")
    if faults:
        print(f"{root}: {faults} faults")
    return 1 if faults else 0


def _copies(directory: str | None, gigabytes: str | None) -> LocalCopies:
    if gigabytes is None:
        return LocalCopies(directory)
    try:
        return LocalCopies(directory, int(float(gigabytes) * 1e9))
    except ValueError as error:
        raise UserError(f"data.cache_gb={gigabytes} does not fit: it must be a number.") from error


def _check_shards(files: ShardFiles, decode: bool) -> int:
    from ldm.apps.progress import Bar  # which takes as long as Lightning

    bar = Bar(f"check ({files.root})", num_samples(files))
    faults: list[str] = []
    done = 0
    try:
        for done, fault in verify_shards(files, decode_all=decode):
            faults += [fault] if fault else []
            bar.update(done, f"{len(faults)} faults" if faults else "")
    finally:
        bar.close()
    for fault in faults[:_SHOWN]:
        print(fault)
    if len(faults) > _SHOWN:
        print(f"... and {len(faults) - _SHOWN} more")
    if not faults:
        more = "every picture decoded" if decode else "decode=true would also decode every picture"
        print(f"{files.root}: {done} samples without a fault ({more})")
    return len(faults)


def _check_latents(root: Path) -> int:
    try:
        cache = LatentCache(root)
    except ValueError as error:
        print(error)
        return 1
    print(f"{root}: {len(cache)} latents are there")
    return 0
