"""What a training run reads: each rank's batches, its held-out blocks, and both in words."""

from collections.abc import Callable, Iterator, Sequence

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from ldm.apps.shares import shares_of
from ldm.apps.stages.assembly import Assembly
from ldm.data.batches import Batch, Batches, train_loader
from ldm.data.order import Share, Slot, blocks, repeats
from ldm.nn.ranks import turns


class TrainingData(pl.LightningDataModule):
    """The stage's batches from the step the run is at, for the rank that asks."""

    def __init__(self, assembly: Assembly, config: DictConfig, start_step: int) -> None:
        super().__init__()
        self.batches, self.config, self.start_step = assembly.batches, config, start_step

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        return train_loader(
            self.batches,
            shares_of(self.config, self.batches.sizes_px, self.trainer.global_rank),
            start_step=self.start_step,
            stop_step=self.config.max_steps,
            workers=self.config.data.workers,
        )


class HeldOutBlocks:
    """This rank's blocks of the held-out data, numbered: ``validate_block`` samples of one bucket.

    They are the same for any number of ranks. ``see`` is shown each batch.
    """

    def __init__(
        self, assembly: Assembly, config: DictConfig, see: Callable[[Batch], None]
    ) -> None:
        self.batches, self.see = assembly.held_out, see
        self.size = assembly.held_out_block or config.validate_block

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        counts = self.batches.counts
        cut = list(blocks(counts, [self.size] * len(counts)))
        for number in turns(len(cut)):
            batch = self.batches[Slot(0, cut[number])]
            self.see(batch)
            yield number, batch


def buckets_in_words(batches: Batches, shares: Sequence[Share]) -> Iterator[str]:
    """A line for each bucket, where there are several, and for each that repeats in a batch."""
    names = [f"{width}x{height} px" for height, width in batches.sizes_px]
    if len(names) > 1:
        for name, count, share in zip(names, batches.counts, shares, strict=True):
            cut = f"{share.micro_batch} x {share.accumulate} accumulated"
            yield f"  bucket {name}: {count:,} pictures, {cut}"
    global_batch = shares[0].global_batch
    for bucket, times in repeats(batches.counts, global_batch):
        yield (
            f"{batches.counts[bucket]} pictures of {names[bucket]} do not fill a global batch of "
            f"{global_batch}, which shows each up to {times} times"
        )
