"""The report is one file that shows what is there, leaves out what is not, and trusts no text."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from ldm.apps.evaluations.measure import SAMPLES, Block
from ldm.apps.evaluations.pixels import Pixels, hash_of
from ldm.apps.report import charts, curves, numbers, pictures
from ldm.apps.report.page import write_report
from ldm.apps.sample_folder import read_sample
from ldm.callbacks.sample_grid import save_grid
from ldm.manifest import Manifest, write_json, write_manifest
from ldm.metrics.notes import NotesInFiles, Rows, blocks_of

HOSTILE = '</figcaption><script>alert("x")</script> & <b>'
VOID = {"meta", "img", "br", "path"}


class Page(HTMLParser):
    """Counts elements, keeps their attributes and the visible text; open ones must be closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str, name: str = "class", value: str = "") -> int:
        return sum(t == tag and value in (a.get(name) or "") for t, a in self.elements)


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 1.8 - 1


def make_run(run: Path, stage: str, rows: list[dict[str, float]]) -> Manifest:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"stage: {stage}\nlr: 0.002\nnote: <i>& s3://me:pw@b\n")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (10, 20):
        if stage != "text_encoder":
            save_grid(images(16), run / "samples" / f"step_{step:09d}.png", 8)
    facts = {"step": 20, "val/psnr": 30.25, "val/loss_bin_0": 0.5}
    shards = {"shards": {"path": "../shards", "fingerprint": "feedfacefeedface"}}
    return write_manifest(run, kind=f"run_{stage}", settings={}, inputs=shards, facts=facts)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    root = tmp_path / "my <recipe>"
    make_run(
        root / "text_encoder",
        "text_encoder",
        [{"step": 10, "train/loss": 2.0}, {"step": 20, "val/loss": 1.0, "val/retrieval": 0.75}],
    )
    make_run(
        root / "autoencoder",
        "autoencoder",
        [{"step": s, "train/loss": -s, "train/psnr": s, "odd": 1.0} for s in (10.0, 20.0)],
    )
    make_run(
        root / "diffusion",
        "diffusion",
        [
            {"step": 10, "train/loss": float("nan")},
            {"step": 20, "train/loss": 0.2, **{f"val/loss_bin_{i}": 0.1 + i for i in range(8)}},
        ],
    )
    write_manifest(
        root / "shards", kind="shards", settings={"size_px": 12}, facts={"num_samples": 4096}
    )
    samples = root / "samples"
    save_grid(images(40), samples / "grid.png")
    for i, image in enumerate(images(40)):
        save_grid(image[None], samples / f"{i:06d}.png")
    rows = [{"file": f"{i:06d}.png", "prompt": HOSTILE, "seed": i} for i in range(40)]
    write_json(samples / "samples.json", {"protocol": {}, "pictures": rows})
    protocol = {"num_samples": 256, "sampler": "dpmpp_2m", "versions": {"torch": "2.11.0"}}
    write_json(
        root / "metrics.json",
        {
            "prompt_accuracy": {"value": 0.953, "protocol": protocol},
            "psnr": {"value": 30.25, "protocol": {}},
        },
    )
    (root / "timings.json").write_text('{"cache": 1.0, "prepare": 3.2, "train_autoencoder": 88.0}')
    return root


def test_a_recipe_has_every_part(recipe: Path) -> None:
    page = Page(write_report(recipe))
    assert not page.open
    assert page.count("figcaption") > 32 and "The first 32 of 40" in page.text
    for part in (
        "my <recipe>", "4,096 training pictures of 12 px", "1 min 32 s from start to end",
        "95.3 %", "256 samples", "versions.torch", "Text encoder", "Reconstructions",
        "Retrieval of the right caption", "Held-out loss by timestep", "least noise",
        "Over training", "step 10", "original", "Train autoencoder", "Made from",
        "feedfacefeedface", "note: <i>& s3://***@b", "odd", HOSTILE, "ldm 0.1.0",
    ):  # fmt: skip
        assert part in page.text, part
    assert page.text.index("Prepare") < page.text.index("Train auto") < page.text.index("Cache")
    assert page.count("div", value="pair") == 8 + 1  # the pairs and what holds them
    assert not list(recipe.glob(".*"))  # no temporary file is left


