"""`ldm prepare`: any source of captioned pictures -> checked image shards."""

from pathlib import Path

from omegaconf import DictConfig, open_dict

from ldm.apps.build import build
from ldm.apps.progress import Bar
from ldm.data.prepare import BAD_SAMPLES
from ldm.data.prepare import prepare as prepare_shards
from ldm.manifest import read_manifest


def prepare(config: DictConfig) -> int:
    """Write the shards, or say that they are there already."""
    data = config.data.copy()
    with open_dict(data):
        shard_mb, max_bad_fraction = data.pop("shard_mb"), data.pop("max_bad_fraction")
    out = Path(config.out)
    progress = prepare_shards(
        build(data),
        out,
        shard_bytes=int(shard_mb * 1e6),
        max_bad_fraction=max_bad_fraction,
        settings={},
    )
    bar = None
    bad = 0
    for state in progress:
        bar = bar or Bar(f"prepare ({out})", state.total)
        bar.update(state.done, f"{state.bad} bad" if state.bad else "")
        bad = state.bad
    if bar is not None:
        bar.close()
    facts = read_manifest(out, kind="shards").facts
    held_out = read_manifest(out / "held_out", kind="shards").facts
    done = "prepared" if bar is not None else "is prepared already:"
    print(f"{out} {done} {facts['num_samples']} pictures, {held_out['num_samples']} held out")
    if bad:
        print(f"{bad} pictures were left out; {out / BAD_SAMPLES} names each with its reason")
    return 0
