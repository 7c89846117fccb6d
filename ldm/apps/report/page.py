"""The report: a self-contained page about a recipe's directory or a single run."""

from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from ldm.apps.closing import said
from ldm.apps.report import stages, tables
from ldm.apps.report.numbers import duration, samples, title
from ldm.apps.report.pictures import img, opened
from ldm.manifest import VERSION, Manifest, atomic, read_json

RUNS = ("text_encoder", "autoencoder", "diffusion")  # the sub-folders of a recipe that are runs
ARTEFACTS = ("shards", "shards/held_out", "text_encoder", "autoencoder", "latents", "diffusion")
MOST_SAMPLES = 32
# The page may show and run what it carries, and load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(directory: Path) -> Path:
    """Write ``directory/report.html`` from what the directory holds; its path.

    A recipe's directory (sub-folders text_encoder, autoencoder, diffusion, samples, ...) or a
    run's (config.yaml, metrics.jsonl, samples/step_*.png, ...). Missing parts are left out;
    ValueError if nothing of either is there.
    """
    directory = Path(directory)
    if any((directory / name).is_dir() for name in ARTEFACTS):
        body = _recipe(directory)
    elif any((directory / name).is_file() for name in ("config.yaml", "metrics.jsonl")):
        body = _run(directory)
    else:
        raise ValueError(
            f"{directory} holds neither a run (config.yaml, metrics.jsonl) nor a recipe (shards, "
            "autoencoder, ...): there is nothing to report. Give the directory of ldm train or run."
        )
    path = directory / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(_document(_name(directory), body), encoding="utf-8")
    return path


def _document(name: str, body: str) -> str:
    style, script = (_resource(file) for file in ("style.css", "hover.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} · report</title><style>{style}</style></head><body>\n"
        f"{body}\n<script>{script}</script></body></html>\n"
    )


def _resource(name: str) -> str:
    return resources.files("ldm.apps.report").joinpath(name).read_text(encoding="utf-8")


def _name(directory: Path) -> str:
    return directory.resolve().name


def _recipe(directory: Path) -> str:
    timings = _json(directory / "timings.json")
    records = _json(directory / "metrics.json")
    found = {name: tables.manifest_at(directory / name) for name in ARTEFACTS}
    manifests = {name: manifest for name, manifest in found.items() if manifest is not None}
    values = {name: record["value"] for name, record in records.items()}
    notes = {name: samples(record.get("protocol", {})) for name, record in records.items()}
    runs = {name: directory / name for name in RUNS if (directory / name).is_dir()}
    parts = [
        _header(directory, "A latent diffusion model and how it was trained", manifests, timings),
        _samples(directory / "samples"),
        tables.tiles(values, notes),
        _section("Metrics", tables.metrics(records)) if records else "",
        *(
            _section(title(name), stages.stage(run, timings.get(f"train_{name}")))
            for name, run in runs.items()
        ),
        _section("Time", tables.times(timings)) if timings else "",
        _section("Made from", tables.provenance(manifests)) if manifests else "",
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
        picture = _section(f"Samples at step {newest[0]:,}", f'<div class="samples">{shown}</div>')
    parts = [
        _header(run, f"One run of stage {title(kind).lower()}" if kind else "One run", {}, {}),
        picture,
        tables.tiles(numbers, dict.fromkeys(numbers, "held out, at the end")),
        _section("Training", stages.stage(run, None)),
        _section("Made from", tables.provenance(manifests)) if manifests else "",
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
        return _section("Samples", f'{note}<div class="samples">{"".join(shown)}</div>')
    grid = opened(directory / "grid.png")
    if grid is None:
        return ""
    return _section("Samples", img(grid, "sample grid", wide_px=1100, narrow_px=360))


def _figure(image: Any, words: str, hint: str) -> str:
    caption = f"<figcaption>{escape(words)}</figcaption>" if words else ""
    return f"<figure>{img(image, hint, wide_px=128, narrow_px=108)}{caption}</figure>"


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def _footer(manifests: Mapping[str, Manifest]) -> str:
    makers = sorted({manifest.made_by for manifest in manifests.values()}) or [f"ldm {VERSION}"]
    return f"<footer>Made by {escape(', '.join(makers))}.</footer>"


def _json(path: Path) -> Any:
    return read_json(path) if path.is_file() else {}
