"""Logged numbers: means over the steps between two lines, and a file that resumes cleanly."""

import json

import pytest
import pytorch_lightning as pl
import torch

from ldm.callbacks import data_wait, metrics_log
from ldm.callbacks.data_wait import DataWait
from ldm.callbacks.metrics_log import JsonlLogger, MetricsLog, read_jsonl


class Task(pl.LightningModule):
    """Returns its batch as loss; ``accumulate`` micro-batches complete a step, or each its own."""

    product = "denoiser"

    def __init__(self, accumulate=1, start=0):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.step, self._micro = start, 0
        self.accumulate = accumulate if isinstance(accumulate, list) else [accumulate] * 999
        self.trained = {"denoiser": self}
        self.skipped, self.loss_scale = torch.zeros(3), None

    def learning_rate(self, step):
        return 0.5 + step

    def skips(self):
        return self.skipped

    def looked(self):
        self.skipped[::2] = 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def training_step(self, batch, batch_index):
        self._micro += 1
        logs = {"loss": torch.tensor(float(batch))}
        if self._micro == self.accumulate[self.step]:
            self.step, self._micro = self.step + 1, 0
            logs["gradient_norm"] = torch.tensor(10.0 * float(batch))
        return logs


@pytest.fixture
def train(make_trainer, tmp_path):
    def run(values, *, every_steps, accumulate=1, start=0):
        logger = JsonlLogger(tmp_path / "metrics.jsonl", start_step=start)
        log = MetricsLog(every_steps=every_steps, global_batch=16, workers=0)
        loader = torch.utils.data.DataLoader(values, batch_size=None, shuffle=False)
        make_trainer(log, logger=logger).fit(Task(accumulate, start), loader)
        return read_jsonl(tmp_path / "metrics.jsonl")

    return run


def test_lines_hold_the_means_since_the_line_before(train):
    rows = train([1.0, 2.0, 3.0, 6.0, 5.0], every_steps=2)
    assert [row["step"] for row in rows] == [2, 4, 5]  # the rest is not lost
    assert [row["train/loss"] for row in rows] == [1.5, 4.5, 5.0]
    assert [row["train/gradient_norm"] for row in rows] == [15.0, 45.0, 50.0]
    assert [row["images_seen"] for row in rows] == [32, 64, 80]
    # The rate of the last step that was taken.
    assert [row["learning_rate"] for row in rows] == [1.5, 3.5, 4.5]
    assert all(row["images_per_second"] > 0 and 0 <= row["data_wait_fraction"] <= 1 for row in rows)


def test_micro_batches_count_as_one_step(train):
    rows = train([1.0, 3.0, 5.0, 7.0], every_steps=1, accumulate=2)
    assert [(row["step"], row["train/loss"]) for row in rows] == [(1, 2.0), (2, 6.0)]
    assert [row["train/gradient_norm"] for row in rows] == [30.0, 70.0]


def test_steps_count_alike_whatever_their_number_of_micro_batches(train):
    (row,) = train([4.0, 1.0, 2.0, 3.0], every_steps=2, accumulate=[1, 3])
    assert (row["step"], row["train/loss"]) == (2, 3.0)
    assert row["train/gradient_norm"] == 35.0


def test_what_is_not_finite_is_left_out_of_the_means(train):
    rows = train([1.0, float("nan"), 3.0, float("inf"), float("nan")], every_steps=3)
    assert [(row["step"], row.get("train/loss")) for row in rows] == [(3, 2.0), (5, None)]
    assert "train/gradient_norm" not in rows[1]
    assert all(row["skipped_steps"] == 0.0 for row in rows)


def test_readers_see_each_line_and_skips_are_counted_anew(make_trainer):
    lines = []

    class Skipping(Task):
        def training_step(self, batch, batch_index):
            self.skipped += torch.tensor([1.0, 1.0, 1.0])
            return super().training_step(batch, batch_index)

    log = MetricsLog(
        every_steps=2, global_batch=16, workers=0, readers=[lambda *given: lines.append(given[2])]
    )
    loader = torch.utils.data.DataLoader([1.0, 2.0, 3.0], batch_size=None)
    make_trainer(log).fit(task := Skipping(), loader)
    assert [line["skipped_steps"] for line in lines] == [2.0, 1.0]
    assert task.skipped.tolist() == [0.0, 3.0, 0.0]  # those in a row are not forgotten


def test_speed_is_also_told_in_operations_and_against_the_devices_peak(make_trainer):
    lines = []
    for more in ({}, {"flops_per_image": 5e9}, {"flops_per_image": 5e9, "peak_flops": 2e12}):
        log = MetricsLog(every_steps=1, global_batch=16, workers=0, **more)
        loader = torch.utils.data.DataLoader([1.0], batch_size=None)
        make_trainer(log).fit(Task(), loader)
        lines.append(log.latest)
    without, operations, both = lines
    assert not {"mfu", "tflops_per_second"} & without.keys() and "mfu" not in operations
    assert operations["tflops_per_second"] == operations["images_per_second"] * 5e9 / 1e12
    assert both["mfu"] == pytest.approx(both["tflops_per_second"] / 2)


