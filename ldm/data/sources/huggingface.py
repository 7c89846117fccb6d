"""The source of Hugging Face data sets: a folder written by save_to_disk, or a name in the cache.

Nothing is downloaded unless ``download`` says so; no code that comes with a data set is run.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ldm.data.remote import File, fingerprint_of
from ldm.data.source import HELD_OUT, TRAIN, Bad, Part, Record
from ldm.data.sources.columns import captions_of, metadata_of
from ldm.data.sources.tables import columns_read, picture_of, row_of
from ldm.manifest import fingerprint

_ROWS = 1000  # that one process reads in one go


class HuggingFaceSource:
    """Rows of the data set at ``path``: a folder, or the name of one that was downloaded before.

    ``config_name`` chooses among the configurations of a name. ``image`` is the column of pictures,
    ``captions`` are columns of texts or lists of texts; none for pictures without. Training takes
    ``train_split``; ``held_out_split`` names one to hold out, None leaves it to the hash of keys.
    Other single values go into meta; a key is the split and the row's number.
    """

    def __init__(
        self,
        *,
        path: str,
        config_name: str | None,
        image: str,
        captions: Sequence[str],
        train_split: str,
        held_out_split: str | None,
        download: bool,
    ) -> None:
        self.path, self.config_name, self.download = path, config_name, download
        self.image, self.captions = image, list(captions)
        self.splits = {train_split: None if held_out_split is None else TRAIN}
        if held_out_split is not None:
            self.splits[held_out_split] = HELD_OUT

    def settings(self) -> dict[str, Any]:
        return {
            "source": "huggingface",
            "image": self.image,
            "captions": self.captions,
            "splits": self.splits,
            "input": self._fingerprint(),
        }

    def parts(self) -> list[Part]:
        """Ranges of rows of each split; ValueError for splits or columns that are not there."""
        parts = []
        for split in self.splits:
            rows = len(self._tables[split])
            for start in range(0, rows, _ROWS):
                stop = min(start + _ROWS, rows)
                parts.append(Part((split, start, stop), stop - start))
        if not parts:
            raise ValueError(f"data.path={self.path} has no rows in {', '.join(self.splits)}.")
        return parts

    def read(self, part: Part) -> Iterator[Record | Bad]:
        split, start, stop = part.where
        table = self._tables[split]
        used = (self.image, *self.captions)
        for row in range(start, stop):
            key = f"{split}-{row:08d}"
            try:
                columns = row_of(table[row], 0)
                picture = picture_of(columns[self.image], self._folder)
                chosen = [columns[name] for name in self.captions]
                captions = captions_of(chosen) if chosen else ()
            except ValueError as error:
                yield Bad(key, str(error))
                continue
            meta = metadata_of(columns, without=used)
            yield Record(key, picture, captions, meta, self.splits[split])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tables"}

    @cached_property
    def _tables(self) -> dict[str, Any]:
        """The splits as Arrow tables of the columns that are read, pictures undecoded."""
        loaded = self._loaded()
        tables = loaded if isinstance(loaded, Mapping) else {TRAIN: loaded}
        if missing := [split for split in self.splits if split not in tables]:
            raise ValueError(
                f"data.path={self.path} has no split {missing[0]!r}; it has {', '.join(tables)}. "
                "Choose by data.train_split and data.held_out_split."
            )
        for split in self.splits:
            features = tables[split].features
            for column in (self.image, *self.captions):
                if column not in features:
                    raise ValueError(
                        f"data.path={self.path} has no column {column!r}; it has "
                        f"{', '.join(features)}. Choose by data.image and data.captions=[...]."
                    )
        return {split: self._undecoded(tables[split]) for split in self.splits}

    def _undecoded(self, table: Any) -> Any:
        from datasets import Image

        used = (self.image, *self.captions)
        table = table.select_columns(columns_read(table.features.arrow_schema, used))
        return table.cast_column(self.image, Image(decode=False)).with_format("arrow")

    def _loaded(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "data=huggingface needs the package datasets. Install it with: "
                "pip install 'ldm[huggingface]'"
            ) from error
        if Path(self.path).expanduser().is_dir():
            try:
                return datasets.load_from_disk(str(Path(self.path).expanduser()))
            except FileNotFoundError as error:
                raise ValueError(
                    f"data.path={self.path} was not written by save_to_disk. Of a folder with "
                    "pictures type data=folder, with parquet files data=parquet."
                ) from error
        if self.path.startswith(("/", ".", "~")) or "://" in self.path:
            raise ValueError(f"data.path={self.path} is no folder, and no name of a data set.")
        return _load_by_name(self.path, self.config_name, self.download)

    @property
    def _folder(self) -> str:
        """Below which files of pictures may lie: the data set's own, or the library's cache."""
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            return str(folder)
        from datasets import config

        return str(config.HF_CACHE_HOME)

    def _fingerprint(self) -> str:
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            return fingerprint([[s, self._tables[s]._fingerprint] for s in self.splits])
        # Walked, not globbed: names of folders may hold brackets and braces.
        paths = [path for path in sorted(folder.rglob("*.*")) if path.is_file()]
        stats = [path.stat() for path in paths]
        return fingerprint_of(
            [
                File(str(path), stat.st_size, str(stat.st_mtime_ns))
                for path, stat in zip(paths, stats, strict=True)
            ]
        )


def _load_by_name(name: str, config_name: str | None, download: bool) -> Any:
    """A data set from the local cache, fetched into it only where ``download``."""
    import datasets
    import huggingface_hub.constants

    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    if not download:
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        return datasets.load_dataset(name, config_name)
    except Exception as error:  # hub, file system and builder have errors of their own
        remedy = "" if download else " Nothing is downloaded unless you type data.download=true."
        raise ValueError(f"data.path={name} could not be loaded: {error}.{remedy}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before
