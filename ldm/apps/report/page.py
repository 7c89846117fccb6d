"""The report: a self-contained page about a recipe's directory or a single run."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from ldm.apps.bill.bill import FILE as MATERIALS
from ldm.apps.closing import said
from ldm.apps.report import judged, stages, tables
from ldm.apps.report.document import document, section
from ldm.apps.report.numbers import duration, samples, title
from ldm.apps.report.pictures import img, opened
from ldm.apps.report.sweep_charts import clip_chart
from ldm.apps.report.sweep_rows import SWEEP, read_sweep
from ldm.apps.report.tables import why_not_valid
from ldm.callbacks.rows import FILE as ROWS
from ldm.manifest import VERSION, Manifest, atomic, read_json

RUNS = ("text_encoder", "autoencoder", "diffusion")  # the sub-folders of a recipe that are runs
ARTEFACTS = ("shards", "shards/held_out", "text_encoder", "autoencoder", "latents", "diffusion")
MOST_SAMPLES = 32


def write_report(directory: Path) -> Path:
    """Write ``directory/report.html`` from what the directory holds; its path.

    A recipe's directory (sub-folders text_encoder, autoencoder, diffusion, samples, ...) or a
    run's (config.yaml, metrics.jsonl, samples/step_*.png, ...). Missing parts are left out;
    ValueError if nothing of either is there.
    """
    directory = Path(directory)
    if any((directory / name).is_dir() for name in ARTEFACTS):
        body = _recipe(directory)
    elif any((directory / name).is_file() for name in ("config.yaml", ROWS)):
        body = _run(directory)
    else:
        raise ValueError(
            f"{directory} holds neither a run (config.yaml, metrics.jsonl) nor a recipe (shards, "
            "autoencoder, ...): there is nothing to report. Give the directory of ldm train or run."
        )
    path = directory / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(document(_name(directory), body), encoding="utf-8")
    return path


def refresh_report(directory: Path) -> None:
    """Write the report of a directory anew where there is one, as it shows what has changed."""
    if (directory / "report.html").is_file():
        write_report(directory)


def _name(directory: Path) -> str:
    return directory.resolve().name


def _recipe(directory: Path) -> str:
    timings = _json(directory / "timings.json")
    records = _json(directory / "metrics.json")
    found = {name: tables.manifest_at(directory / name) for name in ARTEFACTS}
    manifests = {name: manifest for name, manifest in found.items() if manifest is not None}
    valid = {name: record for name, record in records.items() if not why_not_valid(record)}
    values = {name: record["value"] for name, record in valid.items()}
    notes = {name: samples(record.get("protocol", {})) for name, record in valid.items()}
    runs = {name: directory / name for name in RUNS if (directory / name).is_dir()}
    parts = [
        _header(directory, "A latent diffusion model and how it was trained", manifests, timings),
        _samples(directory / "samples"),
        tables.tiles(values, notes),
        _evaluation(directory, records),
        *(
            section(title(name), stages.stage(run, timings.get(f"train_{name}")))
            for name, run in runs.items()
        ),
        section("Time", tables.times(timings)) if timings else "",
        section("Made from", tables.provenance(manifests)) if manifests else "",
        _materials(runs.values()),
        _footer(manifests),
    ]
    return "\n".join(part for part in parts if part)


def _run(run: Path) -> str:
    manifest = tables.manifest_at(run)
    manifests = {_name(run): manifest} if manifest else {}
    facts = manifest.facts if manifest else {}
    numbers = {
        name: value for name, value in facts.items() if isinstance(value, float) and said(name)
    }
    kind = stages.stage_of(run)
    newest = stages.last_pictures(run) if kind == "diffusion" else None
    picture = ""
    if newest:
        words = stages.prompts(run)
        shown = "".join(
            _figure(image, words[i] if i < len(words) else "", "sample")
            for i, image in enumerate(newest[1][:MOST_SAMPLES])
        )
        picture = section(f"Samples at step {newest[0]:,}", f'<div class="samples">{shown}</div>')
    parts = [
        _header(run, f"One run of stage {title(kind).lower()}" if kind else "One run", {}, {}),
        picture,
        tables.tiles(numbers, dict.fromkeys(numbers, "held out, at the end")),
        _evaluation(run, _json(run / "metrics.json")),
        section("Training", stages.stage(run, None)),
        section("Made from", tables.provenance(manifests)) if manifests else "",
        _materials([run]),
        _footer(manifests),
    ]
    return "\n".join(part for part in parts if part)


def _header(
    directory: Path,
    what: str,
    manifests: Mapping[str, Manifest],
    timings: Mapping[str, float],
) -> str:
    facts = []
    if shards := manifests.get("shards"):
        count, size = shards.facts.get("num_samples"), shards.settings.get("size_px")
        if count:
            of = f" of {size} px" if size else ""
            facts.append(f"<b>{count:,}</b> training pictures{escape(of)}")
    if timings:
        facts.append(f"<b>{duration(sum(timings.values()))}</b> from start to end")
    line = "".join(f"<span>{fact}</span>" for fact in (escape(what), *facts))
    return f'<header><h1>{escape(_name(directory))}</h1><p class="facts">{line}</p></header>'


def _samples(directory: Path) -> str:
    """The first pictures of samples/ in order, each above its prompt; else the grid as it is."""
    paths = sorted(directory.glob("[0-9]*.png"))
    rows = _json(directory / "samples.json").get("pictures", [])
    shown = []
    for i, path in enumerate(paths[:MOST_SAMPLES]):
        image = opened(path)
        row = rows[i] if i < len(rows) else {}
        words = str(row.get("prompt", ""))
        hint = f"{words or path.name}" + (f" (seed {row['seed']})" if "seed" in row else "")
        if image is not None:
            shown.append(_figure(image, words, hint))
    if shown:
        of = f"The first {len(shown)} of {len(paths)}" if len(paths) > len(shown) else "All"
        note = f"<p class=muted>{of}, in order and unselected.</p>"
        return section("Samples", f'{note}<div class="samples">{"".join(shown)}</div>')
    grid = opened(directory / "grid.png")
    if grid is None:
        return ""
    return section("Samples", img(grid, "sample grid", wide_px=1100, narrow_px=360))


def _evaluation(directory: Path, records: Mapping[str, Any]) -> str:
    """What `ldm evaluate` measured here: numbers, curves of a sweep, and single samples."""
    parts = [tables.metrics(records)] if records else []
    for file in sorted(directory.glob(f"*/{SWEEP}")):
        with suppress(ValueError):  # damaged
            if (sweep := read_sweep(file.parent)) and (curve := clip_chart(sweep)):
                parts.append(f"<h3>Sweep <code>{escape(file.parent.name)}</code></h3>{curve}")
    if records:
        parts += [judged.by_clip_score(directory, records), judged.neighbours(directory, records)]
    content = "".join(parts)
    return section("Evaluation", content) if content else ""


def _figure(image: Any, words: str, hint: str) -> str:
    caption = f"<figcaption>{escape(words)}</figcaption>" if words else ""
    return f"<figure>{img(image, hint, wide_px=128, narrow_px=108)}{caption}</figure>"


def _materials(runs: Iterable[Path]) -> str:
    """The bill of the last of the runs, which has all that it was made of on it."""
    bills = [_json(run / MATERIALS) for run in runs]
    bill = next((bill for bill in reversed(bills) if bill), None)
    return section("Materials", tables.materials(bill)) if bill else ""


def _footer(manifests: Mapping[str, Manifest]) -> str:
    makers = sorted({manifest.made_by for manifest in manifests.values()}) or [f"ldm {VERSION}"]
    return f"<footer>Made by {escape(', '.join(makers))}.</footer>"


def _json(path: Path) -> Any:
    return read_json(path) if path.is_file() else {}
