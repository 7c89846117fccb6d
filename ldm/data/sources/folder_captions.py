"""The captions of a folder of pictures: beside them, in metadata.jsonl, or by sub-folder."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ldm.data.sources.columns import captions_of, metadata_of

METADATA = "metadata.jsonl"
SOURCES = ("sidecar", "metadata", "class", "none")
CaptionsFrom = Literal["auto", "sidecar", "metadata", "class", "none"]
_COLUMNS = ("text", "caption", "captions")  # of metadata.jsonl; the first that is there counts


class FolderCaptions:
    """Looks up the captions of each picture of a folder.

    ``source`` is one of ``SOURCES``, "auto", or a list of columns of metadata.jsonl; ``chosen`` is
    what "auto" came to, or that list.
    """

    def __init__(
        self, root: Path, files: set[str], pictures: list[str], source: str | Sequence[str]
    ) -> None:
        self.root = root
        self._files = files
        # By the name without its ending, which may be in capitals; .txt counts before .TXT.
        texts = sorted(name for name in files if name.lower().endswith(".txt"))
        self._sidecars = {_stem(name): name for name in texts}
        self._columns = None if isinstance(source, str) else tuple(source)
        source = source if isinstance(source, str) else "metadata"
        if source == "auto":
            source = self._find_source(pictures)
        self.source = source
        self._metadata = self._read_metadata() if source == "metadata" else {}
        if source == "sidecar" and not self._has_sidecars(pictures):
            raise ValueError(
                f"data.captions=sidecar, but no picture in {root} has a text file beside it, such "
                "as cat.txt for cat.jpg."
            )
        if source == "class" and not any("/" in picture for picture in pictures):
            raise ValueError(
                f"data.captions=class, but {root} holds its pictures directly; put those of each "
                "class into a sub-folder of its name."
            )
        if source == "metadata" and not self._metadata:
            raise ValueError(
                f"data.captions=metadata, but {root} holds no {METADATA} with an entry. It needs "
                'lines such as {"file_name": "cat.jpg", "text": "a cat"}.'
            )

    @property
    def chosen(self) -> str | list[str]:
        return self.source if self._columns is None else list(self._columns)

    def of(self, picture: str) -> tuple[str, ...]:
        """The captions of a picture, () without any source; ValueError with the reason if none."""
        if self.source == "sidecar":
            return (self._read_sidecar(picture),)
        if self.source == "metadata":
            entry = self._metadata.get(picture, {})
            columns = self._columns or [name for name in _COLUMNS if entry.get(name)][:1]
            return captions_of([entry.get(name) for name in columns])
        if self.source == "class":
            folder, slash, _ = picture.partition("/")
            if not slash:
                raise ValueError("missing caption")
            return (folder.replace("_", " "),)
        return ()

    def meta(self, picture: str) -> dict[str, Any]:
        """The other columns of metadata.jsonl."""
        without = ("file_name", *(self._columns or _COLUMNS))
        return metadata_of(self._metadata.get(picture, {}), without)

    def unmatched(self, pictures: list[str]) -> list[str]:
        """What metadata.jsonl names and the folder does not hold."""
        return sorted(set(self._metadata) - set(pictures))

    def _find_source(self, pictures: list[str]) -> str:
        if self._has_sidecars(pictures):
            return "sidecar"
        if any(PurePosixPath(name).name == METADATA for name in self._files):
            return "metadata"
        folders = {picture.partition("/")[0] for picture in pictures if "/" in picture}
        return "class" if len(folders) > 1 else "none"

    def _has_sidecars(self, pictures: list[str]) -> bool:
        return any(_stem(picture) in self._sidecars for picture in pictures)

    def _read_sidecar(self, picture: str) -> str:
        name = self._sidecars.get(_stem(picture))
        if name is None:
            raise ValueError("missing caption")
        try:
            # What is not UTF-8 stays recognizable; the rules for captions are those of all sources.
            return (self.root / name).read_text("utf-8-sig", "surrogateescape")
        except OSError as error:
            raise ValueError("caption cannot be opened") from error

    def _read_metadata(self) -> dict[str, dict[str, Any]]:
        entries: dict[str, dict[str, Any]] = {}
        for name in sorted(self._files):
            path = PurePosixPath(name)
            if path.name != METADATA:
                continue
            lines = (self.root / name).read_text("utf-8-sig", "surrogateescape").split("\n")
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                entry = _entry(line, f"{self.root / name}, line {number}")
                picture = (path.parent / entry["file_name"]).as_posix()
                if picture in entries:
                    raise ValueError(
                        f"{self.root / name}, line {number} names {entry['file_name']!r} a second "
                        "time; keep one line per picture."
                    )
                entries[picture] = entry
        return entries


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _entry(line: str, where: str) -> dict[str, Any]:
    """A line of metadata.jsonl; ValueError when it names no file."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}. Correct or delete the line.") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        raise ValueError(f'{where} has no "file_name". It needs {{"file_name": ..., "text": ...}}.')
    return entry
