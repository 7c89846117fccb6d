"""A sweep as table.csv, table.md, and a page with the table and its curves."""

import csv
import io
from collections.abc import Iterator
from html import escape
from pathlib import Path

from ldm.apps.report.document import document, section
from ldm.apps.report.numbers import duration, metric, title
from ldm.apps.report.sweep_charts import charts_across, clip_chart, search_chart
from ldm.apps.report.sweep_rows import Row, Sweep, read_sweep
from ldm.apps.report.tables import listed, struck, table, why_not_valid
from ldm.apps.sweeps import states
from ldm.manifest import VERSION, atomic
from ldm.metrics.protocol import differences

PAGE = "index.html"
_STEP, _SECONDS = "step", "seconds"


def write_sweep(directory: Path) -> Path:
    """Write the tables and the page of a sweep into its folder; the page's path."""
    sweep = read_sweep(directory)
    assert sweep is not None, f"{directory} is no sweep"
    files = {"table.csv": _csv(sweep), "table.md": _markdown(sweep), PAGE: _page(directory, sweep)}
    for name, text in files.items():
        with atomic(directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return directory / PAGE


def remarks(sweep: Sweep) -> Iterator[str]:
    """Sentences on jobs that failed, numbers that do not count, and what may not be compared."""
    for row in sweep.rows:
        if row.state == states.FAILED:
            yield f"Failed: {_choice(row)}{f' ({row.why})' if row.why else ''}."
    reasons = {why_not_valid(record) for row in sweep.rows for record in row.records.values()}
    for why in sorted(reasons - {""}):
        yield f"Numbers that are struck through are not valid: {why}."
    found: dict[tuple[str, ...], list[str]] = {}
    for name in sweep.headlines:
        found.setdefault(tuple(sweep.differences(name)), []).append(name)
    for keys, names in found.items():
        if keys:
            yield (
                f"{', '.join(names)}: the protocols of these jobs differ in more than what was "
                f"varied ({', '.join(keys)}). They are not joined by a line, and none is the best."
            )


def plain(sweep: Sweep) -> str:
    """The table as lines of text; * marks the best of a column."""
    columns = [*sweep.varied, *_standing(sweep), *sweep.headlines]
    rows = [columns]
    for row in sweep.rows:
        cells = [*row.settings.values(), *_stands(sweep, row)]
        for name in sweep.headlines:
            best = "*" if _is_best(sweep, row, name) else " "
            cells.append(
                (f"{row.records[name]['value']:.5g}" if name in row.records else "-") + best
            )
        rows.append(cells)
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(columns))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]
    return "\n".join([*lines, *remarks(sweep), *_best_job(sweep)])


def _best_job(sweep: Sweep) -> Iterator[str]:
    """What a search has found, where it has."""
    for row in sweep.rows if sweep.objective else ():
        if _is_best(sweep, row, sweep.objective):
            value = metric(sweep.objective, row.value(sweep.objective))
            yield f"Best: {sweep.objective} {value} with {_choice(row)}."


def _choice(row: Row) -> str:
    return ", ".join(f"{key}={value}" for key, value in row.settings.items())


def _standing(sweep: Sweep) -> list[str]:
    """The columns on how jobs stand; those of earlier versions say nothing of their time."""
    found = ["state"]
    found += [_STEP] if any(row.step is not None for row in sweep.rows) else []
    return found + ([_SECONDS] if any(row.seconds is not None for row in sweep.rows) else [])


def _stands(sweep: Sweep, row: Row) -> list[str]:
    values = {
        "state": row.state,
        _STEP: "" if row.step is None else str(row.step),
        _SECONDS: "" if row.seconds is None else f"{row.seconds:g}",
    }
    return [values[column] for column in _standing(sweep)]


