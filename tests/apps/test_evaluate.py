"""`ldm evaluate`: the same numbers by any road, and what it says where something lacks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from ldm.apps.compose import compose
from ldm.apps.evaluate import asked
from ldm.apps.evaluations.measure import RECONSTRUCTIONS, REFERENCE, SAMPLES, Block
from ldm.apps.evaluations.pixels import Pixels, hash_of
from ldm.apps.evaluations.sets.reconstructed import ReconstructedPictures
from ldm.data.images import visible
from ldm.data.shards.reader import ImageShards
from ldm.manifest import read_json
from ldm.metrics.notes import NotesInFiles, NotesInMemory

CHECKOUT = Path(__file__).resolve().parents[2]
DRAWN = "ldm.apps.evaluations.sets.generated.drawn"
METRICS = "metrics=[prompt_accuracy,reconstruction,clip_score_own,fd_own]"
SETTINGS = [METRICS, "num_samples=20", "block=8", "steps=1", "accelerator=cpu"]


@pytest.fixture(scope="module")
def made(world, ldm, tmp_path_factory) -> Path:
    """A directory with samples/, metrics.json and its notes, by one process at one go."""
    out = tmp_path_factory.mktemp("made")
    assert ldm("evaluate", f"model={world.root}", *SETTINGS, f"samples={out / 'samples'}",
               f"out={out / 'metrics.json'}") == 0  # fmt: skip
    return out


@pytest.fixture
def judge(world, ldm, tmp_path, capsys):
    """Judges pictures on the world's towers; what is written, or the sentence of a refusal."""

    def run(*words, metrics="fd_own"):
        file = tmp_path / "judged.json"
        given = [f"metrics={metrics}", f"text_run={world.text_encoder}", "block=8", f"out={file}"]
        code = ldm("evaluate", *given, "accelerator=cpu", *words)
        said = capsys.readouterr()
        assert code in (0, 2), said
        return said.err if code else read_json(file)

    return run


@pytest.fixture(scope="module")
def pngs(world, tmp_path_factory) -> Path:
    """The held-out pictures as a folder of PNG in two sub-folders."""
    root = tmp_path_factory.mktemp("pngs")
    shards = ImageShards(world.shards / "held_out")
    for i in range(len(shards)):
        file = root / ("a" if i < 10 else "b") / f"{i:03d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(visible(shards[i].image)).save(file)
    return root


def values(records):
    return {name: record["value"] for name, record in records.items()}


def test_two_processes_note_what_one_notes(world, made, ldm, tmp_path):
    assert ldm("evaluate", f"model={world.root}", *SETTINGS, f"samples={tmp_path / 'samples'}",
               f"out={tmp_path / 'metrics.json'}", "devices=2") == 0  # fmt: skip
    assert (tmp_path / "metrics.json").read_bytes() == (made / "metrics.json").read_bytes()
    for file in (made / "samples").iterdir():
        assert (tmp_path / "samples" / file.name).read_bytes() == file.read_bytes(), file.name


def test_pictures_in_a_folder_score_as_they_did_in_memory(world, made, ldm, judge, tmp_path):
    in_memory = tmp_path / "metrics.json"
    assert ldm("evaluate", f"model={world.root}", *SETTINGS, f"out={in_memory}") == 0
    assert in_memory.read_bytes() == (made / "metrics.json").read_bytes()
    words = [f"samples={made / 'samples'}", f"data.root={world.shards}"]
    judged = judge(*words, metrics="[prompt_accuracy,clip_score_own,fd_own]")
    expected = read_json(in_memory)
    missing = {"psnr", "ssim", "prompt_accuracy.reconstructed"}  # without an autoencoder
    assert expected.keys() - judged.keys() == missing
    for name, record in judged.items():
        assert record == expected[name], name  # the value, and also the protocol


