"""Licences and sources of samples are counted by split, in the manifests of shards."""

import io

import pytest
from PIL import Image

from ldm.apps.bill.made_of import bill_at
from ldm.data.preparing.terms import OTHERS, Terms, counts_of, terms_of
from ldm.manifest import read_manifest


@pytest.mark.parametrize(
    ("meta", "found"),
    [
        ({}, Terms("", "")),
        ({"license": "CC0", "source": "flickr"}, Terms("CC0", "flickr")),
        ({"Licence": " by ", "dataset": "x"}, Terms("by", "x")),
        ({"source": "https://example.org/a/1.jpg"}, Terms("", "example.org")),
        ({"license": None, "source": 3}, Terms("", "3")),
    ],
)
def test_what_a_sample_says_of_itself(meta, found):
    assert terms_of(meta) == found


def test_counts_leave_out_what_is_not_said_and_stay_small():
    assert counts_of([(Terms("", ""), 5)]) == {}
    assert counts_of([(Terms("a", ""), 2), (Terms("b", "x"), 1)]) == {
        "licences": {"a": 2, "b": 1}, "sources": {"x": 1},
    }  # fmt: skip
    many = counts_of([(Terms(str(i), ""), 2) for i in range(150)])["licences"]
    assert len(many) == 101 and many[OTHERS] == 100


def test_prepared_shards_and_the_bill_count_them(ldm, tmp_path):
    lines = []
    for i in range(20):
        picture = io.BytesIO()
        Image.new("RGB", (16, 16), (12 * i, i, 90)).save(picture, "PNG")
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / f"{i}.png").write_bytes(picture.getvalue())
        licence = "" if i % 4 == 0 else ', "license": "cc0"'
        lines.append(f'{{"file_name": "{i}.png", "text": "picture {i}"{licence}}}')
    (tmp_path / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    words = ["data=folder", f"data.path={tmp_path / 'pictures'}", "data.held_out_fraction=0.3"]
    assert ldm("prepare", *words, "data.size_px=16", f"out={tmp_path / 's'}", "processes=1") == 0
    train, held_out = read_manifest(tmp_path / "s"), read_manifest(tmp_path / "s" / "held_out")
    assert train.facts["licences"]["cc0"] + held_out.facts["licences"]["cc0"] == 15
    (data,) = bill_at(str(tmp_path / "s")).data
    count = data["num_samples"]
    assert data["licences"] == train.facts["licences"] | {
        "unknown": count - train.facts["licences"]["cc0"]
    }
