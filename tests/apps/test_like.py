"""`ldm sample like=`: a picture says itself how it is made again."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.apps import sample_folder
from ldm.apps.main import main
from ldm.manifest import file_hash, read_json

PROMPT = 'prompt=a large red circle, (bold) ${x} = "1"'


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory but for a photograph and its mask."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[8:24, 15:] = 255
    Image.fromarray(noise).save("my photo (1), a=b.png")
    Image.fromarray(mask).save("mask.png")
    return tmp_path


def like(file: str, *words: Any) -> Path:
    assert main(["sample", f"like={file}", *map(str, words)]) == 0
    given = dict(str(word).split("=", 1) for word in words)
    return Path(given.get("out", f"like_{Path(file).stem}"))


IMAGE = ["image=my photo (1), a=b.png"]
MODES = {
    "text to image": ["sampler=ddim", "sampler.eta=0.5", "guidance_interval=[0.1,4]"],
    "image to image": [*IMAGE, "strength=0.6", "sampler=dpmpp_2m_sde", "guidance_rescale=0.3"],
    "inpainting": [*IMAGE, "mask=mask.png", "sampler=heun", "spacing=karras"],
    "the way": ["prompt_to=a 'small' ${y}, [blue] square", "seed_to=5", "sampler=euler_ancestral"],
    "another shape": [*IMAGE, "size=[32,48]", "strength=0.5"],
    "prompts": ["negative=a ${z}, b", "spacing=diffusers", "sampler=pndm", "accelerator=cpu"],
}


@pytest.mark.parametrize("mode", MODES)
def test_picture_seven_of_sixteen_comes_out_the_same_to_the_bit(mode, world, ldm, here):
    words = ["sample", f"model={world.root}", PROMPT, "num=16", "block=16", "steps=4", "seed=3"]
    assert ldm(*words, *MODES[mode], "out=all") == 0
    again = like("all/000007.png")
    assert sorted(p.name for p in again.iterdir()) == ["000000.png", "grid.png", "samples.json"]
    assert (again / "000000.png").read_bytes() == Path("all/000007.png").read_bytes()
    # In another block, within one step of 255.
    other = pixels(like("all/000007.png", "block=3", "out=other") / "000000.png")
    assert abs(other - pixels(Path("all/000007.png"))).max() <= 1
    # And like what was made like it.
    assert (like(str(again / "000000.png"), "out=third") / "000000.png").read_bytes() == (
        again / "000000.png"
    ).read_bytes()


def test_a_later_block_and_a_prompt_of_a_file(world, ldm, here):
    Path("prompts.txt").write_text("a red circle\na ${blue} square\na cross\n")
    words = ["sample", f"model={world.root}", "prompts=prompts.txt", "num=2", "block=4", "steps=3"]
    assert ldm(*words, "out=all") == 0
    like("all/000005.png")
    assert (pixels(Path("like_000005/000000.png")) == pixels(Path("all/000005.png"))).all()
    row = read_json("like_000005/samples.json")["pictures"][0]
    assert row == {"file": "000000.png", "position": 1, "prompt": "a cross", "seed": 5}


def test_pictures_of_an_evaluation_can_be_made_again(world, ldm, here):
    words = ["evaluate", f"model={world.root}", f"data.root={world.shards}", "num_samples=8",
             "steps=2", "block=8", "metrics=[prompt_accuracy]", "samples=judged"]  # fmt: skip
    assert ldm(*words, "out=metrics.json") == 0
    like("judged/000006.png")
    assert (pixels(Path("like_000006/000000.png")) == pixels(Path("judged/000006.png"))).all()


@pytest.fixture
def made(world, ldm, here) -> list[str]:
    """The words that made all/000000.png to all/000002.png, relative to here."""
    os.symlink(world.root, "model")
    words = ["sample", "model=model", PROMPT, "num=3", "block=4", "steps=3", *IMAGE, "out=all"]
    assert ldm(*words) == 0
    return words


def test_what_is_typed_wins_and_is_told(made, ldm, capsys):
    more = ["seed=8", "guidance=1", "sampler=ddim", "num=2", "out=x"]
    changed = like("all/000002.png", *more)
    told = "other than there are guidance, sampler, sampler_settings.eta, seed\n"
    assert told in capsys.readouterr().out
    record = read_json(changed / "samples.json")
    assert [(row["seed"], row["position"]) for row in record["pictures"]] == [(8, 2), (9, 3)]
    assert (record["protocol"]["guidance"], record["protocol"]["sampler"]) == (1.0, "ddim")
    assert record["protocol"]["edit"]["strength"] == 0.75
    plain = [word for word in made if not word.startswith(("num=", "out="))]
    assert ldm(*plain, *more[:3], "num=2", "out=y") == 0
    capsys.readouterr()
    assert abs(pixels(Path("y/000001.png")) - pixels(Path("x/000001.png"))).max() <= 1
    assert ldm("sample", "like=all/000002.png", "out=z") == 0
    assert "other than" not in capsys.readouterr().out


def test_what_the_picture_brings_can_be_unset(made, ldm):
    def edit(folder: Path) -> Any:
        return read_json(folder / "samples.json")["protocol"].get("edit")

    words = [word for word in made if not word.startswith("out=")]
    more = ["mask=mask.png", "strength=0.8", "prompt_to=a cross"]
    assert ldm(*words, *more, "out=masked") == 0
    file = "masked/000001.png"
    assert edit(like(file))["mask"] is not None
    unmasked = like(file, "mask=null", "out=unmasked")
    assert (edit(unmasked)["mask"], edit(unmasked)["strength"]) == (None, 0.8)
    plain = like(file, "image=", "prompt_to=null", "out=plain")
    assert edit(plain) is None
    row = read_json(plain / "samples.json")["pictures"][0]
    assert "prompt_to" not in row and "weight" not in row
    own = like(file, "like=null", "model=model", "prompt=x", "num=1", "steps=2", "out=own")
    assert edit(own) is None


def test_a_forged_prompt_that_is_no_text_costs_nothing(pristine, here, capsys):
    word = forged(pristine, "forged.png", put("picture", "prompt", value="caf\udce9"))
    assert "is not valid UTF-8" in refused(capsys, word)


def test_the_same_twice_is_there_already(made, capsys):
    like("all/000001.png")
    like("all/000001.png")
    assert "are there already" in capsys.readouterr().out
    assert not Path("like_000001.1").exists()


def test_the_way_may_be_walked_anew(world, ldm, here):
    words = ["sample", f"model={world.root}", PROMPT, "seed_to=4", "num=5", "block=4", "steps=2"]
    assert ldm(*words, "out=all") == 0
    assert read_json(like("all/000003.png") / "samples.json")["pictures"][0]["weight"] == 0.75
    again = like("all/000003.png", "num=3", "out=x")
    rows = read_json(again / "samples.json")["pictures"]
    assert [row["weight"] for row in rows] == [0.0, 0.5, 1.0]


def refused(capsys: Any, *words: str) -> str:
    assert main(["sample", *words, "out=refused"]) == 2
    assert not Path("refused").exists()
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "Traceback" not in said
    return said


def test_inputs_that_are_gone_or_changed_are_named(made, world, capsys):
    photo = IMAGE[0].removeprefix("image=")
    os.rename(photo, "elsewhere.png")
    assert f"made from image={photo}, which is not there" in refused(capsys, "like=all/000000.png")
    moved = like("all/000000.png", "image=elsewhere.png", "out=moved")
    assert (pixels(moved / "000000.png") == pixels(Path("all/000000.png"))).all()
    Image.new("RGB", (60, 40), "red").save(photo)
    assert "that file has changed since" in refused(capsys, "like=all/000000.png")
    like("all/000000.png", f"image={photo}", "out=other")
    assert "other than there are edit.image" in capsys.readouterr().out


def test_the_weights_are_hashed_once(made, monkeypatch):
    read = []

    def counted(path: Any) -> str:
        read.append(Path(path))
        return file_hash(path)

    monkeypatch.setattr("ldm.apps.locate.file_hash", counted)
    sample_folder._fingerprints.cache_clear()
    like("all/000001.png")
    assert len(read) == len({*read})
    assert {file.parent.name for file in read if file.suffix == ".safetensors"} == {
        "unet", "vae", "text_encoder",
    }  # fmt: skip


def test_another_model_is_named(made, world, capsys):
    os.unlink("model")
    assert "was made with model=model, which is not there" in refused(capsys, "like=all/000000.png")
    moved = like("all/000000.png", f"model={world.root}", "out=moved")
    assert (pixels(moved / "000000.png") == pixels(Path("all/000000.png"))).all()
    shutil.copytree(world.diffusion / "model", "model")
    (file,) = Path("model/vae").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    said = refused(capsys, "like=all/000000.png")
    assert "another autoencoder than model=model has now" in said and "model=RUN_OR_FOLDER" in said
    like("all/000000.png", "model=model", "out=other")
    assert "autoencoder" in capsys.readouterr().out
    shutil.rmtree("model/vae")
    assert "model=model, which is not there" in refused(capsys, "like=all/000000.png")


def test_web_uis_find_their_text(made):
    text = Image.open("all/000001.png").text["parameters"]
    assert text.splitlines()[0] == PROMPT.removeprefix("prompt=")
    assert "Steps: 3, Sampler: dpmpp_2m, CFG scale: 3.0, Seed: 1, Size: 32x32" in text
    assert "Denoising strength: 0.75" in text and "Negative prompt" not in text


def test_files_without_settings(made, capsys):
    Image.open("all/000001.png").convert("RGB").save("saved_again.png")
    Image.open("all/000001.png").convert("RGB").save("picture.jpg")
    Path("text.png").write_text("hello")
    Path("cut.png").write_bytes(Path("all/000001.png").read_bytes()[:-400])
    for file in ("saved_again.png", "all/grid.png"):
        assert "carries no settings of `ldm sample`" in refused(capsys, f"like={file}")
    for file in ("picture.jpg", "text.png", "cut.png"):
        assert "is no PNG file, or a damaged one" in refused(capsys, f"like={file}")
    assert "there is no such file" in refused(capsys, "like=nowhere.png")
    assert "lies in out=all" in refused_in(capsys, "like=all/000001.png", "out=all")


def refused_in(capsys: Any, *words: str) -> str:
    assert main(["sample", *words]) == 2
    return str(capsys.readouterr().err)


@pytest.fixture(scope="module")
def pristine(world, ldm, tmp_path_factory) -> Path:
    """A picture made from another."""
    folder = tmp_path_factory.mktemp("pristine")
    Image.new("RGB", (32, 32), "red").save(folder / "red.png")
    words = [f"model={world.root}", PROMPT, f"image={folder / 'red.png'}", "num=1", "steps=2"]
    assert ldm("sample", *words, f"out={folder / 'all'}") == 0
    return folder / "all" / "000000.png"


def forged(pristine: Path, name: str, change: Any) -> str:
    """The picture with other settings in it."""
    image = Image.open(pristine)
    value = json.loads(image.text["ldm"])  # type: ignore[attr-defined]
    changed = change(value)
    info = PngInfo()
    info.add_text("ldm", changed if isinstance(changed, str) else json.dumps(value))
    image.save(name, pnginfo=info)
    return f"like={name}"


def put(*path: str, value: Any) -> Any:
    def change(record: dict[str, Any]) -> None:
        for key in path[:-1]:
            record = record[key]
        record[path[-1]] = value

    return change


DAMAGED = {
    "not JSON": lambda _: "{",
    "deep": lambda _: "[" * 100_000,
    "a list": lambda _: "[1]",
    "a number": lambda _: "7",
    "without picture": lambda value: value.pop("picture") and None,
    "without protocol": lambda value: value.pop("protocol") and None,
    "without model": lambda value: value["paths"].pop("model") and None,
    "unknown field": put("picture", "files", value="x"),
    "prompt": put("picture", "prompt", value=["a"]),
    "seed": put("picture", "seed", value="0 hydra.run.dir=x"),
    "negative seed": put("picture", "seed", value=-1),
    "flag as a seed": put("picture", "seed", value=True),
    "position": put("picture", "position", value=1.5),
    "weight": put("picture", "weight", value=2.0),
    "path": put("paths", "image", value={"_target_": "os.system"}),
    "sampler": put("protocol", "sampler", value="ddim +x=1"),
    "sampler setting": put("protocol", "sampler_settings", value={"_target_=os.system": 1}),
    "sampler value": put("protocol", "sampler_settings", value={"eta": "${oc.env:HOME}"}),
    "steps": put("protocol", "steps", value="${oc.env:HOME}"),
    "interval": put("protocol", "guidance_interval", value=["a", 1]),
    "negative prompt": put("protocol", "negative", value=7),
    "edit": put("protocol", "edit", value="0.5"),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_settings_are_a_sentence(how, pristine, here, capsys):
    word = forged(pristine, "forged.png", DAMAGED[how])
    assert "the settings in it are damaged" in refused(capsys, word)


HOSTILE = {
    "a target": (put("protocol", "sampler_settings", value={"_target_": 1}), "_target_"),
    "steps": (put("protocol", "steps", value=-4), "steps=-4 does not fit"),
    "fraction": (put("protocol", "block", value=1.5), "block=1.5 does not fit"),
    "not a number": (put("protocol", "guidance", value=float("nan")), "guidance="),
    "sampler": (put("protocol", "sampler", value="system"), "sampler=system"),
    "spacing": (put("protocol", "spacing", value="x"), "spacing='x' does not fit"),
    "strength": (put("protocol", "edit", "strength", value=7), "strength=7 does not fit"),
    "model": (put("paths", "model", value="${oc.env:HOME}"), "model=${oc.env:HOME}"),
    "hash": (put("protocol", "model", value="0" * 16), "another model than"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_settings_that_nobody_could_type_are_refused_as_if_typed(how, pristine, here, capsys):
    change, message = HOSTILE[how]
    assert message in refused(capsys, forged(pristine, "forged.png", change))
