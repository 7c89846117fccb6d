"""Editing by `ldm sample`: pictures from pictures, parts of them, and what lies between two."""

import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from ldm.interop.diffusers import read_unet, write_unet
from ldm.interop.pipeline import read_pipeline
from ldm.manifest import file_hash, read_json

PROMPT = "prompt=a large red circle"


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.glob("0*.png"))]).astype(int)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photo.png, its mask, the same with a transparent border, a wide one, and unusable ones."""
    folder = tmp_path_factory.mktemp("my files, (1)")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 5:] = 255
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.dstack([pixels, 255 - mask])).save(folder / "open.png")
    Image.fromarray(pixels).resize((80, 40)).save(folder / "wide.jpg")
    Image.fromarray(mask[:, :16]).save(folder / "narrow.png")
    Image.fromarray(mask * 0).save(folder / "black.png")
    dot = mask * 0
    dot[3, 3] = 255
    Image.fromarray(dot).save(folder / "dot.png")
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def sampled(world, ldm, tmp_path_factory) -> Any:
    def run(*words: Any, model: Any = world.root) -> Path:
        out = tmp_path_factory.mktemp("edited") / "out"
        settings = [f"model={model}", f"out={out}", "steps=5", "block=4", "num=2"]
        given = {str(word).partition("=")[0] for word in words}
        settings = [word for word in settings if word.partition("=")[0] not in given]
        assert ldm("sample", *settings, *words) == 0
        return out

    return run


def inside(files: Path) -> np.ndarray:
    return np.asarray(Image.open(files / "mask.png")) > 0


def test_image_to_image(sampled, files):
    photo = files / "photo.png"
    out = sampled(PROMPT, f"image={photo}")
    edit = read_json(out / "samples.json")["protocol"]["edit"]
    assert edit == {"image": file_hash(photo), "mask": None, "strength": 0.75}
    assert (pictures(out) == pictures(sampled(PROMPT, f"image={photo}", "strength=0.75"))).all()
    others = [sampled(PROMPT), sampled(PROMPT, f"image={photo}", "strength=0.5")]
    for other in others:
        assert abs(pictures(other) - pictures(out)).mean() > 1
    assert "edit" not in read_json(others[0] / "samples.json")["protocol"]


def test_inpainting_keeps_the_pixels_of_the_picture(sampled, files):
    words = [PROMPT, f"image={files / 'photo.png'}", f"mask={files / 'mask.png'}"]
    out = sampled(*words)
    edit = read_json(out / "samples.json")["protocol"]["edit"]
    assert edit["mask"] == file_hash(files / "mask.png") and edit["strength"] == 1.0
    photo, painted = np.asarray(Image.open(files / "photo.png")), inside(files)
    images = pictures(out)
    assert (images[:, ~painted] == photo[~painted]).all()
    assert abs(images - photo)[:, painted].mean() > 5
    gentle = pictures(sampled(*words, "strength=0.4"))
    assert (gentle != images)[:, painted].any() and (gentle == images)[:, ~painted].all()


def test_what_is_transparent_is_painted(sampled, files, capsys):
    """Outpainting: a picture on a larger canvas. What colour the canvas hides says nothing."""
    out = sampled(PROMPT, f"image={files / 'open.png'}")
    assert "its transparent part is painted anew" in capsys.readouterr().out
    edit = read_json(out / "samples.json")["protocol"]["edit"]
    assert (edit["mask"], edit["strength"]) == ("transparency", 1.0)
    photo, painted = np.asarray(Image.open(files / "photo.png")), inside(files)
    images = pictures(out)
    assert (images[:, ~painted] == photo[~painted]).all()
    canvas = np.asarray(Image.open(files / "open.png")).copy()
    canvas[painted, :3] = 255
    Image.fromarray(canvas).save(files / "white_canvas.png")
    assert (pictures(sampled(PROMPT, f"image={files / 'white_canvas.png'}")) == images).all()
    # mask= is the user's own word, whatever is transparent; what a mask hides is not white.
    mask = np.full((32, 32, 2), 255, np.uint8)
    mask[..., 1] = 255 * ~painted
    Image.fromarray(mask).save(files / "hidden.png")
    other = sampled(PROMPT, f"image={files / 'photo.png'}", f"mask={files / 'hidden.png'}")
    assert (pictures(other)[:, painted] == photo[painted]).all()


def rgba(file: Path, *transparent: tuple[slice, slice], size: tuple[int, int] = (64, 128)) -> Path:
    """Noise of a size (height, width), black where it is transparent."""
    layers = np.random.default_rng(1).integers(0, 256, (*size, 4), np.uint8)
    layers[..., 3] = 255
    for rows, columns in transparent:
        layers[rows, columns] = 0
    Image.fromarray(layers).save(file)
    return file


CORNERS = [(slice(0, 6), slice(0, 6)), (slice(0, 6), slice(-6, None)),
           (slice(-6, None), slice(0, 6)), (slice(-6, None), slice(-6, None))]  # fmt: skip


def test_transparency_that_the_cut_leaves_nothing_of_is_no_mask(sampled, files, capsys):
    """As in a picture of a window, whose corners are round, or with a pixel here and there."""
    corners = rgba(files / "corners.png", *CORNERS)
    dots = [(slice(5, 6), slice(x, x + 1)) for x in range(40, 90, 9)]
    for file in (corners, rgba(files / "dots.png", *dots)):
        out = sampled(PROMPT, f"image={file}")
        said = capsys.readouterr().out
        assert "is transparent; taken as opaque" in said and "64x64" not in said
        assert "128x64 pixels; its middle square becomes 32x32" in said
        edit = read_json(out / "samples.json")["protocol"]["edit"]
        assert (edit["mask"], edit["strength"]) == (None, 0.75)
    Image.open(corners).convert("RGB").save(files / "opaque.png")
    plain = pictures(sampled(PROMPT, f"image={files / 'opaque.png'}"))
    assert abs(plain - pictures(sampled(PROMPT, f"image={corners}"))).max() <= 2


def test_what_transparent_pixels_hide_does_not_bleed_into_what_is_kept(sampled, files):
    """A larger picture is resized with its edge: its visible side stays grey."""
    layers = np.full((96, 96, 4), 128, np.uint8)
    layers[..., 3] = 255
    layers[:, 50:] = (255, 0, 0, 0)
    Image.fromarray(layers).save(files / "half.png")
    images = pictures(sampled(PROMPT, f"image={files / 'half.png'}"))
    assert (images[:, :, :16] == 128).all() and (images[:, :, 18:] != 128).any()


def test_a_mask_outside_of_the_middle_square_is_refused(world, ldm, files, tmp_path, capsys):
    mask = np.zeros((64, 128), np.uint8)
    mask[:, 100:] = 255
    Image.fromarray(mask).save(files / "outside.png")
    words = [PROMPT, f"image={rgba(files / 'whole.png')}", f"mask={files / 'outside.png'}"]
    assert ldm("sample", f"model={world.root}", f"out={tmp_path / 'out'}", *words) == 2
    assert "nothing white is left of it in the middle" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_picture_of_another_size_is_cut_as_for_training_and_says_so(sampled, files, capsys):
    out = sampled(PROMPT, f"image={files / 'wide.jpg'}", "strength=1")
    said = capsys.readouterr().out
    assert "80x40 pixels; its middle square becomes 32x32" in said
    assert "next to nothing is left of it at strength=1" in said
    assert pictures(out).shape == (2, 32, 32, 3)


def test_the_way_from_one_picture_to_another(sampled):
    """Both ends are the pictures that the plain command makes, with a stochastic sampler too."""
    way = ["prompt_to=a small blue square", "seed_to=9", "seed=2", "sampler=euler_ancestral"]
    out = sampled(PROMPT, *way, "num=6")
    rows = read_json(out / "samples.json")["pictures"]
    assert [row["weight"] for row in rows] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert {(row["seed"], row["seed_to"], row["prompt_to"]) for row in rows} == {
        (2, 9, "a small blue square")
    }
    images = pictures(out)
    assert len({image.tobytes() for image in images}) == 6
    alone = ["num=1", "sampler=euler_ancestral"]
    assert (pictures(sampled(PROMPT, "seed=2", *alone)) == images[0]).all()
    last = pictures(sampled("prompt=a small blue square", "seed=9", *alone))
    assert abs(last - images[5]).max() <= 1  # at another position of its block
    seeds = pictures(sampled(PROMPT, "seed=2", "seed_to=9", "num=3", "sampler=euler_ancestral"))
    assert (seeds[0] == images[0]).all() and (seeds[2] != images[5]).any()


def test_other_requests_are_not_taken_for_the_same(sampled, world, ldm, files, capsys):
    photo = f"image={files / 'photo.png'}"
    out = sampled(PROMPT, photo)
    words = ["sample", f"model={world.root}", f"out={out}", "steps=5", "block=4", "num=2", PROMPT]
    assert ldm(*words, photo) == 0
    assert "are there already" in capsys.readouterr().out
    mask = f"mask={files / 'mask.png'}"
    transparent = f"image={files / 'open.png'}"
    ways = [["seed_to=3"], ["prompt_to=x"], []]
    for other in ([photo, "strength=0.5"], [photo, mask], [transparent], *ways):
        assert ldm(*words, *other) == 0
        assert "the earlier samples are now in" in capsys.readouterr().out, other


REFUSED = {
    "mask={files}/mask.png": "mask= is about a picture to begin from: give image=FILE",
    "strength=0.5": "strength= is about a picture to begin from",
    "image=none.png": "image=none.png: there is no such file",
    "image={files}/text.png": "text.png: not a picture",
    "image={files}/photo.png strength=0": "strength=0 does not fit",
    "image={files}/photo.png strength=1.01": "above 0 and of at most 1",
    "image={files}/photo.png strength=0.1": "strength=0.1 of steps=5 leaves no step",
    "image={files}/photo.png mask=none.png": "mask=none.png: there is no such file",
    "image={files}/photo.png mask={files}/narrow.png": "is 16x32 pixels and image=",
    "image={files}/photo.png mask={files}/black.png": "has nothing white",
    "prompt_to=x num=1": "one picture is no way from one to another",
    "seed_to=-3": "seed_to=-3 does not fit",
    "seed_to=x": "seed_to='x' does not fit",
    "imgae=x": "Did you mean 'image'",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words, world, ldm, files, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("ldm.apps.sample.read_pipeline", lambda _: pytest.fail("read"))
    request = [
        f"model={world.root}", f"out={tmp_path / 'out'}", "steps=5", "num=2", PROMPT,
        *[word.replace("{files}", str(files)) for word in words.split()],
    ]  # fmt: skip
    assert ldm("sample", *request) == 2
    assert REFUSED[words] in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
    assert ldm("check", "sample", *request) == 2


def test_prompts_of_a_file_that_is_no_text(world, ldm, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_bytes(b"caf\xe9\n")
    words = [f"model={world.root}", f"prompts={tmp_path / 'prompts.txt'}"]
    assert ldm("sample", *words) == 2
    assert "prompts.txt is no text in UTF-8" in capsys.readouterr().err


def test_a_way_begins_at_one_prompt(world, ldm, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    words = [f"model={world.root}", f"prompts={tmp_path / 'prompts.txt'}", "prompt_to=x"]
    assert ldm("sample", *words) == 2
    assert "prompt_to= leads on from one prompt" in capsys.readouterr().err


@pytest.fixture(scope="module")
def inpainting(world, tmp_path_factory) -> Path:
    """The world's model with a network that sees mask and masked picture too, at random."""
    model = tmp_path_factory.mktemp("inpainting") / "model"
    shutil.copytree(world.diffusion / "model", model)
    plain = read_unet(model / "unet")
    torch.manual_seed(0)
    unet = type(plain)(**plain.config | {"in_channels": 9})
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    write_unet(unet, model / "unet", sample_size=8)
    return model


