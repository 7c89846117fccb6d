"""Where a YAML file says what."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.yaml_lines import DefaultsEntry, read_yaml_lines, shown_path

TEXT = """# @package _global_
# What it is
defaults:
  - base          # first of all
  - override /optimizer: adamw
  - /metrics: [fid, kid]
  - /preparing@_here_: pictures
size: 32          # side in pixels,
                  # of all pictures
name: "a # b"
data:             # where it lies
  root: ???
heads: [2,
  4]              # per level
"""


@pytest.fixture
def found(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT)
    return read_yaml_lines(file)


def test_keys_have_line_text_and_comment(found):
    lines = {line.key: line for line in found.lines}
    assert (found.package, found.title, found.defaults_number) == ("_global_", "What it is", 3)
    size = lines[("size",)]
    assert (size.number, size.text, size.comment) == (8, "32", "side in pixels, of all pictures")
    assert lines[("name",)].text == '"a # b"' and lines[("name",)].comment == ""
    assert lines[("data",)].is_group and lines[("data",)].comment == "where it lies"
    assert (lines[("data", "root")].number, lines[("data", "root")].text) == (12, "???")
    assert (lines[("heads",)].text, lines[("heads",)].comment) == ("[2, 4]", "per level")
    assert lines[("heads", "1")].number == 14
    assert ("defaults",) not in lines


def test_entries_of_a_defaults_list(found):
    assert found.defaults == (
        DefaultsEntry(4, (), "", "", ("base",), "first of all"),
        DefaultsEntry(5, ("override",), "/optimizer", "", ("adamw",), ""),
        DefaultsEntry(6, (), "/metrics", "", ("fid", "kid"), ""),
        DefaultsEntry(7, (), "/preparing", "_here_", ("pictures",), ""),
    )


def test_a_file_without_settings(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_yaml_lines(tmp_path / "empty.yaml").lines == ()
    (tmp_path / "text.yaml").write_text("just words\n")
    with pytest.raises(UserError, match="text.yaml holds no settings: write `key: value`"):
        read_yaml_lines(tmp_path / "text.yaml")


def test_a_path_is_shown_as_it_is_typed_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "a" / "b.yaml") == "a/b.yaml"
    assert shown_path(tmp_path.parent / "b.yaml") == str(tmp_path.parent / "b.yaml")