def test_a_rerun_makes_nothing_and_what_is_lost_only(world, made, ldm, tmp_path, monkeypatch):
    for name in ("samples", "metrics.notes"):  # in this order: notes are younger than pictures
        shutil.copytree(made / name, tmp_path / "made" / name, copy_function=shutil.copyfile)
    words = ["evaluate", f"model={world.root}", *SETTINGS, f"samples={tmp_path / 'made/samples'}",
             f"out={tmp_path / 'made/metrics.json'}"]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(DRAWN, lambda *_, **__: pytest.fail("drawn"))
        patch.setattr(NotesInFiles, "write", lambda *_: pytest.fail("noted"))
        assert ldm(*words) == 0
    with monkeypatch.context() as patch:  # pictures that are there are read
        patch.setattr(DRAWN, lambda *_, **__: pytest.fail("drawn"))
        shutil.rmtree(tmp_path / "made/metrics.notes")
        assert ldm(*words) == 0
    (tmp_path / "made/samples/000009.png").write_bytes(b"half a picture")
    (tmp_path / "made/samples/000017.png").unlink()
    shutil.rmtree(tmp_path / "made/metrics.notes")
    assert ldm(*words) == 0
    assert (tmp_path / "made/metrics.json").read_bytes() == (made / "metrics.json").read_bytes()
    for file in (made / "samples").iterdir():
        there = (tmp_path / "made/samples" / file.name).read_bytes()
        assert there == file.read_bytes(), file.name


