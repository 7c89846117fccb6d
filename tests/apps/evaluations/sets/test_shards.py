"""Image shards as a set of pictures."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from ldm.apps.errors import UserError
from ldm.apps.evaluations.sets.shards import ShardPictures
from ldm.data.shards.reader import ImageShards


def foreign(root: Path, name: str, colour: str) -> ShardPictures:
    """A shard without a manifest, of one member."""
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, format="BMP")
    with tarfile.open(root / "0.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data.getvalue())
        tar.addfile(member, io.BytesIO(data.getvalue()))
    shards = ImageShards(root)
    return ShardPictures(shards, len(shards), None, {})


def test_replaced_shards_without_a_manifest_are_another_set(tmp_path):
    before, times = foreign(tmp_path, "a.png", "red").identity, (tmp_path / "0.tar").stat()
    again = ShardPictures(ImageShards(tmp_path), 1, None, {})
    assert again.identity == before
    after = foreign(tmp_path, "a.png", "blue")  # of the same size
    os.utime(tmp_path / "0.tar", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert after.shards.manifest.fingerprint == again.shards.manifest.fingerprint
    assert after.identity != before


def test_shards_without_pictures_are_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} holds no pictures"):
        foreign(tmp_path, "a.tiff", "red").size_px  # noqa: B018
