"""A table that holds what metrics.jsonl does."""

import csv

from ldm.callbacks.loggers.backend import Run
from ldm.callbacks.loggers.csv import Csv


def table(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_columns_come_as_names_do_and_gaps_are_empty(tmp_path):
    log = Csv()
    log.require()
    for sitting in range(2):  # each writes it anew
        log.open(Run(tmp_path, {}), None, None)
        log.write([{"step": 20, "train/loss": 0.1}])
        log.write([{"step": 40, "train/loss": 1e-9 + sitting}])
        log.write([{"step": 40, "val/loss": float("nan")}, {"step": 60, "train/loss": 2.0}])
        log.close(failed=False)
        assert table(tmp_path / "metrics.csv") == [
            ["step", "train/loss", "val/loss"],
            ["20", "0.1", ""], ["40", repr(1e-9 + sitting), ""], ["40", "", "nan"],
            ["60", "2.0", ""],
        ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_name_with_commas_and_quotes_stays_one_column(tmp_path):
    log = Csv()
    log.open(Run(tmp_path, {}), None, None)
    log.write([{"step": 1, 'a,"b"': 1.0}])
    assert table(tmp_path / "metrics.csv")[0] == ["step", 'a,"b"']
