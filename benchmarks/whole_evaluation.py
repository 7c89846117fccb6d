"""All of an evaluation over its sampling and feature networks; part of `make bench-evaluate`.

Both are timed in one run, by clocks around the networks: on a shared machine two runs differ by
more than what is asked for. What `ldm evaluate` takes beyond the networks is its overhead: reading
models and pictures, notes, hashes, and FID, KID, Inception score, precision and recall of it all.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tiny_world import DEMO, World

COUNT, BLOCK = 2_112, 64  # more pictures than the Inception has features


def main(folder: Path) -> None:
    """One line: overhead in wall time and in CPU time. ``folder`` takes some 200 MB."""
    from ldm.features.inception import InceptionFeatures
    from ldm.generation import TextToImage
    from ldm.weights import TABLE
    from tests.features.random_inception import write_random_inception

    world = World(folder, DEMO, held_out=COUNT)
    run(*world.train("diffusion", folder / "unet", "max_steps=1"))
    (folder / "weights").mkdir()
    write_random_inception(folder / "weights" / TABLE["inception_fid"].weights.path)
    networks = Clock()
    with networks.around(TextToImage, "forward"), networks.around(InceptionFeatures, "layers"):
        whole = Clock()
        whole.time(run)(
            "evaluate", f"model={folder / 'unet'}", f"data.root={folder / 'shards'}",
            f"num_samples={COUNT}", f"block={BLOCK}", f"out={folder / 'metrics.json'}",
            f"weights_dir={folder / 'weights'}", "allow_unknown_weights=true",
            "metrics=[fid,kid,inception_score,precision_recall]",
        )  # fmt: skip
    print(
        f"a whole evaluation of {COUNT:,} pictures of 32 px (20 steps) over sampling and "
        f"Inception alone: {whole.wall / networks.wall - 1:+.1%} of {networks.wall:.0f} s; in CPU "
        f"time {whole.cpu / networks.cpu - 1:+.1%} of {networks.cpu:.0f} s",
        flush=True,
    )


class Clock:
    """Seconds of the wall, and of all cores, that calls have taken."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def time(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **more: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **more)
            finally:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu

        return timed

    @contextlib.contextmanager
    def around(self, owner: type, name: str) -> Iterator[None]:
        """Time every call of a method."""
        method = getattr(owner, name)
        setattr(owner, name, self.time(method))
        try:
            yield
        finally:
            setattr(owner, name, method)


def run(*words: str) -> None:
    from ldm.apps.main import main as ldm

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert ldm([*words]) == 0, words
