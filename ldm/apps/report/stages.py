"""One training run as a section of the page: pictures, curves, development, settings."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from ldm.apps.credentials import without_credentials
from ldm.apps.report.curves import charts, evaluation_charts, split_evaluation
from ldm.apps.report.numbers import duration, number
from ldm.apps.report.pictures import cut, img, opened, sheets, side_px, spread
from ldm.apps.report.tables import manifest_at, metrics
from ldm.callbacks.rows import FILE as ROWS
from ldm.callbacks.rows import read_jsonl
from ldm.manifest import read_json

PROMPTS = "prompts.json"  # in samples/: of the sheets' pictures, in order
EVALUATION = "evaluation.json"  # the latest numbers of evaluations during training
_MOST_PAIRS = 16
_MOST_STRIPS = 12  # moments of training
_STRIP_COLUMNS = 12
_BRIEF = {"global_batch": "batch of {}", "lr": "learning rate {}", "precision": "{}"}
_BRIEF |= {"size": "{} px", "seed": "seed {}"}


def stage_of(run: Path) -> str:
    """text_encoder, autoencoder or diffusion, by the run's manifest or else its configuration."""
    manifest = manifest_at(run)
    kind = manifest.kind if manifest else str(configuration(run).get("stage", ""))
    return kind.removeprefix("run_")


def configuration(run: Path) -> dict[str, Any]:
    """The run's config.yaml as plain values; empty without one."""
    path = run / "config.yaml"
    found: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def stage(run: Path, seconds: float | None) -> str:
    """Everything but the heading: what is missing in the directory is left out."""
    from ldm.apps.report.findings import conclusion, latents, noise_levels

    rows = read_jsonl(run / ROWS)
    kind, config, finished = stage_of(run), configuration(run), manifest_at(run) is not None
    parts = [_brief(run, rows, seconds)]
    if rows:
        parts.append(conclusion(kind, rows, config, finished=finished))
    paired = kind == "autoencoder"
    found = _development(run / "samples")
    if paired and found:
        parts.append(_pairs(list(found.values())[-1]))
    records = read_json(run / EVALUATION) if (run / EVALUATION).is_file() else {}
    evaluated, rest = split_evaluation(rows, records)
    main, more = charts(rest)
    if main:
        parts.append(f'<div class="charts">{"".join(main)}</div>')
    if records:
        parts.append(_evaluation(evaluated, records))
    parts.append(noise_levels(rows, config))
    if paired:
        parts.append(latents(run, rows))
    if found and (len(found) > 1 or not paired):
        parts.append(_strip(found, prompts(run), paired, len(sheets(run / "samples"))))
    if more:
        parts.append(
            f'<details><summary>{len(more)} more curves</summary><div class="charts">'
            f"{''.join(more)}</div></details>"
        )
    if (run / "config.yaml").is_file():
        text = escape(without_credentials((run / "config.yaml").read_text().strip()))
        parts.append(f"<details><summary>all settings</summary><pre>{text}</pre></details>")
    return "".join(parts)


def _evaluation(
    rows: Sequence[Mapping[str, float]], records: Mapping[str, Mapping[str, Any]]
) -> str:
    """What evaluations during training measured: curves, and the latest with their protocols."""
    step = max((record.get("step", 0) for record in records.values()), default=0)
    return (
        "<h3>Evaluation during training</h3><p class=muted>On few pictures, to watch a run by: "
        "numbers are comparable within a curve. For numbers to report use <code>ldm evaluate"
        f'</code>.</p><div class="charts">{"".join(evaluation_charts(rows))}</div>'
        f"<details><summary>the numbers of step {step:,} with their protocols</summary>"
        f"{metrics(records)}</details>"
    )


def last_pictures(run: Path) -> tuple[int, list[Image.Image]] | None:
    """The step and the pictures of the run's newest sheet."""
    found = _development(run / "samples")
    return list(found.items())[-1] if found else None


def prompts(run: Path) -> list[str]:
    """What the sample pictures of a run are drawn from; empty where that is not known."""
    path = run / "samples" / PROMPTS
    return [str(prompt) for prompt in read_json(path)] if path.is_file() else []


def _brief(run: Path, rows: list[dict[str, float]], seconds: float | None) -> str:
    """One line of facts: steps, batch, learning rate, speed, time."""
    config, manifest = configuration(run), manifest_at(run)
    step = manifest.facts.get("step") if manifest else max((r["step"] for r in rows), default=0)
    facts = [f"<b>{number(step or 0)}</b> steps"]
    for key, words in _BRIEF.items():
        if config.get(key) is not None:
            value = config[key]
            text = f"{value:g}" if isinstance(value, float) else str(value)
            facts.append(words.format(f"<b>{escape(text)}</b>"))
    speeds = sorted(row["images_per_second"] for row in rows if "images_per_second" in row)
    if speeds:
        facts.append(f"<b>{number(round(speeds[len(speeds) // 2]))}</b> images per second")
    if seconds is not None:
        facts.append(f"<b>{duration(seconds)}</b>")
    if manifest is None:
        facts.append("not finished")
    return f'<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>'


def _development(samples: Path) -> Mapping[int, list[Image.Image]]:
    """The pictures of some sheets, evenly over training, by step."""
    paths = sheets(samples)
    chosen = spread(list(paths), _MOST_STRIPS)
    found = {step: image for step in chosen if (image := opened(paths[step])) is not None}
    if not found:
        return {}
    last = list(found.values())[-1]
    side = side_px(last)
    return {step: cut(s, side if s.size == last.size else None) for step, s in found.items()}


def _pairs(pictures: list[Image.Image]) -> str:
    if len(pictures) < 2:
        return ""
    pairs = [
        '<div class="pair">'
        + img(pictures[i], "original", wide_px=128, narrow_px=64)
        + img(pictures[i + 1], "reconstruction", wide_px=128, narrow_px=64)
        + "</div>"
        for i in range(0, min(len(pictures) - 1, 2 * _MOST_PAIRS), 2)
    ]
    return (
        "<h3>Reconstructions</h3><p class=muted>Held-out pictures, in pairs: the original on the "
        f'left, its reconstruction on the right.</p><div class="pairs">{"".join(pairs)}</div>'
    )


def _strip(
    development: Mapping[int, list[Image.Image]],
    words: Sequence[str],
    paired: bool,
    num_sheets: int,
) -> str:
    """A row of pictures for each moment of training: the same subjects in each column."""
    first = 1 if paired else 0
    rows = [
        (f"step {step:,}", pictures[first :: first + 1]) for step, pictures in development.items()
    ]
    if paired:
        rows.append(("original", list(development.values())[-1][::2]))
    body = []
    for label, pictures in rows:
        shown = (img(p, label, wide_px=64, narrow_px=32) for p in pictures[:_STRIP_COLUMNS])
        body.append(f"<tr><th>{label}</th>{''.join(f'<td>{image}</td>' for image in shown)}</tr>")
    if words:
        shown = (f"<td><small>{escape(word)}</small></td>" for word in words[:_STRIP_COLUMNS])
        body.append(f"<tr><th></th>{''.join(shown)}</tr>")
    what = "The same held-out picture" if paired else "The same prompt and seed"
    of = "All" if num_sheets == len(development) else f"{len(development)} of the"
    return (
        f"<h3>Over training</h3><p class=muted>{what} in each column, by the averaged weights. "
        f"{of} {num_sheets} validations.</p>"
        f'<div class="strip"><table>{"".join(body)}</table></div>'
    )
