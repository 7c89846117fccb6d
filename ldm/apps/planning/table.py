"""A plan for people: a table on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator
from typing import Any

from ldm.apps.report.numbers import duration, size_in_words

Document = dict[str, Any]
_COLUMNS = (
    "GPUs", "passes", "memory", "images/s", "MFU", "scaling", "hours", "GPU-hours", "cost"
)  # fmt: skip


def show(document: Document) -> None:
    """Print all of a plan."""
    trainings = document["trainings"]
    for training in trainings:
        for line in _lines(training):
            print(line)
        if training["scaling"]:
            _table(training["title"], training["scaling"])
    if document["cache_bytes"] is not None:
        print(
            f"latent cache of {document['images']:,} images: "
            f"{size_in_words(document['cache_bytes'])}"
        )
    if len(trainings) > 1 and document["scaling"]:
        _table("all of them", document["scaling"])
    print(_outcome(document))
    print("counted, taken and assumed:")
    for assumption in document["assumptions"]:
        print(f"  - {assumption}")
    sys.stdout.flush()


def _lines(training: Document) -> Iterator[str]:
    yield (
        f"{training['title']}, global batch {training['global_batch']:,}: "
        f"{training['images_seen']:,} images seen, {training['train_flops']:.3g} FLOP"
    )
    yield (
        f"  per image: {_flops(training['train_flops_per_image'])} to train (forward "
        f"{_flops(training['forward_flops_per_image'])})"
        + _more("recomputed", training["recomputed_flops_per_image"])
        + "".join(_more(name, v) for name, v in training["frozen_flops_per_image"].items())
    )
    once = training["once_flops_per_image"]
    if once:
        each = ", ".join(f"{_name(name)} {_flops(value)}" for name, value in once.items())
        yield f"  once per image, before: {each}"
    counts = ", ".join(f"{_name(name)} {n:,}" for name, n in training["parameters"].items())
    yield f"  parameters: {counts}"
    memory = {n: v for n, v in training["memory_bytes"].items() if n != "total"}
    each = ", ".join(f"{_name(name)} {size_in_words(value)}" for name, value in memory.items())
    yield (
        f"  memory per device, as configured: {size_in_words(training['memory_bytes']['total'])} "
        f"({each})"
    )
    yield (
        f"  on the disk: checkpoint {size_in_words(training['checkpoint_bytes'])}, model "
        f"{size_in_words(training['model_bytes']['total'])}" + _cache(training)
    )
    if training["measured"] is not None:
        yield f"  {training['rate']}"


def _cache(training: Document) -> str:
    ids, features = (training[f"cache_bytes_per_image{end}"] for end in ("", "_with_features"))
    if ids is None:
        return ""
    more = f" ({size_in_words(features)} with store=features)" if features else ""
    return f", latents {size_in_words(ids)} per image{more}"


def _outcome(document: Document) -> str:
    """The time and the money, or what to type to have them."""
    if document["hours"] is None:
        refused = {row["gpus"]: row.get("refused") for row in document["scaling"]}
        why = refused.get(document["gpus"])
        if why:
            return f"on {document['gpus']} GPU(s) this cannot be trained: {why}"
        if document["gpu"] is not None:
            return "no time is known of all of it, for the reason above"
        return (
            "no time is known: name a GPU (gpu=h100), with mfu=0.3 where none was published for "
            "it, or measure here (measure=true)"
        )
    where = (
        f"{document['gpus']} x {document['gpu']}"
        if document["gpu"] is not None
        else "this machine's device"
    )
    cost = "" if document["cost"] is None else f", costs {_amount(document['cost'])}"
    spent = document["gpu_hours"]
    gpu_hours = "" if spent is None else f" ({_amount(spent)} GPU-hours)"
    return (
        f"on {where}: {document['images_per_second']:,.1f} images/s, "
        f"{duration(3600 * document['hours'])}{gpu_hours}{cost}"
    )


def _table(title: str, rows: list[Document]) -> None:
    cells = [_cells(row) for row in rows if "refused" not in row]
    used = [i for i in range(len(_COLUMNS)) if any(row[i] for row in cells)]
    names = [_COLUMNS[i] for i in used]
    lines = [[row[i] for i in used] for row in cells]
    if cells and sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left")
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            table.add_row(*line)
        Console().print(table)
    elif cells:
        print(f"  {title}")
        widths = [max(map(len, column)) for column in zip(names, *lines, strict=True)]
        for line in (names, *lines):
            print("  " + "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)))
    for row in rows:
        if "refused" in row:
            print(f"  {row['gpus']:,} GPU(s): {row['refused']}")


def _cells(row: Document) -> list[str]:
    mfu, cost = row.get("mfu"), row.get("cost")
    return [
        f"{row['gpus']:,}",
        f"{row['micro_batch']} x {row['accumulate']}" if row["micro_batch"] else "",
        size_in_words(row["memory"]),
        f"{row['images_per_second']:,.1f}",
        "" if mfu is None else f"{mfu:.1%}",
        f"{row['efficiency']:.0%}",
        _amount(row["hours"]),
        _amount(row["gpu_hours"]),
        "" if cost is None else _amount(cost),
    ]


def _amount(value: float) -> str:
    if value < 10.0:
        return f"{value:.2g}"
    return f"{value:,.1f}" if value < 100.0 else f"{value:,.0f}"


def _flops(count: float) -> str:
    for unit, one in (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if count >= one:
            return f"{count / one:,.4g} {unit}"
    return f"{count:,.4g} FLOP"


def _more(name: str, count: float) -> str:
    return f", {_name(name)} {_flops(count)}" if count else ""


def _name(name: str) -> str:
    return name.replace("_", " ")
