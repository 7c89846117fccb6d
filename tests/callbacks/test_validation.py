"""Validation: sums over counts, with the averaged weights, logged on the one counter."""

from types import SimpleNamespace

import torch
from torch import nn

from ldm.callbacks.metrics_log import JsonlLogger, read_jsonl
from ldm.callbacks.patience import Patience
from ldm.callbacks.validation import Validation
from ldm.tasks.means import means
from ldm.tasks.trained import Trained


class Task(nn.Module):
    product = "denoiser"

    def __init__(self):
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.network.weight, 8.0)
        part = Trained(
            self.network,
            make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
            learning_rate=lambda step: 1.0,
            max_gradient_norm=1.0,
            ema_decay=0.9,
        )
        part.ema.shadow["weight"].fill_(2.0)
        self.trained = {"denoiser": part}
        self.step, self.device = 7, torch.device("cpu")
        self.modes = []

    def validate(self, batch):
        self.modes.append(self.training)
        return {
            "loss": self.network.weight.detach()[0, 0] * batch.sum(),
            "loss_count": torch.tensor(float(len(batch))),
            "loss_bin_0": torch.tensor(0.0),
            "loss_bin_0_count": torch.tensor(0.0),
            "largest": batch.max()[None],
        }

    def conclude(self, totals):
        return means(totals) | {"together": totals["largest"][0]}


BLOCKS = [(0, torch.tensor([1.0, 2.0])), (1, torch.tensor([6.0])), (2, torch.tensor([0.1, 0.2]))]


class OtherRanks(Patience):
    """Stands for ranks that have found what ``others`` say."""

    def __init__(self, *others):
        super().__init__(collective_timeout_seconds=1.0)
        self.others = others

    def gather(self, value):
        return [value, *self.others]


def test_means_with_the_average_and_the_network_given_back(make_trainer, tmp_path):
    logger = JsonlLogger(tmp_path / "metrics.jsonl", start_step=0)
    trainer, task = make_trainer(logger=logger), Task().train()
    validation = Validation(BLOCKS[:2], OtherRanks())
    validation(trainer, task)
    # Empty bins say nothing.
    assert validation.latest == {"val/loss": 2.0 * 9.0 / 3, "val/together": 8.0}
    assert read_jsonl(logger.path) == [{"step": 7, "val/loss": 6.0, "val/together": 8.0}]
    assert task.modes == [False, False] and task.training
    assert float(task.network.weight.detach()) == 8.0


def test_any_split_of_the_blocks_gives_the_same_numbers_to_the_last_bit(make_trainer):
    trainer, alone = make_trainer(), Validation(BLOCKS, OtherRanks())
    alone(trainer, Task())
    for first in range(3):  # one rank has one block, another the others, a third none
        seen = []
        keep = SimpleNamespace(gather=lambda value, seen=seen: seen.append(value) or [value])
        Validation([BLOCKS[first]], keep)(trainer, Task())  # type: ignore[arg-type]
        rest = [block for i, block in enumerate(BLOCKS) if i != first]
        together = Validation(rest, OtherRanks(*seen, ([], {})))
        together(trainer, Task())
        assert together.latest == alone.latest


def test_of_a_maximum_the_largest_of_all_blocks_is_taken(make_trainer):
    task = Task()
    task.validate = lambda batch: {"peak_max": batch.max(), "loss": batch.sum()}
    task.conclude = dict
    other = ([2], {"peak_max": torch.tensor([7.0]), "loss": torch.tensor([1.0])})
    validation = Validation(BLOCKS[:2], OtherRanks(other))
    validation(make_trainer(), task)
    assert validation.latest == {"val/peak_max": 7.0, "val/loss": 10.0}
