"""`ldm prepare`: a source that can be opened, and a place apart from it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldm.apps.rules.case import Case


def source(case: Case) -> None:
    """Settings that source, pictures and shards take."""
    from ldm.apps.prepare import parts

    parts(case.config.data)  # says what does not fit


def path(case: Case) -> Iterator[str]:
    """The pictures' place, where it is a plain local one."""
    data: Any = case.config.data
    given = data.get("path")
    kind = str(data["_target_"]).rpartition(".")[2]
    is_folder = kind == "FolderSource"
    if not isinstance(given, str) or "://" in given or re.search(r"[*?{\[]", given):
        return
    if kind == "HuggingFaceSource" and not given.startswith(("/", ".", "~")):
        return  # the name of a data set, which has no place of its own
    place = Path(given).expanduser()
    if is_folder and not place.is_dir():
        yield f"data.path={given} is no folder; give the folder that holds your pictures."
    elif not place.exists():
        yield f"data.path={given} does not exist; give the file or folder that holds your pictures."
    elif is_folder and Path(case.config.out).resolve() == place.resolve():
        yield (
            f"out={case.config.out} is data.path: the shards would be mixed with the pictures. "
            "Give another out=."
        )
