"""Bad samples: counted as they come, and read again only where they must be listed."""

import json

import pytest

from ldm.data.bad_samples import Tally, write_bad
from ldm.data.source import Bad

BAD = [Bad("a", "empty file"), Bad("b", "too small", True), *(Bad(k, "no picture") for k in "cde")]


def test_a_tally_of_pieces_is_that_of_the_whole():
    whole, pieces = Tally(), Tally()
    whole.add(BAD)
    for item in BAD:
        pieces.add([item])
    assert whole == pieces and whole.total() == 5
    assert whole.faults == {"empty file": 1, "no picture": 3} and whole.filtered == {"too small": 1}
    assert whole.first == ["a", "c", "d"]


def test_what_is_left_out_is_listed_only_where_there_is_too_much_of_it(tmp_path):
    tally = Tally()
    tally.add(BAD)
    listed = iter(BAD)
    tally.require_few(listed, tmp_path, seen=20, total=40, allowed=0.1)
    assert next(listed) is BAD[0]
    with pytest.raises(ValueError, match="4 of the first 20 pictures cannot.*3 x no.*: a, c, d;"):
        tally.require_few(BAD, tmp_path, seen=20, total=None, allowed=0.1)
    lines = (tmp_path / "bad_samples.jsonl").read_text().splitlines()
    assert [Bad(**json.loads(line)) for line in lines] == BAD
    write_bad(tmp_path, [])
    assert not [*tmp_path.iterdir()]
