"""Evaluation: what ranks note in turn becomes numbers, at once or beside training."""

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ldm.callbacks import evaluation as module_under_test
from ldm.callbacks.evaluation import Evaluation
from ldm.callbacks.metrics_log import JsonlLogger, read_jsonl
from ldm.callbacks.snapshot import Snapshot
from ldm.manifest import read_json
from ldm.tasks.trained import Trained

LASTING = [("reference", i) for i in range(3)]
CHANGING = [("samples", i) for i in range(4)]


def task(step=7):
    network = nn.Linear(1, 1, bias=False)
    part = Trained(
        network,
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        learning_rate=lambda step: 1.0,
        max_gradient_norm=1.0,
        ema_decay=0.9,
    )
    part.ema.shadow["weight"].fill_(0.1)
    return SimpleNamespace(
        product="denoiser", trained={"denoiser": part}, step=step, network=network,
        eval=lambda: None, train=lambda: None,
    )  # fmt: skip


class World:
    """An evaluation of the mean of what is noted, and all that it was asked."""

    def __init__(self, make_trainer, path, *, beside=False, others=(), conclude=None):
        path.mkdir()
        self.path, self.asked, self.left_out, self.module = path, [], [], task()
        logger = JsonlLogger(path / "metrics.jsonl", start_step=0)
        self.trainer = make_trainer(logger=logger)
        self.evaluation = Evaluation(
            self.note,
            conclude or self.conclude,
            lasting=LASTING,
            changing=CHANGING,
            path=path / "evaluation.json",
            patience=SimpleNamespace(gather=lambda mine: [mine, *others]),
            metrics_log=SimpleNamespace(leave_out=self.left_out.append),
            beside=beside,
        )

    def note(self, piece):
        self.asked.append(piece)
        value = float(self.module.network.weight.detach()) * (1 + piece[1] / 3)
        return {"observer": {"row": torch.full((2,), value)}}

    @staticmethod
    def conclude(found):
        drawn = [found[piece]["observer"]["row"] for piece in sorted(found)]
        return {"mean-8": {"value": float(torch.cat(drawn).double().mean()), "protocol": {"n": 8}}}

    def __call__(self, step=7):
        self.module.step = step
        self.evaluation(self.trainer, self.module)

    @property
    def rows(self):
        return read_jsonl(self.path / "metrics.jsonl")


@pytest.fixture
def world(make_trainer, tmp_path):
    return lambda name="run", **more: World(make_trainer, tmp_path / name, **more)


def test_numbers_of_the_average_are_logged_and_their_records_kept(world):
    one = world()
    one()
    (row,) = one.rows
    # 3 and 4 pieces of 0.1, 0.1333, 0.1667 (and 0.2): drawn with the average, which is 0.1
    assert row["step"] == 7 and row["val/mean-8"] == pytest.approx(1.0 / 7.0)
    record = read_json(one.path / "evaluation.json")["mean-8"]
    assert record == {"value": row["val/mean-8"], "protocol": {"n": 8}, "step": 7}
    assert one.left_out[0] >= row["evaluate_seconds"] > 0.0


def test_what_lasts_is_noted_once(world):
    one = world()
    one()
    assert one.asked == LASTING + CHANGING
    one(8)
    assert one.asked == LASTING + CHANGING + CHANGING
    assert [row["val/mean-8"] for row in one.rows] == 2 * [one.rows[0]["val/mean-8"]]


@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_any_split_over_ranks_gives_the_same_bits(world, monkeypatch, ranks):
    alone, others = world("alone"), []
    alone()
    for rank in reversed(range(ranks)):  # rank 0 last: it has what all have noted
        one = world(f"rank_{rank}", others=others)
        monkeypatch.setattr(
            module_under_test, "turns", lambda count, rank=rank: range(rank, count, ranks)
        )
        gather = one.evaluation.patience.gather
        one.evaluation.patience.gather = lambda mine, g=gather: others.append(mine) or g(mine)
        monkeypatch.setattr(type(one.trainer), "is_global_zero", rank == 0)
        one()
    assert sorted(piece for found in others[:ranks] for piece in found) == LASTING + CHANGING
    assert one.rows[0]["val/mean-8"] == alone.rows[0]["val/mean-8"]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_beside_training_numbers_come_later_and_of_their_step(world):
    begun, may_end, threads = threading.Event(), threading.Event(), []

    def conclude(found):
        threads.append(torch.get_num_threads())
        begun.set()
        assert may_end.wait(10.0)
        return World.conclude(found)

    one = world(beside=True, conclude=conclude)
    one()
    assert begun.wait(10.0) and one.rows == []
    one.evaluation.on_train_batch_end(one.trainer, one.module, None, None, 0)
    assert one.rows == []  # training did not wait
    state = one.evaluation.state_dict()
    assert state["step"] == 7 and set(state["found"]) == {*LASTING, *CHANGING}
    may_end.set()
    one.module.step = 9
    one.evaluation.on_train_end(one.trainer, one.module)
    assert [row["step"] for row in one.rows] == [7]
    assert threads == [1] and torch.get_num_threads() == 2
    assert one.evaluation.state_dict() == {}

    # A run that was killed meanwhile goes on with it; one that logged it in time does not again.
    for name, logged in (("killed", False), ("in_time", True)):
        resumed = world(name)
        if logged:
            (one.path / "evaluation.json").rename(resumed.path / "evaluation.json")
        resumed.evaluation.load_state_dict(state)
        resumed.evaluation.on_train_start(resumed.trainer, resumed.module)
        resumed.evaluation.on_train_batch_end(resumed.trainer, resumed.module, None, None, 0)
        found = [(row["step"], row["val/mean-8"]) for row in resumed.rows]
        assert found == ([] if logged else [(7, one.rows[0]["val/mean-8"])])


def test_its_state_is_what_a_checkpoint_can_hold(world, tmp_path):
    one = world(beside=True, conclude=lambda found: {})
    one()
    file = tmp_path / "state.pt"
    torch.save(Snapshot().take(one.evaluation.state_dict()), file)
    state = torch.load(file, weights_only=True)
    assert state["step"] == 7 and set(state["found"]) == {*LASTING, *CHANGING}


def test_what_fails_on_any_rank_or_at_the_end_is_told_once(world, capsys):
    world("there", others=["rank 1: OSError: no space"])()
    assert capsys.readouterr().out == (
        "step 7 could not be evaluated (rank 1: OSError: no space). Training goes on.\n"
    )
    one = world("here")
    one.evaluation.note = lambda piece: 1 / 0
    one()
    assert "(rank 0: ZeroDivisionError: division by zero)" in capsys.readouterr().out
    one.evaluation.note = one.note  # what lasts is noted with the first that succeeds
    one(8)
    assert [row["step"] for row in one.rows] == [8] and one.asked == LASTING + CHANGING
    (one.path / "file").touch()
    one.evaluation.path = one.path / "file" / "evaluation.json"
    one(9)
    assert "Training goes on." in capsys.readouterr().out
    assert [row["step"] for row in one.rows] == [8, 9]
    for beside in (False, True):

        def conclude(found):
            raise ValueError("the features are not finite.")

        one = world(f"numbers_{beside}", beside=beside, conclude=conclude)
        one()
        one.evaluation.on_train_end(one.trainer, one.module)
        said = "step 7 could not be evaluated (the features are not finite). Training goes on.\n"
        assert capsys.readouterr().out == said and one.rows == []
