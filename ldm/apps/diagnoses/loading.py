"""How many pictures or latents per second the loader gives, against what a step needs."""

import time
from pathlib import Path
from typing import Any

from ldm.apps.machine import Check
from ldm.apps.probe import try_libraries

NAME = "loader"
SECONDS = 4.0
LIMIT_SECONDS = 60
_BATCH = 32
# What one GPU takes of Stable Diffusion 2 from cached latents: MosaicML's README, 8 GPUs (A100);
# NVIDIA's MLPerf Training 4.0 result, 8 GPUs (H200).
USUAL = "of Stable Diffusion 2 an A100 takes 138 at 256 px and 36 at 512 px, an H200 129 at 512 px"


def loading(root: str, workers: int, needed: float | None) -> Check:
    """The rate with so many worker processes; ``needed`` is that of a training run."""
    code = (
        "from ldm.apps.diagnoses.loading import measured\n"
        f"facts = measured({root!r}, {workers!r})\n"
    )
    found = try_libraries({NAME: code}, timeout_seconds=LIMIT_SECONDS)[NAME]
    if found.error:
        said = found.error.partition(": ")[2] or found.error
        return Check(
            NAME, "fail", f"data.root={root}: {said}", f"Check it: `ldm check data.root={root}`."
        )
    return judged(found.facts, root, workers, needed)


def judged(facts: Any, root: str, workers: int, needed: float | None) -> Check:
    """Whether that is enough."""
    rate = facts["rate"]
    detail = (
        f"{root}: {rate:,.0f} {facts['what']} per second of {facts['size']} with "
        f"data.workers={workers}"
    )
    if needed is None:
        remedy = f"Each GPU needs its own loader to keep up; {USUAL}."
        return Check(NAME, "ok", detail, remedy)
    if rate >= 1.2 * needed:
        return Check(NAME, "ok", f"{detail}, and {needed:g} are needed")
    more = workers + 1 if workers == 0 else -(-int(workers * 1.5 * needed) // max(1, int(rate)))
    remedy = (
        f"Set data.workers={max(more, workers + 1)} (there must be as many cores)"
        + (", or train on latents of `ldm cache`" if facts["what"] == "pictures" else "")
        + ", or put data.root on a faster disk."
    )
    return Check(NAME, "warn", f"{detail}, and {needed:g} are needed", remedy)


def measured(root: str, workers: int, seconds: float = SECONDS) -> dict[str, Any]:
    """Rate, kind and size of what lies at ``root``, read as training reads it."""
    from ldm.data.batches import Batches, ImageBatches, LatentBatches, train_loader
    from ldm.data.latents.cache import KIND, LatentCache
    from ldm.data.order import InBuckets, Share, Shuffled
    from ldm.data.shards.reader import ImageShards
    from ldm.manifest import known_manifest

    made = known_manifest(Path(root)) if Path(root).is_dir() else None
    if made is not None and made.kind == KIND:
        cache, what = LatentCache(root), "latents"
        order = InBuckets(0, cache.counts, _BATCH)
        batches: Batches = LatentBatches(cache, order=order, seed=0)
    else:
        shards, what = ImageShards(root), "pictures"
        batches = ImageBatches(
            shards, order=Shuffled(0, len(shards)), size_px=min(shards.size(0)), flip=False, seed=0
        )
    height, width = batches.sizes_px[0]
    loader = train_loader(
        batches,
        [Share(_BATCH, _BATCH)] * len(batches.sizes_px),
        start_step=0,
        stop_step=1_000_000,
        workers=workers,
    )
    # The first batches also begin the processes.
    count, begun = 0, 0.0
    for number, batch in enumerate(loader):
        if number == workers:
            begun = time.monotonic()
        elif number > workers:
            count += len(batch.index)
            if time.monotonic() - begun >= seconds:
                break
    rate = count / (time.monotonic() - begun)
    return {"rate": rate, "what": what, "size": f"{width}x{height} px"}