def _csv(sweep: Sweep) -> str:
    """Every number of every job in full; empty where there is none, or it is not valid."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*sweep.varied, *_standing(sweep), *sweep.names])
    for row in sweep.rows:
        values = ("" if (v := row.latest(name)) is None else repr(v) for name in sweep.names)
        writer.writerow([*row.settings.values(), *_stands(sweep, row), *values])
    return text.getvalue()


def _markdown(sweep: Sweep) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    words, numbers = [*sweep.varied, *_standing(sweep)], sweep.headlines
    rows = [line([*words, *numbers]), line(["---"] * len(words) + ["---:"] * len(numbers))]
    for row in sweep.rows:
        cells = [*row.settings.values(), *_stands(sweep, row)]
        for name in sweep.headlines:
            text = f"{row.records[name]['value']:.6g}" if name in row.records else "–"
            if why_not_valid(row.records.get(name, {})):
                text = f"~~{text}~~"
            cells.append(f"**{text}**" if _is_best(sweep, row, name) else text)
        rows.append(line(cells))
    said = [f"- {remark}" for remark in remarks(sweep)]
    return "\n".join([*rows, "", *said, *([""] if said else [])])


def _page(directory: Path, sweep: Sweep) -> str:
    said = "".join(f"<li>{escape(line)}</li>" for line in (*_best_job(sweep), *remarks(sweep)))
    curve = clip_chart(sweep) if sweep.command == "evaluate" else ""
    search = search_chart(sweep) if sweep.objective else ""
    parts = [
        f'<header><h1>{escape(directory.resolve().name)}</h1><p class="facts">{_facts(sweep)}'
        "</p></header>",
        f'<div class="verdict"><ul>{said}</ul></div>' if said else "",
        section("Fidelity and agreement with the prompt", curve) if curve else "",
        section("The search", f'<div class="charts">{search}</div>') if search else "",
        section("All jobs", _table(sweep)),
    ]
    for along in sweep.numeric():
        if charts := charts_across(sweep, along):
            across = f'<div class="charts">{"".join(charts)}</div>'
            parts.append(section(f"Across {along}", across))
    parts += [section("Protocols", _protocols(sweep)), f"<footer>Made by ldm {VERSION}.</footer>"]
    return document(directory.resolve().name, "\n".join(part for part in parts if part))


def _facts(sweep: Sweep) -> str:
    what = "Training" if sweep.command == "train" else "Evaluations"
    facts = [f"{what} over {escape(' × '.join(sweep.varied))}"]
    stand = [row.state for row in sweep.rows]
    facts.append(f"<b>{stand.count(states.FINISHED)}</b> of {len(stand)} jobs finished")
    others = dict.fromkeys(state for state in stand if state != states.FINISHED)
    facts += [f"<b>{stand.count(state)}</b> {escape(state)}" for state in others]
    if sweep.objective:
        facts.append(f"{escape(sweep.method)}, to {sweep.direction} {escape(sweep.objective)}")
    if total := sum(row.seconds or 0.0 for row in sweep.rows):
        facts.append(f"<b>{duration(total)}</b> of all jobs together")
    return "".join(f"<span>{fact}</span>" for fact in facts)


def _table(sweep: Sweep) -> str:
    rows = []
    for row in sweep.rows:
        cells = [f"<th>{escape(value)}</th>" for value in row.settings.values()]
        cells += [f'<td class="muted">{escape(text)}</td>' for text in _stands(sweep, row)]
        for name in sweep.headlines:
            text = struck(_shown(row, name), why_not_valid(row.records.get(name, {})))
            is_best = _is_best(sweep, row, name)
            cells.append(f'<td class="number">{f"<b>{text}</b>" if is_best else text}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    columns = [escape(key) for key in (*sweep.varied, *_standing(sweep))]
    columns += [escape(title(name)) for name in sweep.headlines]
    note = "<p class=muted>The best of each column is bold; all numbers are in table.csv.</p>"
    return note + table("sweep", columns, rows)


def _protocols(sweep: Sweep) -> str:
    """What the records of all jobs have in common, by number."""
    found = []
    for name in sweep.headlines:
        records = [row.records[name] for row in sweep.rows if name in row.records]
        differing = {key for other in records for key in differences(records[0], other)}
        common = {
            key: value
            for key, value in records[0]["protocol"].items()
            if key != "hash" and not any(d == key or d.startswith(f"{key}.") for d in differing)
        }
        summary = f"{title(name)}: what all jobs have in common"
        found.append(f"<details><summary>{escape(summary)}</summary>{listed(common)}</details>")
    return "".join(found)


def _shown(row: Row, name: str) -> str:
    return metric(name, row.records[name]["value"]) if name in row.records else "–"


def _is_best(sweep: Sweep, row: Row, name: str) -> bool:
    """Whether this is the best, in full and not only with the digits that are shown."""
    found = sweep.bests.get(name)
    return found is not None and row.value(name) == found