def test_a_resumed_run_goes_on_with_the_line_begun(make_trainer, tmp_path):
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]

    def run(name, part, start, state=None, stops=False):
        log = MetricsLog(every_steps=3, global_batch=16, workers=0)
        if state is not None:
            log.load_state_dict(state)
        logger = JsonlLogger(tmp_path / name, start_step=start)
        loader = torch.utils.data.DataLoader(part, batch_size=None)
        trainer = make_trainer(log, Stop(len(part)) if stops else DataWait(0), logger=logger)
        trainer.fit(Task(start=start), loader)
        return log.state_dict()

    run("straight", values, 0)
    state = run("resumed", values[:4], 0, stops=True)
    run("resumed", values[4:], 4, state)
    straight, resumed = (read_jsonl(tmp_path / name) for name in ("straight", "resumed"))
    for name in ("step", "train/loss", "train/gradient_norm", "skipped_steps", "images_seen"):
        assert [row[name] for row in resumed] == [row[name] for row in straight]


class Stop(pl.Callback):
    """Interrupts a run at a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.should_stop = module.step >= self.step


class Clock:
    """Seconds that pass only when told to; ``time.perf_counter``'s place in the callback."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


def test_the_start_of_workers_after_a_resume_is_no_slow_loader(monkeypatch, capsys, make_trainer):
    """Of a line that was begun in another sitting only the steps of this one count."""
    clock = Clock()
    for module in (metrics_log, data_wait):
        monkeypatch.setattr(module, "time", clock)
    log = MetricsLog(every_steps=200, global_batch=16, workers=0)
    loader = torch.utils.data.DataLoader([1.0] * 199, batch_size=None)
    make_trainer(log, Stop(199), log.wait).fit(Task(), loader)
    again = MetricsLog(every_steps=200, global_batch=16, workers=0)
    again.load_state_dict(log.state_dict())

    class Late(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, i):
            clock.now += 8.0
            return 1.0

    clock.now += 1.0
    loader = torch.utils.data.DataLoader(Late(), batch_size=None)
    make_trainer(again, again.wait).fit(Task(start=199), loader)
    assert again.latest["data_wait_fraction"] > 0.5
    assert "waiting for data" not in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_waiting_for_data_is_logged_and_said_once(monkeypatch, capsys, make_trainer, share):
    clock = Clock()
    for module in (metrics_log, data_wait):
        monkeypatch.setattr(module, "time", clock)

    class Timed(Task):
        def training_step(self, batch, batch_index):
            clock.now += 1.0 - share
            return super().training_step(batch, batch_index)

    class Values(torch.utils.data.Dataset):
        def __len__(self):
            return 450

        def __getitem__(self, i):
            clock.now += share
            return 1.0

    log = MetricsLog(every_steps=10, global_batch=16, workers=3)

    class Evaluation(pl.Callback):
        """A pause at every step, in which nothing is trained and for no data is waited."""

        def on_train_batch_end(self, *arguments):
            clock.now += 50.0
            log.leave_out(50.0)

    loader = torch.utils.data.DataLoader(Values(), batch_size=None)
    make_trainer(log, Evaluation(), log.wait).fit(Timed(), loader)
    assert log.latest["data_wait_fraction"] == pytest.approx(share, abs=1e-4)
    assert log.latest["images_per_second"] == pytest.approx(16.0)
    said = capsys.readouterr().out
    assert said.count("waiting for data") == (1 if share > 0.2 else 0)
    assert share < 0.2 or ("30% of the last 200 steps" in said and "more than 3" in said)


def test_a_resumed_run_drops_the_lines_it_writes_again(train, tmp_path):
    train([1.0, 2.0, 3.0, 4.0], every_steps=1)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "train/lo')  # killed while writing
    rows = train([30.0, 40.0, 50.0], every_steps=1, start=2)
    assert [(row["step"], row["train/loss"]) for row in rows] == [
        (1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0),
    ]  # fmt: skip
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows  # no half line is left


def test_opening_waits_for_the_first_line(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    assert read_jsonl(path) == []
    logger = JsonlLogger(path, start_step=0)
    assert not path.exists()
    logger.log_metrics({"val/loss": torch.tensor(2.5)}, step=3)
    logger.log_metrics({"x": 1.0}, step=4)
    assert read_jsonl(path) == [{"step": 3, "val/loss": 2.5}, {"step": 4, "x": 1.0}]
