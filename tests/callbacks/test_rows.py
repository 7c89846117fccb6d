"""The file of logged rows: what is no whole row is left out, what is beyond a step is dropped."""

import json

from ldm.callbacks.rows import Rows, read_jsonl, rows_after


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_a_crash_leaves_is_left_out_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, {"step": 1}, {"step": 2})
    with open(path, "ab") as file:  # killed while writing, gone on by hand, then without power
        file.write(b'{"step": 3, "lo\n{"step": 4}\n7\n\0\0\xff\0\n{"step": 5}\n{"step": 6}')
    assert [row["step"] for row in read_jsonl(path)] == [1, 2, 4, 5]
    assert read_jsonl(tmp_path / "none") == []


def test_rows_are_read_on_from_the_last_whole_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert rows_after(path, 0) == ([], 0)
    write(path, {"step": 1})
    rows, end = rows_after(path, 0)
    with open(path, "a") as file:
        file.write('{"step": 2}\n{"st')
    assert (rows, end) == ([{"step": 1}], 12)
    rows, end = rows_after(path, end)
    with open(path, "a") as file:
        file.write('ep": 3}\n')
    assert rows == [{"step": 2}] and rows_after(path, end)[0] == [{"step": 3}]


def test_opening_drops_what_lies_beyond_the_step_wherever_it_stands(tmp_path):
    path = tmp_path / "metrics.jsonl"
    late = {"step": 20, "val/fid": 3.0}  # an evaluation ends long after its step
    write(path, {"step": 20}, {"step": 40}, late, {"step": 60})
    rows = Rows(path, start_step=40)
    assert rows.open() and rows.open()
    assert read_jsonl(path) == [{"step": 20}, {"step": 40}, late]
    assert rows.append({"step": 60, "loss": float("nan")})
    assert len(path.read_text().splitlines()) == 4


def test_a_row_that_cannot_be_written_waits(tmp_path, capsys):
    path = tmp_path / "no" / "metrics.jsonl"
    path.parent.write_text("a file in its place")
    rows = Rows(path, start_step=0)
    assert not rows.open() and not rows.append({"step": 1}) and not rows.append({"step": 2})
    path.parent.unlink()
    assert rows.append({"step": 3}) and [row["step"] for row in read_jsonl(path)] == [1, 2, 3]
    assert capsys.readouterr().out.count("could not write") == 1
