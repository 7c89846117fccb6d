"""The numbers of a run that is being written, or that was killed while it was."""

from ldm.apps.report.job_numbers import Series


def test_numbers_are_read_on_and_what_is_no_row_is_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    series = Series(file)
    assert series.latest() == {}
    lines = [
        b'{"step": 1, "loss": 2.0}',
        b"\0\0\0\xff",
        b"[1]",
        b'{"loss": 7.0}',
        b'{"step": 2, "lo',
    ]
    file.write_bytes(b"\n".join(lines))
    assert series.by_name() == {"loss": [(1, 2.0)]}
    with open(file, "ab") as more:
        more.write(b'ss": 1.0, "word": "x"}\n')
    assert series.latest() == {"loss": (2, 1.0)}
    file.unlink()
    file.write_bytes(b'{"step": 1, "loss": 3.0}\n')
    assert series.by_name() == {"loss": [(1, 3.0)]}  # written anew