def test_changed_pictures_are_noted_again(world, made, ldm, judge, tmp_path, pngs):
    shutil.copytree(made / "samples", tmp_path / "samples")
    file, samples = tmp_path / "samples/000003.png", f"samples={tmp_path / 'samples'}"
    for words in [
        [f"model={world.root}", samples, "num_samples=20", "steps=1"],
        [samples, f"reference={pngs}"],
    ]:
        before = judge(*words)["fd_own-20"]
        assert judge(*words)["fd_own-20"] == before
        whole, times = file.read_bytes(), file.stat()
        Image.new("RGB", (32, 32), "red").save(file)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` of another
        after = judge(*words)["fd_own-20"]
        assert after["protocol"]["samples"] != before["protocol"]["samples"]
        assert after["value"] != before["value"]
        file.write_bytes(whole)
        assert judge(*words)["fd_own-20"] == before
    Image.new("RGB", (16, 16)).save(file)
    said = judge(f"model={world.root}", samples, "num_samples=20", "steps=1")
    assert "000003.png is 16 x 16 px, and the model makes 32 x 32 px" in said


def test_an_interrupted_evaluation_goes_on(world, made, ldm, tmp_path, monkeypatch):
    words = ["evaluate", f"model={world.root}", *SETTINGS, f"out={tmp_path / 'metrics.json'}"]
    write, written = NotesInFiles.write, []

    def interrupted(notes, number, rows):
        if len(written) == 6:
            raise KeyboardInterrupt
        written.append(notes.directory / str(number))
        write(notes, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(NotesInFiles, "write", interrupted)
        assert ldm(*words) == 130
    assert not (tmp_path / "metrics.json").exists()
    again = []

    def noted(notes, number, rows):
        again.append(notes.directory / str(number))
        write(notes, number, rows)

    monkeypatch.setattr(NotesInFiles, "write", noted)
    assert ldm(*words) == 0
    assert (tmp_path / "metrics.json").read_bytes() == (made / "metrics.json").read_bytes()
    assert not {*written} & {*again}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_a_killed_evaluation_goes_on_to_the_same_bits(world, made, tmp_path, devices):
    command = [sys.executable, "-m", "ldm.apps.main", "evaluate", f"model={world.root}", *SETTINGS,
               f"samples={tmp_path / 'samples'}", f"out={tmp_path / 'metrics.json'}",
               f"devices={devices}"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    notes = tmp_path / "metrics.notes"
    for least in (1, 4, 9):
        process = subprocess.Popen(command, env=environment)
        while process.poll() is None and len([*notes.rglob("*.safetensors")]) < least:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=environment).returncode == 0
    assert (tmp_path / "metrics.json").read_bytes() == (made / "metrics.json").read_bytes()
    for file in (made / "samples").iterdir():
        there = (tmp_path / "samples" / file.name).read_bytes()
        assert there == file.read_bytes(), file.name


@pytest.mark.slow
def test_two_commands_may_share_their_notes(world, ldm, tmp_path, made):
    """As those of a sweep: what both make is the same, and whole or absent."""
    words = ["evaluate", f"model={world.root}", *SETTINGS, f"notes={tmp_path / 'notes'}"]
    command = [sys.executable, "-m", "ldm.apps.main", *words, f"out={tmp_path / 'a.json'}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, env=environment) as process:
        assert ldm(*words, f"out={tmp_path / 'b.json'}") == 0
        assert process.wait() == 0
    for name in ("a.json", "b.json"):
        assert (tmp_path / name).read_bytes() == (made / "metrics.json").read_bytes()


def test_a_reference_is_known_by_its_pixels(world, made, judge, pngs):
    samples = f"samples={made / 'samples'}"
    held_out = judge(samples, f"data.root={world.shards}")["fd_own-20"]
    in_shards = judge(samples, f"reference={world.shards / 'held_out'}")["fd_own-20"]
    in_folder = judge(samples, f"reference={pngs}")["fd_own-20"]
    assert held_out == in_shards == in_folder
    training = judge(samples, f"reference={world.shards}")["fd_own-20"]
    assert training["protocol"]["n_real"] == 64
    assert training["protocol"]["reference"] != held_out["protocol"]["reference"]


def test_a_record_tells_the_reference_from_the_samples(made, judge, pngs):
    generated = read_json(made / "samples/samples.json")["protocol"]
    protocol = judge(f"samples={pngs}", f"reference={made / 'samples'}")["fd_own-16"]["protocol"]
    assert not {"steps", "guidance", "model", "seed"} & protocol.keys()
    assert protocol["reference_is"] == {
        **{k: v for k, v in generated.items() if k != "versions"}, "seed": 1_000_000
    }  # fmt: skip
    words = [f"samples={made / 'samples'}", f"reference={pngs}", "block=5"]
    protocol = judge(*words)["fd_own-20"]["protocol"]
    assert "reference_is" not in protocol and protocol["steps"] == 1
    assert (protocol["block"], protocol["judging"]) == (8, {"block": 5, "device": "cpu"})


def test_grey_pictures_are_known_as_in_colour():
    grey = torch.rand(3, 1, 4, 4) * 2 - 1
    hashes = [
        hash_of(NotesInMemory({0: Pixels()(Block(images, ["", "", ""]))}), SAMPLES)
        for images in (grey, grey.expand(-1, 3, -1, -1), grey.flip(0), grey.mT)
    ]
    assert hashes[0] == hashes[1] and len({*hashes}) == 3


def test_a_reference_becomes_a_file_of_statistics(world, made, judge, tmp_path, pngs, capsys):
    file = tmp_path / "reference.safetensors"
    words = ["evaluate", f"reference={pngs}", "metrics=[fd_own]", f"out={file}", "block=8",
             f"text_run={world.text_encoder}", "accelerator=cpu"]  # fmt: skip
    from ldm.apps.main import main

    assert main(words) == 0
    samples = f"samples={made / 'samples'}"
    by_file = judge(samples, f"reference={file}")["fd_own-20"]
    by_pictures = judge(samples, f"reference={pngs}")["fd_own-20"]
    assert by_file["value"] == pytest.approx(by_pictures["value"], rel=1e-9)
    assert by_file["protocol"] == by_pictures["protocol"]
    assert "give samples=DIR, or model=RUN" in judge(f"reference={pngs}")
    assert main([*words, "num_samples=4"]) == 2
    assert "made of all pictures of the reference" in capsys.readouterr().err


def test_an_autoencoder_alone_is_judged_by_its_reconstructions(world, made, judge, pngs):
    metrics = "[reconstruction,psnr]"
    alone = judge(f"model={world.autoencoder}", metrics=metrics)
    assert values(alone) == {k: v for k, v in values(read_json(made / "metrics.json")).items()
                             if k in ("psnr", "ssim")}  # fmt: skip
    assert alone["psnr"]["protocol"]["n"] == 16
    # A folder of the very pictures is the same reference.
    assert judge(f"model={world.autoencoder}", f"reference={pngs}", metrics=metrics) == alone
    said = judge(f"model={world.autoencoder}", metrics="fd_own")
    assert "is an autoencoder alone, which makes no pictures" in said


def test_originals_must_lie_in_range():
    class TooBright:
        def images(self, rows):
            return torch.full((len(rows), 3, 8, 8), 2.0)

    pictures = ReconstructedPictures(TooBright(), 12, None, {})
    with pytest.raises(ValueError, match=r"among 8 to 11 of the reference reaches 2; pictures"):
        pictures.block(range(8, 12))


def test_prompts_of_a_file(world, judge, tmp_path):
    lines = ["a large red circle on a navy background", "a small blue square on a pink background"]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    words = [f"model={world.root}", "steps=1", f"prompts={tmp_path / 'prompts.txt'}"]
    written = judge(*words, f"samples={tmp_path / 's'}", metrics="prompt_accuracy")
    assert written["prompt_accuracy"]["protocol"]["n"] == 2
    rows = read_json(tmp_path / "s/samples.json")["pictures"]
    assert [row["prompt"] for row in rows] == lines
    judge(*words, "num_samples=3", f"samples={tmp_path / 't'}", metrics="prompt_accuracy")
    rows = read_json(tmp_path / "t/samples.json")["pictures"]
    assert [row["prompt"] for row in rows] == [*lines, lines[0]]
    for name in ("samples.json", "grid.png"):  # now somebody's pictures
        (tmp_path / "s" / name).unlink()
    judged = judge(f"samples={tmp_path / 's'}", words[2], metrics="prompt_accuracy")
    assert values(judged) == {k: v for k, v in values(written).items() if k in judged}
    (tmp_path / "prompts.txt").write_text("\n".join([*lines, lines[0], ""]))
    assert judge(f"samples={tmp_path / 's'}", words[2], "num_samples=2",
                 metrics="prompt_accuracy") == judged  # fmt: skip
    said = judge(f"samples={tmp_path / 's'}", words[2], metrics="prompt_accuracy")
    assert "has 3 lines, and there are 2 pictures to judge" in said and "num_samples=2" in said
    (tmp_path / "prompts.txt").write_text(lines[0])
    said = judge(f"samples={tmp_path / 's'}", words[2], metrics="prompt_accuracy")
    assert "has 1 lines, and there are 2 pictures to judge" in said
    assert "samples have no captions; give prompts=FILE" in judge(
        f"samples={tmp_path / 's'}", metrics="prompt_accuracy"
    )
    for i, line in enumerate(lines):
        (tmp_path / f"s/{i:06d}.txt").write_text(line + "\n")
    assert judge(f"samples={tmp_path / 's'}", metrics="prompt_accuracy") == judged


def test_compressed_samples_are_refused_or_recorded(world, made, judge, pngs, tmp_path):
    for i in range(16):
        with Image.open(made / f"samples/{i:06d}.png") as image:
            image.save(tmp_path / f"{i}.png", format="JPEG")  # by its content, not by its name
    words = [f"samples={tmp_path}", f"reference={pngs}"]
    assert "0.png is JPEG, whose compression changes scores" in judge(*words)
    found = judge(*words, "allow_jpeg=true")["fd_own-16"]
    assert found["protocol"]["compressed"] == ["JPEG"]
    found = judge(f"samples={pngs}", f"reference={tmp_path}")["fd_own-16"]
    assert found["protocol"]["reference_is"] == {"compressed": ["JPEG"]}
    assert "compressed" not in found["protocol"]
    found = judge(f"model={world.autoencoder}", words[1], metrics="psnr")["psnr"]
    assert "originals" not in found["protocol"]
    found = judge(f"model={world.autoencoder}", f"reference={tmp_path}", metrics="psnr")["psnr"]
    assert found["protocol"]["originals"] == {"compressed": ["JPEG"]}


def test_pictures_of_other_sizes_are_named(made, judge, pngs, tmp_path):
    shutil.copytree(pngs, tmp_path / "mixed")
    Image.new("RGB", (24, 32)).save(tmp_path / "mixed/b/012.png")
    samples = f"samples={made / 'samples'}"
    said = judge(samples, f"reference={tmp_path / 'mixed'}")
    assert "b/012.png is 32 x 24 px" in said and "a/000.png is 32 x 32 px" in said
    (tmp_path / "large").mkdir()
    for i in range(16):
        Image.new("RGB", (64, 64)).save(tmp_path / f"large/{i}.png")
    said = judge(samples, f"reference={tmp_path / 'large'}")
    assert "samples are 32 x 32 px" in said and "reference pictures are 64 x 64 px" in said
    assert "data.size_px=32 out=SHARDS, then reference=SHARDS" in said


def test_pictures_of_data_root_are_as_the_model_saw_them(world, ldm, judge, tmp_path):
    """64 px pictures: cropped for a model of 32 px, which is recorded; else they do not fit."""
    for i in range(20):
        (tmp_path / "large").mkdir(exist_ok=True)
        Image.effect_noise((64, 64), 50 + i).convert("RGB").save(tmp_path / f"large/{i}.png")
    shards = tmp_path / "shards"
    assert ldm("prepare", "data=folder", f"data.path={tmp_path / 'large'}", "data.captions=none",
               "data.size_px=64", "data.held_out_fraction=0.2", f"out={shards}") == 0  # fmt: skip
    words = [f"model={world.root}", "steps=1", "num_samples=18", f"data.root={shards}"]
    words += [f"prompts={tmp_path / 'prompts.txt'}"]
    (tmp_path / "prompts.txt").write_text("a dog\n\n")
    found = judge(*words, metrics="kid_own")["kid_own"]["protocol"]
    assert found["reference_is"] == {"crop": "middle square, Lanczos to 32 px"}
    said = judge(*words, f"reference={shards}", metrics="kid_own")
    assert "samples are 32 x 32 px" in said and "reference pictures are 64 x 64 px" in said
    kept = tmp_path / "kept"
    judge(*words, f"samples={kept}", metrics="kid_own")
    prompts = [row["prompt"] for row in read_json(kept / "samples.json")["pictures"]]
    assert prompts == ["a dog", ""] * 9
    said = judge(f"samples={kept}", f"data.root={shards}", f"reference={kept}",
                 metrics="memorisation")  # fmt: skip
    assert "training pictures are 64 x 64 px" in said and "then data.root=SHARDS" in said


def test_captions_of_others_are_said(judge, world, pngs, tmp_path, capsys):
    shutil.copytree(pngs, tmp_path / "samples")
    samples, reference = f"samples={tmp_path / 'samples'}", f"reference={world.shards / 'held_out'}"
    found = judge(samples, reference, metrics="clip_score_own")
    assert found["clip_score_own"]["protocol"]["captions_from"] == "reference"
    assert "captions_from" not in found["clip_score_own.real"]["protocol"]
    assert found["clip_score_own"]["value"] == found["clip_score_own.real"]["value"]
    (tmp_path / "prompts.txt").write_text("a dog\n")
    said = judge(samples, reference, f"prompts={tmp_path / 'prompts.txt'}",
                 metrics="clip_score_own")  # fmt: skip
    assert "has 1 lines, and there are 16 pictures to judge" in said


def test_files_that_are_damaged_or_missing_are_named(world, made, judge, pngs, tmp_path):
    shutil.copytree(made / "samples", tmp_path / "samples")
    whole = (tmp_path / "samples/000003.png").read_bytes()
    words = [f"samples={tmp_path / 'samples'}", f"reference={pngs}"]
    (tmp_path / "samples/000003.png").write_bytes(whole[: len(whole) // 2])
    assert "000003.png: truncated or damaged picture" in judge(*words)
    (tmp_path / "samples/000003.png").write_bytes(b"no picture")
    assert "000003.png is damaged, or no picture" in judge(*words)
    (tmp_path / "samples/000003.png").unlink()
    assert "000003.png is missing, which samples.json beside it names" in judge(*words)


def test_what_is_not_there_is_said(world, made, judge, pngs, tmp_path):
    samples = f"samples={made / 'samples'}"
    for words, sentence in {
        (samples, "num_samples=21"): "samples holds 20 pictures, and num_samples=21",
        (f"samples={world.shards}", "num_samples=65"): "holds 64 pictures, and num_samples=65",
        (samples,): "give reference=DIR, SHARDS or a file of statistics, or data.root=SHARDS",
        (f"samples={tmp_path}", f"reference={pngs}"): "holds no pictures",
        (f"samples={tmp_path / 'x'}", f"reference={pngs}"): "x does not exist",
        (samples, f"reference={tmp_path / 'x.npz'}"): "x.npz: there is no such file",
        (samples, f"reference={pngs}", "num_samples=4"): "4 generated pictures are too few",
        (f"model={world.root}", "checkpoint=3"): "has no models/step_000000003. There are: none",
    }.items():
        assert sentence in judge(*words), words
    metrics = "[reconstruction,fd_own]"
    assert "need an autoencoder: give model=RUN" in judge(samples, f"reference={pngs}",
                                                          metrics=metrics)  # fmt: skip
    assert [*tmp_path.iterdir()] == []


def test_a_model_on_the_way_is_found_by_its_step(world, ldm, judge, tmp_path):
    run = tmp_path / "run"
    assert ldm(*world.train("diffusion", run, "models_every=2")) == 0
    words = ["steps=1", "num_samples=4"]
    found = judge(f"model={run}", "checkpoint=2", *words, metrics="prompt_accuracy")
    same = judge(f"model={run / 'models/step_000000002'}", *words, metrics="prompt_accuracy")
    last = judge(f"model={run}", *words, metrics="prompt_accuracy")
    assert found == same != last
    said = judge(f"model={run}", "checkpoint=3", metrics="prompt_accuracy")
    assert "There are: 2" in said


def test_shards_that_are_others_now_are_not_taken(world, ldm, judge, tmp_path):
    """The world's run names its shards by path and fingerprint."""
    shutil.copytree(world.root, tmp_path / "w")
    manifest = tmp_path / "w/shards/manifest.json"
    changed = json.loads(manifest.read_text()) | {"fingerprint": "0123456789abcdef"}
    manifest.write_text(json.dumps(changed))
    said = judge(f"model={tmp_path / 'w'}", metrics="reconstruction")
    assert "holds other shards than" in said and "data.root=SHARDS" in said


def test_the_reference_of_a_model_is_as_large_as_its_samples(world):
    def counts(*words):
        config = compose("evaluate", [f"model={world.root}", "metrics=reconstruction", *words])
        return [asked(config)[0].count(name) for name in (REFERENCE, RECONSTRUCTIONS)]

    assert (counts(), counts("num_samples=12")) == ([16, 16], [12, 12])
    given = f"reference={world.shards}"
    assert (counts(given), counts(given, "num_samples=12")) == ([64, 64], [64, 12])
