"""What lets one into a url is not written down."""

import pytest

from ldm.apps.credentials import without_credentials


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("data.root=http://me:pw@h/x", "data.root=http://***@h/x"),
        ("https://me:p@ss@h/x and s3://k@b/y", "https://***@h/x and s3://***@b/y"),
        ("https://h/x?token=abc", "https://h/x?***"),
        ("s3://key:se/cret@b/x", "s3://***@b/x"),
        ("data.root=['https://h/a?sig=a%2Fb&t=1','s3://b']", "data.root=['https://h/a?***','s3://b']"),
        ("s3://bucket/shard-0000?.tar", "s3://bucket/shard-0000?.tar"),
        ("s3://bucket/me@home/x", "s3://bucket/me@home/x"),
        ("a mail to me@home: why?", "a mail to me@home: why?"),
    ],
)  # fmt: skip
def test_user_password_and_query_are_left_out(text, kept):
    assert without_credentials(text) == kept


def test_texts_are_found_in_lists_and_mappings():
    value = {"data": {"root": ["s3://k:s@b", 1]}, "lr": 0.5, "init": None}
    assert without_credentials(value) == {
        "data": {"root": ["s3://***@b", 1]},
        "lr": 0.5,
        "init": None,
    }
