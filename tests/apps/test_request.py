"""Files of prompts: what a line is."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.request import read_lines, read_prompts


def test_lines_end_at_line_feeds_only_and_keep_their_place(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("a dog\u2028 and a\x0bcat \r\n\r\ntwo\x85birds\n".encode())
    lines = ["a dog\u2028 and a\x0bcat", "", "two\x85birds"]
    assert read_lines(str(file)) == lines
    assert read_prompts(str(file)) == [lines[0], lines[2]]
    file.write_text("\n \n")
    with pytest.raises(UserError, match="holds no prompt"):
        read_lines(str(file))