def test_a_model_with_nine_channels_paints_what_is_masked(sampled, inpainting, files):
    words = [PROMPT, f"image={files / 'photo.png'}"]
    images = pictures(sampled(*words, f"mask={files / 'mask.png'}", model=inpainting))
    photo, painted = np.asarray(Image.open(files / "photo.png")), inside(files)
    assert (images[:, ~painted] == photo[~painted]).all()
    assert images[:, painted].std() > 1
    others = pictures(sampled(PROMPT, f"image={files / 'open.png'}", model=inpainting))
    assert (others == images).all()  # what is under the mask does not matter


def test_a_dot_is_painted_by_blending_but_falls_through_the_grid_of_nine_channels(
    sampled, inpainting, ldm, files, tmp_path, capsys
):
    words = [PROMPT, f"image={files / 'photo.png'}", f"mask={files / 'dot.png'}"]
    changed = pictures(sampled(*words)) != np.asarray(Image.open(files / "photo.png"))
    assert changed[:, 3, 3].any((0, 1)) and changed.any((0, 3)).sum() == 1
    assert ldm("sample", f"model={inpainting}", f"out={tmp_path / 'out'}", *words) == 2
    assert "which sees one pixel in 4 x 4; make that part" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_model_with_nine_channels_needs_a_mask(inpainting, world, ldm, files, tmp_path, capsys):
    sample = ["sample", f"model={inpainting}", PROMPT, f"out={tmp_path / 'out'}"]
    evaluate = ["evaluate", f"model={inpainting}", f"data.root={world.shards}",
                "metrics=[prompt_accuracy]", f"out={tmp_path / 'm.json'}"]  # fmt: skip
    for words in (sample, [*sample, f"image={files / 'photo.png'}"], evaluate):
        assert ldm(*words) == 2
        assert "with image=FILE mask=FILE (white is painted)" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["diffusers", "single_file"])
