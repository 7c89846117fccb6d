"""A folder of pictures as a set: formats, sizes, whose it is, and what identifies it."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.apps.errors import UserError
from ldm.apps.evaluations.sets.folder import FolderPictures, read_folder
from ldm.data.images import to_tensor
from ldm.manifest import write_json

NOISE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)


def judged(root: Path, **more) -> FolderPictures:
    return read_folder(str(root), **{"captions": None, "lossy": False, **more})


def ours(root: Path) -> None:
    rows = [{"file": "a.png", "prompt": "a dog", "seed": 3, "position": 0}]
    write_json(root / "samples.json", {"protocol": {"steps": 2}, "pictures": rows})


@pytest.mark.parametrize(
    ("name", "saved", "compressed"),
    [
        ("a.png", {}, None),
        ("a.tif", {"compression": "tiff_lzw"}, None),
        ("a.tif", {"compression": "jpeg"}, "TIFF (jpeg)"),
        ("a.webp", {"lossless": True}, None),
        ("a.webp", {}, "WEBP"),
    ],
)
def test_what_has_been_compressed_with_loss(tmp_path, name, saved, compressed):
    PICTURE.save(tmp_path / name, **saved)
    if compressed is None:
        found = judged(tmp_path)
        assert found.protocol == {}
        assert torch.equal(found.images(range(1))[0], to_tensor(NOISE))
        return
    with pytest.raises(UserError) as error:
        judged(tmp_path)
    assert f"{name} is {compressed}, whose compression changes scores" in str(error.value)
    assert judged(tmp_path, lossy=None).protocol == {"compressed": [compressed]}


def test_sizes_are_those_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(tmp_path / "a.png", exif=exif)
    Image.fromarray(NOISE.transpose(1, 0, 2)).save(tmp_path / "b.png")
    found = judged(tmp_path)
    assert found.size_px == (24, 16)
    assert found.images(range(2)).shape == (2, 3, 24, 16)


def test_an_array_counts_in_a_folder_of_ours_only(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.zeros((16, 24, 4), np.float32))
    assert torch.equal(judged(tmp_path).images(range(1))[0], to_tensor(NOISE))
    ours(tmp_path)
    found = judged(tmp_path)
    assert found.images(range(1)).shape == (1, 4, 16, 24)
    np.save(tmp_path / "a.npy", np.ones((16, 24, 4), np.float32))
    assert judged(tmp_path).identity != found.identity


def test_a_grid_is_left_out_in_a_folder_of_ours_only(tmp_path):
    for name in ("a.png", "grid.png"):
        PICTURE.save(tmp_path / name)
    assert judged(tmp_path).names == ["a.png", "grid.png"]
    ours(tmp_path)
    assert judged(tmp_path).names == ["a.png"]


def test_a_replaced_picture_makes_another_set(tmp_path):
    PICTURE.save(tmp_path / "a.bmp")
    before, times = judged(tmp_path).identity, (tmp_path / "a.bmp").stat()
    assert judged(tmp_path).identity == before
    Image.fromarray(255 - NOISE).save(tmp_path / "a.bmp")  # as large
    os.utime(tmp_path / "a.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert judged(tmp_path).identity != before


@pytest.mark.parametrize("record", [{"a": 1}, [1], {"protocol": {}, "pictures": [{"file": "a"}]}])
def test_a_record_of_somebody_else_is_named(tmp_path, record):
    PICTURE.save(tmp_path / "a.png")
    write_json(tmp_path / "samples.json", record)
    with pytest.raises(UserError, match=r"samples\.json is not what `ldm sample`"):
        judged(tmp_path)
