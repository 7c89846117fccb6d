"""The source of parquet files: a row is a picture with its captions and columns."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from ldm.data.remote import File, LocalCopies, find, fingerprint_of, names_of
from ldm.data.source import Bad, Part, Record
from ldm.data.sources.columns import captions_of, metadata_of
from ldm.data.sources.tables import columns_read, picture_of, row_of
from ldm.ranges import Positive

_ROWS_AT_ONCE = 64  # rows in memory, however large a row group is


class Rows(NamedTuple):
    """A row group of a file."""

    file: File
    name: str  # of the file, unique among all, without its ending
    group: int
    first: int  # number of its first row in the file


class ParquetSource:
    """Rows of the files at ``path`` (a folder, glob, brace expression, list; local or remote).

    ``image`` is the column with the bytes of a picture file, with {bytes, path} as Hugging Face
    writes them, or with paths relative to the parquet file. ``captions`` are columns of texts or
    of lists of texts; none for pictures without. ``key`` names a column of unique names; None for
    the file's name and the row's number. Other single values go into meta.
    """

    def __init__(
        self,
        *,
        path: str | Sequence[str],
        image: str,
        captions: Sequence[str],
        key: str | None,
        schemes: Sequence[str],
        cache_dir: str | None,
        cache_gb: Positive,
    ) -> None:
        self.path = path if isinstance(path, str) else list(path)
        self.image, self.captions, self.key = image, list(captions), key
        self.schemes = list(schemes)
        self.copies = LocalCopies(cache_dir, int(cache_gb * 1e9))

    def settings(self) -> dict[str, Any]:
        return {
            "source": "parquet",
            "image": self.image,
            "captions": self.captions,
            "key": self.key,
            "input": fingerprint_of(self._files),
        }

    def parts(self) -> list[Part]:
        """The row groups of all files; ValueError for what is no parquet or lacks a column."""
        parts = []
        for file, name in zip(self._files, names_of(self._files), strict=True):
            with self.copies.open(file) as opened:
                table = _opened(opened, file)
                names, first = table.schema_arrow.names, 0
                for column in filter(None, (self.image, *self.captions, self.key)):
                    if column not in names:
                        raise ValueError(
                            f"{file.url} has no column {column!r}; it has {', '.join(names)}. "
                            "Choose by data.image, data.captions=[...] and data.key."
                        )
                for group in range(table.num_row_groups):
                    count = table.metadata.row_group(group).num_rows
                    parts.append(
                        Part(Rows(file, name.removesuffix(".parquet"), group, first), count)
                    )
                    first += count
        return parts

    def read(self, part: Part) -> Iterator[Record | Bad]:
        rows: Rows = part.where
        folder, number = os.path.dirname(rows.file.url), rows.first
        with self.copies.open(rows.file) as opened:
            try:
                for batch in self._batches(_opened(opened, rows.file), rows.group):
                    for row in range(len(batch)):
                        yield self._record(batch, row, f"{rows.name}-{number:08d}", folder)
                        number += 1
            except _DamagedGroup:
                yield Bad(f"{rows.file.url}, row group {rows.group}", "damaged row group")

    def _batches(self, table: Any, group: int) -> Iterator[Any]:
        used = [*filter(None, (self.image, *self.captions, self.key))]
        names = columns_read(table.schema_arrow, used)
        try:
            yield from table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=names)
        except Exception as error:  # parsers of damaged pages raise anything
            raise _DamagedGroup from error

    def _record(self, batch: Any, row: int, key: str, folder: str) -> Record | Bad:
        try:
            columns = row_of(batch, row)
            if self.key is not None:
                if columns[self.key] is None:
                    raise ValueError("missing key")
                key = str(columns[self.key])
            picture = picture_of(columns[self.image], folder)
            chosen = [columns[name] for name in self.captions]
            captions = captions_of(chosen) if chosen else ()
        except ValueError as error:
            return Bad(key, str(error))
        used = (self.image, *self.captions)
        return Record(key, picture, captions, metadata_of(columns, without=used))

    @cached_property
    def _files(self) -> list[File]:
        return find(self.path, ".parquet", self.schemes)


class _DamagedGroup(Exception):
    """Raised where the rest of a row group cannot be read."""


def _opened(file: BinaryIO, named: File) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(
            "data=parquet needs pyarrow. Install it with: pip install 'ldm[parquet]'"
        ) from error
    try:
        return ParquetFile(file)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{named.url} is no parquet file, or damaged: {error}.") from error