def test_a_model_with_nine_channels_goes_out_and_in(
    form, inpainting, sampled, ldm, files, tmp_path, capsys
):
    model = tmp_path / "model"
    shutil.copytree(inpainting, model)
    unet = read_unet(model / "unet")
    settings = unet.config | {"pooling_heads": None}  # single files have no place for them
    torch.manual_seed(1)
    write_unet(type(unet)(**settings), model / "unet", sample_size=8)
    exported, run = tmp_path / "exported", tmp_path / "run"
    assert ldm("export", f"model={model}", f"format={form}", f"out={exported}") == 0
    if form == "diffusers":
        card = (exported / "README.md").read_text()
        assert "StableDiffusionInpaintPipeline.from_pretrained" in card
        loaded = diffusers.DiffusionPipeline.from_pretrained(exported, local_files_only=True)
        assert isinstance(loaded, diffusers.StableDiffusionInpaintPipeline)
    assert ldm("import", f"from={exported}", f"run={run}") == 0
    assert "image=FILE mask=FILE" in capsys.readouterr().out
    index = read_json(run / "model" / "model_index.json")
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    assert read_pipeline(run / "model").inpaints and not (run / "configs").exists()
    words = [PROMPT, f"image={files / 'photo.png'}", f"mask={files / 'mask.png'}"]
    before, after = (pictures(sampled(*words, model=m)) for m in (model, run))
    assert abs(before - after).max() <= 1
