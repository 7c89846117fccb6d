"""Measures the metrics on this machine: `make bench-evaluate`. Nothing is asserted.

Features of 50,000 pictures lie as notes in files, as `ldm evaluate` leaves them, and become numbers
in a process of its own, whose time and peak memory are told. Then the same features are given to
torch-fidelity's and torchmetrics' functions and to ours in turn; of these the ratio is what counts.
"""

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import whole_evaluation
from machine import machine
from paired import paired
from torch import Tensor

from ldm.metrics.frechet import frechet_distance, moments
from ldm.metrics.kernel_distance import KernelDistance
from ldm.metrics.notes import NotesInFiles, blocks_of
from ldm.metrics.precision_recall import PrecisionRecall

COUNT, SIZE, BLOCK = 50_000, 2048, 64
FEW = 10_000  # of them for precision and recall
COMPARED = 5_000  # for what is compared with others
SUBSETS, SUBSET_SIZE = 100, 1000

T = TypeVar("T")


def main() -> None:
    """Print the machine, then one line per row."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("samples", "reference")):
            write_notes(Path(folder) / name, seed)
        for name, work, count in (
            ("FID", frechet, COUNT),
            ("KID", kernel, COUNT),
            ("FID and KID", both, COUNT),
            ("precision and recall", manifolds, FEW),
        ):
            for threads in (1, len(os.sched_getaffinity(0))):
                cost = in_own_process(threads, measured, work, Path(folder), count)
                took = (
                    f"{cost.seconds:.1f} s ({cost.cpu_seconds:.1f} of CPU), {cost.peak_gib:.2f} GiB"
                )
                print(f"{name} of {count:,} x {SIZE:,}, threads {threads}: {took}", flush=True)
        in_own_process(1, against_others, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        whole_evaluation.main(Path(folder))


def write_notes(directory: Path, seed: int) -> None:
    """Rows as a network gives them: not negative, correlated."""
    notes = NotesInFiles(directory, count=COUNT, block=BLOCK)
    mixing = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(99)) / SIZE**0.5
    mixing *= torch.logspace(0, -2, SIZE)
    generator = torch.Generator().manual_seed(seed)
    for number, pictures in enumerate(blocks_of(COUNT, BLOCK)):
        rows = len(pictures)
        features = torch.randn(rows, SIZE, generator=generator) @ mixing
        notes.write(number, {"features": (features + 0.3 + 0.01 * seed).relu()})


def both_sides(folder: Path, count: int) -> Iterator[tuple[bool, Iterator[Tensor]]]:
    """Whether these are real ones, and the first ``count`` rows block by block."""
    for is_real, name in ((False, "samples"), (True, "reference")):
        yield is_real, first_rows(folder / name, count)


def first_rows(notes: Path, count: int) -> Iterator[Tensor]:
    """The first rows of all that are noted, in blocks of which the last may be smaller."""
    blocks = NotesInFiles(notes, count=COUNT, block=BLOCK).blocks("features")
    for features, begun in zip(blocks, range(0, count, BLOCK), strict=False):
        yield features[: count - begun]


def frechet(folder: Path, count: int) -> None:
    frechet_distance(*(moments(blocks) for _, blocks in both_sides(folder, count)))


def kernel(folder: Path, count: int) -> None:
    metric = KernelDistance(SUBSETS, SUBSET_SIZE)
    for is_real, blocks in both_sides(folder, count):
        for features in blocks:
            metric.update(features, real=is_real)
    metric.compute()


def both(folder: Path, count: int) -> None:
    frechet(folder, count)
    kernel(folder, count)


def manifolds(folder: Path, count: int) -> None:
    metric = PrecisionRecall(neighbours=3)
    for is_real, blocks in both_sides(folder, count):
        for features in blocks:
            metric.update(features, real=is_real)
    metric.compute()


def in_own_process(threads: int, work: Callable[..., T], *arguments: object) -> T:
    """What the work gives in a process whose libraries compute with so many threads."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


class Cost(NamedTuple):
    """What work took without the start of Python and torch, and the peak of all memory."""

    seconds: float
    cpu_seconds: float  # which others on the machine hardly change
    peak_gib: float


def measured(work: Callable[[Path, int], None], folder: Path, count: int) -> Cost:
    begun, cpu_begun = time.perf_counter(), time.process_time()
    work(folder, count)
    return Cost(
        time.perf_counter() - begun,
        time.process_time() - cpu_begun,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


def against_others(folder: Path) -> None:
    """Our numbers from features in memory against torch-fidelity's and torchmetrics', a thread."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric
    from torchmetrics.image import FrechetInceptionDistance, KernelInceptionDistance

    fake, real = (
        torch.cat([*first_rows(folder / name, COMPARED)]) for name in ("samples", "reference")
    )

    class AsTheyAre(torch.nn.Module):
        num_features = SIZE

        def forward(self, features: Tensor) -> Tensor:
            return features

    def fed(metric: object) -> None:
        for is_real, features in ((False, fake), (True, real)):
            for block in features.split(BLOCK):
                metric.update(block, real=is_real)  # type: ignore[attr-defined]
        metric.compute()  # type: ignore[attr-defined]

    def ours_frechet() -> None:
        frechet_distance(moments(fake.split(BLOCK)), moments(real.split(BLOCK)))

    def theirs_frechet() -> None:
        sides = (fid_features_to_statistics(side) for side in (fake, real))
        fid_statistics_to_metric(*sides, verbose=False)

    subsets = 20
    for name, ours, theirs in (
        ("FID / torch-fidelity", ours_frechet, theirs_frechet),
        ("FID / torchmetrics", ours_frechet, lambda: fed(FrechetInceptionDistance(AsTheyAre()))),
        (
            f"KID, {subsets} subsets / torch-fidelity (float32)",
            lambda: fed(KernelDistance(subsets, SUBSET_SIZE)),
            lambda: kid_features_to_metric(fake, real, kid_subsets=subsets, verbose=False),
        ),
        (
            f"KID, {subsets} subsets / torchmetrics (float32)",
            lambda: fed(KernelDistance(subsets, SUBSET_SIZE)),
            lambda: fed(KernelInceptionDistance(AsTheyAre(), subsets, SUBSET_SIZE)),
        ),
        (
            "precision and recall / torch-fidelity (float32)",
            lambda: fed(PrecisionRecall(neighbours=3)),
            lambda: prc_features_to_metric(fake, real, verbose=False),
        ),
    ):
        ratio = paired(ours, theirs, COMPARED, blocks=3)
        print(f"{name}, {COMPARED:,} x {SIZE:,}: {ratio}", flush=True)


if __name__ == "__main__":
    main()
