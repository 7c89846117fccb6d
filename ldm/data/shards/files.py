"""Where the files of image shards lie: in a directory here, or at a url and in copies of it."""

import json
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ldm.data.remote import File, LocalCopies, is_url, read
from ldm.data.shards.index import FILE_NAME, ROWS, VERSION, Index, fits, open_index
from ldm.data.source import HELD_OUT
from ldm.manifest import FILE_NAME as MANIFEST
from ldm.manifest import Manifest, fingerprint, manifest_of, read_json, read_manifest

PREPARING = ".preparing"  # a sub-folder of a directory that is not finished
REMEDY = "Make it with: ldm prepare data=... out={}"


class LocalFiles:
    """The files of a directory of this machine."""

    max_open = 128  # shards, in each process

    def __init__(self, root: Path) -> None:
        self.root = root

    def held_out(self) -> Path | None:
        """The directory of the held-out shards beside these, None without one."""
        return self.root / HELD_OUT if (self.root / HELD_OUT).is_dir() else None

    def json(self, name: str) -> Any:
        """What a small file holds, None where there is none."""
        return read_json(self.root / name) if (self.root / name).is_file() else None

    def open(self, name: str, size: int | None, sha256: str) -> BinaryIO:
        """A large file, which is at ``.name`` until it is closed."""
        return open(self.root / name, "rb")

    def contents(self) -> tuple[Index, Manifest]:
        """ValueError with a remedy when the directory is absent, unfinished or damaged."""
        if not self.root.is_dir():
            raise ValueError(f"no image shards at {self.root}. {REMEDY.format(self.root)}")
        has_manifest = (self.root / MANIFEST).is_file()
        if (self.root / PREPARING).exists() and not has_manifest:
            raise ValueError(
                f"{self.root} is unfinished: its preparation runs or was interrupted. Wait for it, "
                "or give the same ldm prepare command again."
            )
        index = open_index(self.root)
        if not index.shards:
            raise ValueError(f"no *.tar in {self.root}. {REMEDY.format(self.root)}")
        added = unindexed(self.root, index.shards)
        if not has_manifest:
            if added:  # since the index was made
                index = _indexed_anew(self.root, added[0])
            return index, _foreign_manifest(index)
        if added:
            raise ValueError(
                f"{self.root}/{added[0]} is none of the shards that were prepared here; move it "
                "into another directory."
            )
        remedy = REMEDY.format("another directory")
        return index, read_manifest(self.root, kind="shards", remedy=remedy)


class RemoteFiles:
    """The files below a url, where somebody has put a directory that `ldm prepare` made.

    What the index says of a file is what its copy is known by: nothing is asked of the server for
    one that is here.
    """

    max_open = 1  # an open copy cannot make room for another

    def __init__(self, url: str, copies: LocalCopies) -> None:
        self.root = url.rstrip("/")
        self._copies = copies

    def held_out(self) -> str | None:
        """The url of the held-out shards beside these, None without one."""
        url = f"{self.root}/{HELD_OUT}"
        return None if read(f"{url}/{FILE_NAME}") is None else url

    def json(self, name: str) -> Any:
        """What a small file holds now; ValueError where there is none, or the server is away."""
        data = read(f"{self.root}/{name}")
        try:
            if data is not None:
                return json.loads(data)
            fault = "does not exist"
        except ValueError:
            fault = "is not JSON"
        raise ValueError(f"{self.root}/{name} {fault}. {self._remedy}")

    def open(self, name: str, size: int | None, sha256: str) -> BinaryIO:
        """A copy of a large file, which is at ``.name`` until it is closed."""
        return self._copies.open(File(f"{self.root}/{name}", size, "", sha256))

    def contents(self) -> tuple[Index, Manifest]:
        """ValueError with a remedy where there is no such directory."""
        found = self.json(FILE_NAME)
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise ValueError(f"{self.root}/{FILE_NAME} is of another program. {self._remedy}")
        names = [shard["file"] for shard in found["shards"]]
        if strange := [name for name in names if not re.fullmatch(r"[\w-][\w.-]*", name)]:
            raise ValueError(f"{self.root}/{FILE_NAME} names {strange[0]!r}, no file beside it.")
        manifest = manifest_of(self.json(MANIFEST), self.root, kind="shards", remedy=self._remedy)
        rows = open_rows(self, found["rows"])
        if not fits(rows, found["shards"]):
            raise ValueError(f"{self.root}/{ROWS} does not fit {FILE_NAME}; upload both again.")
        return Index(found["shards"], rows, found["rows"]), manifest

    @property
    def _remedy(self) -> str:
        return (
            "data.root= takes the url of a directory that ldm prepare made and somebody uploaded. "
            "Of other shards make one: ldm prepare data=webdataset "
            f"data.path='{self.root}/{{00000..00099}}.tar' out=DIR"
        )


ShardFiles = LocalFiles | RemoteFiles


def shard_files(root: str | Path, copies: LocalCopies | None = None) -> ShardFiles:
    """Those of a directory or url, of which ``copies`` are kept; ValueError for other urls."""
    if is_url(str(root)):
        return RemoteFiles(str(root), copies or LocalCopies())
    return LocalFiles(Path(root))


def unindexed(directory: Path, shards: list[dict[str, Any]]) -> list[str]:
    """The names of the tars in a directory that are none of ``shards``."""
    return sorted({path.name for path in directory.glob("*.tar")} - {s["file"] for s in shards})


def _indexed_anew(directory: Path, added: str) -> Index:
    try:
        (directory / FILE_NAME).unlink(missing_ok=True)
    except PermissionError as error:
        raise ValueError(
            f"{directory}/{added} is not in {FILE_NAME}, which may not be written: delete that "
            "file, and it is made again."
        ) from error
    return open_index(directory)


def open_rows(files: ShardFiles, rows_hash: str) -> NDArray[Any]:
    """The rows of an index (N,), memory-mapped: they stay when their file is removed."""
    with files.open(ROWS, None, rows_hash) as opened:
        rows: NDArray[Any] = np.load(opened.name, mmap_mode="r", allow_pickle=False)
        return rows


def _foreign_manifest(index: Index) -> Manifest:
    """What can be said of shards that another tool wrote."""
    facts = {
        "num_samples": len(index.rows),
        "num_shards": len(index.shards),
        "content": fingerprint([index.rows_hash, index.shards]),
    }
    settings = {"source": "webdataset"}
    identity = fingerprint({"kind": "shards", "settings": settings, "facts": facts})
    return Manifest("shards", identity, settings, {}, facts, "another tool")
