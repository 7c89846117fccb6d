"""`ldm check data.root=DIR`: image shards against their index, or the arrays of a latent cache."""

from collections.abc import Sequence
from pathlib import Path

from ldm.apps.errors import UserError
from ldm.apps.progress import Bar
from ldm.data.latents.cache import KIND, LatentCache
from ldm.data.shards.verify import num_samples, verify_shards
from ldm.manifest import known_manifest

_SHOWN = 100  # faults that are printed


def is_about_data(words: Sequence[str]) -> bool:
    """Whether words name a place of data and nothing that would be trained on it."""
    keys = [word.partition("=")[0] for word in words]
    return "data.root" in keys and {*keys} <= {"data.root", "decode"}


def check_data(words: Sequence[str]) -> int:
    """Verify, list what is wrong by file and key; 0 when nothing is."""
    given = dict(word.split("=", 1) for word in words)
    decode = given.get("decode", "false").lower()
    if decode not in ("true", "false"):
        raise UserError(f"decode={given['decode']} does not fit: it must be true or false.")
    root = Path(given["data.root"])
    if not root.is_dir():
        raise UserError(f"data.root={root} is no directory; give that of shards or of latents.")
    directories = [root, *([root / "held_out"] if (root / "held_out").is_dir() else [])]
    faults = 0
    for directory in directories:
        manifest = known_manifest(directory)
        if manifest is not None and manifest.kind == KIND:
            faults += _check_latents(directory)
        else:
            faults += _check_shards(directory, decode == "true")
    if faults:
        print(f"{root}: {faults} faults")
    return 1 if faults else 0


def _check_shards(root: Path, decode: bool) -> int:
    bar = Bar(f"check ({root})", num_samples(root))
    faults: list[str] = []
    done = 0
    try:
        for done, fault in verify_shards(root, decode_all=decode):
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
        print(f"{root}: {done} samples without a fault ({more})")
    return len(faults)


def _check_latents(root: Path) -> int:
    try:
        cache = LatentCache(root)
    except ValueError as error:
        print(error)
        return 1
    print(f"{root}: {len(cache)} latents are there")
    return 0
