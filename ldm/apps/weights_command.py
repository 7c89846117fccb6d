"""`ldm weights list | fetch | check`: the one command that gets pretrained files from others."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ldm.apps.compose import compose
from ldm.apps.download import Unreachable, download
from ldm.apps.errors import UserError, suggestion
from ldm.apps.progress import Bar, console, track
from ldm.weights import TABLE, Pretrained, PublishedFile
from ldm.weights.finding import sha256_of

_COLOURS = {"present": "green", "missing": "yellow", "damaged": "red"}


def weights(words: Sequence[str], *, config_dir: str | None) -> int:
    """``words`` are an action, names of the table for it, and weights_dir=FOLDER."""
    plain = [word for word in words if "=" not in word and word[:1] not in "-~"]
    config = compose("weights", [w for w in words if w not in plain], config_dir=config_dir)
    folder = Path(config.weights_dir).expanduser()
    action, *names = plain or ["list"]
    named = {*names} - {"all"}
    actions: dict[str, Callable[[Sequence[Pretrained], Path], int]] = {
        "list": _list, "fetch": _fetch, "check": partial(_check, named=bool(named)),
    }  # fmt: skip
    if action not in actions:
        raise UserError(f"`ldm weights {action}`: {suggestion(action, actions)}")
    if action == "fetch" and not names:
        raise UserError(
            f"which? `ldm weights fetch NAME` takes these names, or all: {', '.join(TABLE)}."
        )
    for name in names:
        if name not in TABLE and name != "all":
            raise UserError(f"no pretrained file is called {name!r}. {suggestion(name, TABLE)}")
    chosen = [TABLE[name] for name in TABLE if name in names or "all" in names or not names]
    return actions[action](chosen, folder)


def _list(networks: Sequence[Pretrained], folder: Path) -> int:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("name", "state", "size", "for", "licence"):
        table.add_column(column, overflow="fold")
    absent, damaged = [], []
    for network in networks:
        states = {file: _state(file, folder / file.path) for file in network.files}
        state = next((s for s in ("damaged", "missing") if s in states.values()), "present")
        absent += [file for file, found in states.items() if found != "present"]
        damaged += [str(folder / f.path) for f, found in states.items() if found == "damaged"]
        shown = f"[{_COLOURS[state]}]{state}[/]"
        table.add_row(network.name, shown, network.size, network.role, escape(network.terms))
    console.print(table)
    print(f"\nin weights_dir={folder}, by their sizes; `ldm weights check` reads them")
    if damaged:
        print(f"damaged, to be deleted and then fetched again: {', '.join(damaged)}")
    if absent:
        print("to fetch what is not there: ldm weights fetch NAME, or by hand:")
        print(_by_hand(absent, folder))
    return 0


def _check(networks: Sequence[Pretrained], folder: Path, *, named: bool) -> int:
    """Read what is there; of networks that were ``named``, all must be."""
    missing = [f for each in networks for f in each.files if not (folder / f.path).is_file()]
    if missing and named:
        raise UserError(
            f"missing: {', '.join(str(folder / file.path) for file in missing)}. To get them: ldm "
            f"weights fetch NAME weights_dir={folder}, or by hand:\n{_by_hand(missing, folder)}"
        )
    there = [f for each in networks for f in each.files if (folder / f.path).is_file()]
    damaged = []
    for file in track(there, "weights check", len(there)):
        path = folder / file.path
        sha256 = sha256_of(path)
        if file.sha256 not in (None, sha256):
            damaged.append(f"{path} (sha256 {sha256[:8]}, expected {file.sha256[:8]})")
        else:  # a text of settings has no published checksum
            print(f"{'intact' if file.sha256 else 'present'}: {path}, sha256 {sha256}", flush=True)
    if damaged:
        raise UserError(
            f"damaged, or other files than the published ones: {', '.join(damaged)}. Delete them "
            "and fetch them again."
        )
    print(f"{folder}: {len(there)} files of {len(networks)} networks, none of them damaged")
    return 0


def _fetch(networks: Sequence[Pretrained], folder: Path) -> int:
    wanted = []
    for network in networks:
        lacking = [file for file in network.files if not _is_there(file, folder / file.path)]
        wanted += lacking
        print(f"{network.name}: {network.source}, {network.size}")
        print(f"  licence: {network.terms}" if lacking else f"  is there, in {folder}")
    _require_room(wanted, folder)
    for number, file in enumerate(wanted):
        try:
            _fetch_one(file, folder / file.path)
        except Unreachable as error:
            raise UserError(
                f"{error} Run the same command again, which goes on where this one broke off; or "
                "fetch what is missing on a machine that has a connection, and put it there:\n"
                f"{_by_hand(wanted[number:], folder)}"
            ) from error
    return 0


def _fetch_one(file: PublishedFile, path: Path) -> None:
    total = None if file.num_bytes is None else round(file.num_bytes / 1e6)
    bar = Bar(f"{path.name} (MB)", total)
    try:
        for done in download(file, path):
            bar.update(round(done / 1e6))
    finally:
        bar.close()
    print(f"{path}: fetched, {path.stat().st_size:,} bytes, sha256 {sha256_of(path)}", flush=True)


def _state(file: PublishedFile, path: Path) -> str:
    if not path.is_file():
        return "missing"
    if file.sha256 is None or file.num_bytes is None:
        return "present"
    return "present" if path.stat().st_size == file.num_bytes else "damaged"


def _is_there(file: PublishedFile, path: Path) -> bool:
    """Whether a file needs no fetching; UserError where another one is in its place."""
    if not path.is_file():
        return False
    if file.sha256 in (None, sha256_of(path)):
        return True
    raise UserError(
        f"{path} is damaged or another file than the published one. Delete it, and the same "
        "command fetches it."
    )


def _require_room(files: Sequence[PublishedFile], folder: Path) -> None:
    needed = sum(file.num_bytes or 0 for file in files)
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        raise UserError(
            f"{needed / 1e6:,.0f} MB are to be fetched and {free / 1e6:,.0f} MB are free at "
            f"{there}; give another weights_dir=FOLDER."
        )


def _by_hand(files: Sequence[PublishedFile], folder: Path) -> str:
    return "\n".join(f"  {file.url}\n    -> {folder / file.path}" for file in files)