def test_nothing_is_loaded_and_no_text_becomes_markup(recipe: Path) -> None:
    page = Page(write_report(recipe))
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", page.source))
    for _, attributes in page.elements:
        assert not {"href", "srcset", "onload", "onerror"} & attributes.keys()
        source = attributes.get("src")
        assert source is None or source.startswith("data:image/")
    assert page.count("script") == 1 and page.count("link") == 0
    policy = next(a["content"] for t, a in page.elements if "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy


def test_it_is_a_function_of_the_directory(recipe: Path) -> None:
    first = write_report(recipe).read_bytes()
    assert write_report(recipe).read_bytes() == first


@pytest.mark.parametrize("stage", ["text_encoder", "autoencoder", "diffusion"])
def test_a_run_alone(recipe: Path, stage: str) -> None:
    page = Page(write_report(recipe / stage))
    assert not page.open
    assert "30.25 dB" in page.text and "0.002" in page.text
    assert ("Samples at step 20" in page.text) is (stage == "diffusion")
    assert ("Reconstructions" in page.text) is (stage == "autoencoder")
    assert "0.5" not in page.text.split("Training")[0]  # bins are curves, not headlines


LOSSES = {"loss": 0.05, "linear_loss": 0.4, "zero_loss": 1.0}


def test_a_denoiser_is_held_against_predictors_that_learned_nothing(tmp_path: Path) -> None:
    bins = {f"val/{name}_bin_{i}": v for name, v in LOSSES.items() for i in range(8)}
    last = bins | {f"val/{name}": value for name, value in LOSSES.items()}
    make_run(tmp_path / "run", "diffusion", [{"step": 10, "train/loss": 0.9}, {"step": 20} | last])
    page = Page(write_report(tmp_path / "run"))
    for part in (
        "8.0 times below a linear predictor", "Is it learning?", "1 of 8", "8 of 8", "all",
        "answering zero", "Held-out loss by timestep",
    ):  # fmt: skip
        assert part in page.text, part
    assert page.count("path", value="curve level") == 2  # dashed, and nowhere else
    assert "linear loss bin" not in page.text.lower()
    assert not page.open


def test_a_run_that_was_not_validated_says_so(tmp_path: Path) -> None:
    for stage, words in (("diffusion", "Not validated yet"), ("autoencoder", "never validated")):
        run = tmp_path / stage
        run.mkdir()
        (run / "config.yaml").write_text(f"stage: {stage}\n")
        (run / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n')
        page = Page(write_report(run))
        assert words in page.text and "not finished" in page.text and not page.open
        for empty in ("Is it learning", "Latents", "Over training", "nan"):
            assert empty not in page.text.split('"use strict"')[0]


def test_the_latents_of_an_autoencoder_have_numbers_and_pictures(tmp_path: Path) -> None:
    health = {
        "psnr": 30.0, "dead_channels": 1.0, "outlier_share": 0.001, "kl_per_dimension": 2.0,
        "posterior_sigma": 0.1, "latent_std_0": 1.5, "latent_std_1": 0.002, "fits_half": 0.0,
        "decoder_peak_mid": 20.0, "decoder_peak_up_0": 17_000.0,
    }  # fmt: skip
    row = {"step": 20.0} | {f"val/{name}": value for name, value in health.items()}
    make_run(tmp_path / "run", "autoencoder", [row])
    save_grid(images(32), tmp_path / "run" / "samples" / "latents" / "step_000000020.png", 4)
    page = Page(write_report(tmp_path / "run"))
    for part in (
        "Not ready for stage 2 because", "1 of its latent channels", "1.5, 0.002", "0.1 %",
        "2 nats = 2.885 bits", "17,000 of 65,504: decode in fp32", "Spread of each latent channel",
        "decoded noise: expected to be noise before a prior is learned",
    ):  # fmt: skip
        assert part in page.text, part
    assert page.count("img", "alt", "decoded noise") == page.count("img", "alt", "0.3 std") == 8
    assert not page.open
    ready = row | {"val/dead_channels": 0.0}
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(ready) + "\n")
    assert "Ready for stage 2." in Page(write_report(tmp_path / "run")).text


def test_a_strip_says_of_how_many_validations_it_is(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "diffusion", [{"step": 20, "train/loss": 1.0}])
    assert "All 2 validations" in Page(write_report(tmp_path / "run")).text
    for step in range(30, 230, 10):
        save_grid(images(16), tmp_path / "run" / "samples" / f"step_{step:09d}.png", 8)
    write_json(tmp_path / "run" / "samples" / "prompts.json", [HOSTILE] * 16)
    page = Page(write_report(tmp_path / "run"))
    assert page.text.count(HOSTILE) == 16 + 12  # under the newest, and under the strip
    assert "12 of the 22 validations" in page.text
    assert "step 10" in page.text and "step 220" in page.text


def test_missing_parts_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "autoencoder" / "samples").mkdir(parents=True)
    page = Page(write_report(tmp_path))
    assert "Autoencoder" in page.text and "not finished" in page.text
    for part in ("Samples", "Metrics", "Time", "Made from", "Reconstructions"):
        assert part not in page.text.split("Autoencoder")[1].split('"use strict"')[0]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n{"st')
    (tmp_path / "autoencoder" / "samples" / "step_000000001.png").write_bytes(b"half a pic")
    assert not Page(write_report(tmp_path)).open


def test_an_interrupted_run_reports_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n{"st')
    page = Page(write_report(tmp_path))
    assert "not finished" in page.text and page.count("figure", value="chart") == 1


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a run"):
        write_report(tmp_path)


def test_sheets_are_cut_where_they_were_pasted(tmp_path: Path) -> None:
    save_grid(images(13), tmp_path / "sheet.png", 5)
    sheet = Image.open(tmp_path / "sheet.png").convert("RGB")
    assert pictures.side_px(sheet) == 12
    assert [p.size for p in pictures.cut(sheet, 12)] == [(12, 12)] * 13
    assert pictures.side_px(sheet.crop((0, 0, 12, 12))) == 12
    assert pictures.side_px(sheet.crop((0, 0, 33, 20))) is None
    assert pictures.cut(sheet, None) == [sheet]


def test_moments_are_spread_over_training() -> None:
    assert pictures.spread([1, 2], 3) == [1, 2]
    assert pictures.spread(list(range(0, 101, 10)), 3) == [0, 50, 100]


def test_large_pictures_stay_small_files() -> None:
    noise = (torch.rand(512, 512, 3, generator=torch.Generator().manual_seed(1)) * 255).byte()
    text = pictures.img(Image.fromarray(noise.numpy()), "<x>", wide_px=128, narrow_px=96)
    assert "image/jpeg" in text and 'width="256"' in text and "&lt;x&gt;" in text
    assert len(text) < 120_000
    small = pictures.img(Image.new("RGB", (32, 32)), "", wide_px=128, narrow_px=108)
    assert "image/png" in small and "--wide:128px;--narrow:96px" in small and "pixels" in small


def test_charts_take_a_logarithm_only_where_there_is_one() -> None:
    def chart(*values: float, log: bool = True) -> str:
        points = [(float(i), value) for i, value in enumerate(values)]
        line = charts.Curve("a <b>", points, "red", marked=True)
        return charts.line_chart("Loss", "dB", [line], log=log, ordered=False)

    assert "logarithmic" in chart(1.0, 1000.0) and "a &lt;b&gt;" in chart(1.0)
    for values in ((1.0, 2.0), (-1.0, 1000.0), (0.0, 0.0)):
        assert "logarithmic" not in chart(*values) and "nan" not in chart(*values)
    assert chart(float("nan")) == chart() == ""
    assert len(chart(*map(float, range(1, 50_000)))) < 20_000


def test_every_logged_number_has_a_curve() -> None:
    rows = [{"step": 1, "train/psnr": 3.0, "val/psnr": 4.0, "mine": 2.0, "images_seen": 9}]
    main, more = curves.charts(rows)
    assert len(main) == len(more) == 1
    assert "training" in main[0] and "held out" in main[0] and "Mine" in more[0]


@pytest.mark.parametrize(
    "low, high, expected",
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [3]), (-5, 12, [-5, 0, 5, 10])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    "values, expected",
    [
        ((1e-5, 1.002e-5), ["1e-05", "1.0005e-05", "1.001e-05"]),
        ((0.34375, 0.34379), ["0.34375", "0.34376", "0.34377", "0.34378", "0.34379"]),
        ((1_000_000, 1_000_004), ["1M", "1.000001M", "1.000004M"]),
        ((10_000, 10_004), ["10k", "10.004k"]),
        ((5000, 9000), ["5,000", "9,000"]),
        ((0.0, 0.9), ["0", "0.2", "0.8"]),
    ],
)
def test_the_digits_of_ticks_tell_them_apart(values, expected) -> None:
    points = [(float(i), value) for i, value in enumerate(values)]
    line = charts.Curve("a", points, "red", marked=True)
    chart = charts.line_chart("Loss", "", [line], log=False, ordered=False)
    texts = re.findall(r'text-anchor="end">([^<]*)</text>', chart)
    assert len({*texts}) == len(texts) > 3 and {*expected} <= {*texts}


def test_ticks_of_a_logarithmic_chart_have_a_digit_each() -> None:
    line = charts.Curve("a", [(0.0, 3e-6), (1.0, 2e4)], "red", marked=True)
    chart = charts.line_chart("Loss", "", [line], log=True, ordered=False)
    texts = re.findall(r'text-anchor="end">([^<]*)</text>', chart)
    assert texts == ["1e-06", "0.0001", "0.01", "1", "100", "10k"]


def test_numbers_with_a_number_at_their_end_share_a_chart() -> None:
    rows = [{"step": 1} | {f"val/latent_std_{i}": 1.0 + i for i in (0, 2, 10)}]
    _, more = curves.charts(rows)
    assert len(more) == 1 and "Spread of each latent channel" in more[0]
    hover = html.unescape(more[0])
    assert hover.index('["0",') < hover.index('["2",') < hover.index('["10",')


def test_numbers_are_rounded_and_carry_units() -> None:
    assert numbers.metric("prompt_accuracy.color", 0.95312) == "95.3 %"
    assert numbers.metric("val/psnr", 30.3149) == "30.31 dB"
    assert numbers.metric("val/kl_per_dimension", 1.23456) == "1.235 nats"
    assert numbers.metric("val/codebook_usage", 0.5) == "50.0 %"
    assert numbers.metric("fd_own", None) == "None" and numbers.metric("x", float("nan")) == "nan"
    assert [numbers.number(v) for v in (12345.6, 0.042131, 1.23e-6, 0, 9.9996)] == [
        "12,346", "0.04213", "1.2e-06", "0", "10",
    ]  # fmt: skip
    assert [numbers.duration(s) for s in (0.84, 42, 59.7, 185, 7800, 1e6)] == [
        "0.8 s", "42 s", "1 min 00 s", "3 min 05 s", "2 h 10 min", "11.6 days",
    ]  # fmt: skip
    assert [numbers.size_in_words(b) for b in (512, 2.5e6, 13.75e9)] == [
        "0.5 kB", "2.5 MB", "13.8 GB",
    ]  # fmt: skip
    assert numbers.title("val/prompt_accuracy.color") == "Prompt accuracy (color)"


def test_numbers_that_count_for_nothing_are_struck_through_and_no_headline(recipe: Path) -> None:
    records = json.loads((recipe / "metrics.json").read_text())
    records["FID-256"] = {"value": 7.5, "protocol": {}, "valid": False, "why": "w.pth is <other>"}
    write_json(recipe / "metrics.json", records)
    page = Page(write_report(recipe))
    assert "not valid: w.pth is <other>" in page.text and "<s>7.5</s>" in page.source
    assert "FID-256" not in page.text.split("Evaluation")[0]
    assert not page.open


def note_scores(recipe: Path, cosines: torch.Tensor) -> None:
    """The notes and the record of an evaluation in which picture i fits its prompt by cosine i."""
    angles = torch.arccos(cosines.double())
    image = torch.stack([angles.cos(), angles.sin()], 1)
    text = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(len(cosines), 2)
    take_notes(recipe, "clip-1", {"image": image, "text": text})
    note_record(recipe, "clip_score", float(cosines.mean()))


def take_notes(recipe: Path, observer: str, rows: Rows) -> None:
    """Notes of the samples in blocks of 16."""
    count = len(next(iter(rows.values())))
    notes = NotesInFiles(recipe / "metrics.notes" / "samples-1" / observer, count=count, block=16)
    for i, block in enumerate(blocks_of(count, 16)):
        notes.write(i, {name: value[block.start : block.stop] for name, value in rows.items()})


def note_record(recipe: Path, name: str, value: float) -> None:
    """A record of the very pictures in samples/, and what is noted of their pixels."""
    files = sorted((recipe / "samples").glob("[0-9]*.png"))
    block = Block(torch.stack([read_sample(file) for file in files]), [""] * len(files))
    take_notes(recipe, "pixels-1", Pixels()(block))
    digests = NotesInFiles(
        recipe / "metrics.notes" / "samples-1" / "pixels-1", count=len(files), block=16
    )
    records = json.loads((recipe / "metrics.json").read_text())
    records[name] = {"value": value, "protocol": {"samples": hash_of(digests, SAMPLES)}}
    write_json(recipe / "metrics.json", records)


def test_best_and_worst_samples_have_picture_prompt_and_cosine(recipe: Path) -> None:
    note_scores(recipe, torch.linspace(-0.5, 0.9, 40))
    page = Page(write_report(recipe))
    assert "Best and worst samples: CLIP score" in page.text and "of 40 samples" in page.text
    best, worst = (page.text.index(number) for number in ("0.900", "-0.500"))
    assert best < page.text.index("0.649") < worst < page.text.index("-0.249")
    assert "0.613" not in page.text  # the ninth
    section = page.text.split("Best and worst")[1].split("Text encoder")[0]
    assert section.count(HOSTILE) == 16 and not page.open


def test_only_the_pictures_that_were_judged_are_shown(recipe: Path) -> None:
    note_scores(recipe, torch.linspace(0.1, 0.9, 40))
    best = recipe / "samples" / "000039.png"
    save_grid(images(1)[..., ::2, :], best)  # another one since
    page = Page(write_report(recipe))
    assert "0.879" in page.text and "0.900" not in page.text
    for file in (recipe / "samples").glob("*.png"):
        file.unlink()
    page = Page(write_report(recipe))
    assert "were not kept" in page.text and "samples=DIR" in page.text and "0.879" not in page.text


def test_notes_of_another_evaluation_are_left_alone(recipe: Path) -> None:
    note_scores(recipe, torch.linspace(0.1, 0.9, 40))
    whole = json.loads((recipe / "metrics.json").read_text())
    for change in ({"value": 0.3}, {"protocol": {"samples": "other"}}, {"protocol": {}}):
        other = whole | {"clip_score": whole["clip_score"] | change}
        write_json(recipe / "metrics.json", other)
        assert "Best and worst" not in Page(write_report(recipe)).text, change
    write_json(recipe / "metrics.json", whole)
    for file in (recipe / "metrics.notes").rglob("000001.safetensors"):
        file.write_bytes(b"half a file")
    assert "Best and worst" not in Page(write_report(recipe)).text


def test_nearest_training_pictures_stand_beside_their_samples(world, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe"
    (recipe / "diffusion").mkdir(parents=True)
    (recipe / "shards").symlink_to(world.shards)
    rows = [{"file": f"{i:06d}.png", "prompt": f"prompt {i}", "seed": i} for i in range(3)]
    for row, image in zip(rows, images(3), strict=True):
        save_grid(image[None], recipe / "samples" / row["file"])
    write_json(recipe / "samples" / "samples.json", {"protocol": {}, "pictures": rows})
    write_json(recipe / "metrics.json", {})
    note_record(recipe, "memorisation.copies", 0.1)
    near = [{"sample": 2, "training": 63, "distance": 0.0125}]
    near += [{"sample": 0, "training": 64, "distance": 0.5}]  # beyond the shards: not shown
    near += [{"sample": 3, "training": 0, "distance": 0.5}]  # beyond the samples
    write_json(recipe / "metrics.notes" / "nearest.json", near)
    page = Page(write_report(recipe))
    assert "Nearest training pictures" in page.text and "distance 0.0125" in page.text
    assert page.count("img", "alt", "training picture") == 1
    assert page.count("img", "alt", "sample: prompt 2") == 1 and "distance 0.5" not in page.text
    (recipe / "metrics.notes" / "nearest.json").write_text('[{"sam')
    assert "Nearest training" not in Page(write_report(recipe)).text
    (recipe / "shards").unlink()
    assert "Nearest training" not in Page(write_report(recipe)).text


def test_evaluations_during_training_have_curves_and_protocols(tmp_path: Path) -> None:
    rows = [
        {"step": s, "val/fd_own-128": 9.0 / s, "val/clip_score_own-128": 0.1 * s,
         "val/clip_score_own.real-128": 0.9, "val/kid_own_std-128": 0.1, "val/loss": 1.0}
        for s in (1.0, 2.0)
    ]  # fmt: skip
    run = tmp_path / "run"
    make_run(run, "diffusion", rows)
    latest = {n.removeprefix("val/"): v for n, v in rows[-1].items() if "-128" in n}
    protocol = {"n": 128, "guidance": 3.0}
    records = {n: {"value": v, "protocol": protocol, "step": 2} for n, v in latest.items()}
    write_json(run / "evaluation.json", records)
    page = Page(write_report(run))
    assert "Evaluation during training" in page.text and "the numbers of step 2" in page.text
    section = page.text.split("Evaluation during training")[1].split("all settings")[0]
    assert "Fréchet distance, own features, 128 pictures" in section and "real pictures" in section
    assert page.source.count('data-chart="') == 1 + 2  # the loss; no chart of a spread
    assert page.count("path", value="curve level") == 1 and not page.open


def test_damaged_numbers_of_a_sweep_are_no_error(recipe: Path) -> None:
    for text in ('{"jobs": [], "finished": {}}', '{"jobs": ['):
        (recipe / "sweep").mkdir(exist_ok=True)
        (recipe / "sweep" / "sweep.json").write_text(text)
        assert "Sweep" not in Page(write_report(recipe)).text


def test_names_say_how_many_pictures_they_are_of() -> None:
    assert numbers.title("FID-256") == "FID-256" and numbers.title("val/rFID-64").endswith("FID-64")
    assert numbers.title("val/fd_own-128") == "Fréchet distance, own features, 128 pictures"
    assert numbers.title("clip_score.2.5x") == "CLIP score (2.5x)"
    assert numbers.title("memorisation.copies-64").endswith(
        "copies of training pictures, 64 pictures"
    )
    assert numbers.title("prompt_accuracy.x_y") == "Prompt accuracy (x y)"
    assert numbers.title("kid_own") == "Kernel distance, own features"
    assert numbers.is_headline("val/kid_own-128") and not numbers.is_headline("kid_std-128")
    assert not numbers.is_headline("clip_score_own.real-128")
    assert numbers.is_frechet("fd_dinov2") and not numbers.is_frechet("rFID-64")


def test_the_best_of_a_metric_is_its_least_or_its_most() -> None:
    values = [2.0, float("nan"), 1.0, 3.0]
    for name in ("FID-256", "rFID", "fd_own", "kid_own-128", "lpips"):
        assert numbers.best(name, values) == 1.0, name
    for name in ("clip_score", "precision", "prompt_accuracy", "ssim", "inception_score"):
        assert numbers.best(name, values) == 3.0, name
    assert numbers.best("memorisation.ratio", values) is None
    assert numbers.best("fd_own", []) is None is numbers.best("psnr", [])
