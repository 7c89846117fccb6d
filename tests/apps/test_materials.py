"""`ldm materials`: what a model was made of, in a table, as JSON, in the report and on its card."""

from ldm.apps.bill.bill import Bill
from ldm.apps.materials import in_lines
from ldm.manifest import read_json

PART = {
    "name": "sd15", "file": "x", "fingerprint": "ab", "licence": "openrail",
    "trained_on": "unknown",
    "role": "frozen input: the autoencoder", "for": ["latents"], "origin": "imported from x",
}  # fmt: skip
DATA = {
    "source": "folder", "fingerprint": "cd", "num_samples": 12, "num_held_out": None,
    "licences": {"CC0": 10, "unknown": 2}, "sources": {}, "for": ["latents"],
}  # fmt: skip


def test_the_command_prints_and_writes_it(world, ldm, tmp_path, capsys):
    out = tmp_path / "bill.json"
    assert ldm("materials", f"model={world.root}", f"out={out}") == 0
    said = capsys.readouterr().out
    assert "from scratch: no pretrained weight in the way of training" in said
    assert "shapes" in said and "64 none needed: drawn by ldm" in said and "clip_vocabulary" in said
    assert read_json(out)["from_scratch"] and read_json(out)["data"][0]["num_samples"] == 64
    assert ldm("materials", f"model={tmp_path}") == 2
    assert "holds no unet" in capsys.readouterr().err


def test_the_table_says_whose_weights_are_in_the_way():
    text = "\n".join(in_lines("runs/a", Bill([PART], [DATA])))
    assert "not from scratch: pretrained weights in the way of training (sd15)" in text
    assert "10 CC0; 2 unknown" in text and "frozen input  sd15" in text and "unknown" in text
    assert max(map(len, text.splitlines())) < 200


def test_report_and_card_show_it(world, ldm, tmp_path):
    page = (world.diffusion / "report.html").read_text()
    assert "Trained from scratch" in page and "64 none needed: drawn by ldm" in page
    assert (
        ldm("export", f"model={world.diffusion}", "format=diffusers", f"out={tmp_path / 'e'}") == 0
    )
    card = (tmp_path / "e" / "README.md").read_text()
    assert "## Materials" in card and "| shapes | 64 | 16 | 64 none needed: drawn by ldm |" in card
