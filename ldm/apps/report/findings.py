"""What a run found out about its product: the verdict, its latents, its loss by noise level."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from ldm.apps.learning import BINS, Level, in_words, level
from ldm.apps.readiness import Rows, reasons_against
from ldm.apps.report.numbers import metric, number
from ldm.apps.report.pictures import cut, img, opened, sheets, side_px
from ldm.tasks.latent_health import HALF_LIMIT
from ldm.tasks.latent_pictures import LATENT_COLUMNS, PERTURBATIONS

_KINDS = [
    "reconstruction",
    *(f"with {size:g} std of noise on the latents" for size in PERTURBATIONS),
    "decoded noise: expected to be noise before a prior is learned",
]


def conclusion(kind: str, rows: Rows, config: Mapping[str, Any], *, finished: bool) -> str:
    """The verdict on an autoencoder or a denoiser in words; "" of others."""
    if kind == "diffusion":
        words = in_words(_last(rows, "val/loss")) or "not validated yet: nobody knows if it learns"
        return f'<p class="verdict">{escape(words[:1].upper() + words[1:])}.</p>'
    if kind != "autoencoder":
        return ""
    reasons = reasons_against(rows, config)
    head = "not ready for stage 2 because" if reasons else "ready for stage 2"
    head = head.capitalize() if finished else f"Not finished; if it ended now, it would be {head}"
    clauses = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return f'<div class="verdict"><b>{head}</b>{f"<ul>{clauses}</ul>" if clauses else "."}</div>'


def noise_levels(rows: Rows, config: Mapping[str, Any]) -> str:
    """The last validation by timestep, beside what predictors that learned nothing pay."""
    last = _last(rows, "val/loss")
    found = {i: level(last, f"_bin_{i}") for i in range(BINS)}
    body = [
        _row(_timesteps(i, config), losses) for i, losses in found.items() if losses is not None
    ]
    if not body:
        return ""
    body += [_row("all", whole)] if (whole := level(last)) else []
    columns = ("timesteps", "held-out loss", "linear predictor", "answering zero", "times below")
    return (
        f"<h3>Is it learning?</h3><p class=muted>At step {last['step']:,.0f}. A linear predictor "
        "knows how noisy its input is and no picture; only what lies below it was learned from "
        "pictures.</p>" + _table(columns, body)
    )


def _row(name: str, losses: Level) -> str:
    times = losses.times_below
    values = (*map(number, losses), f"{times:.1f}" if times >= 1.0 else f"{times:.2g}")
    return f"<tr><th>{name}</th>{''.join(f'<td class=number>{v}</td>' for v in values)}</tr>"


def _timesteps(i: int, config: Mapping[str, Any]) -> str:
    total = (config.get("schedule") or {}).get("num_steps")
    if total is None:
        return f"{i + 1} of {BINS}"
    first, end = (math.ceil(total * edge / BINS) for edge in (i, i + 1))
    return f"{first:,} to {end - 1:,}"


def latents(run: Path, rows: Rows) -> str:
    """The health of an autoencoder's latents: numbers of the last validation, and pictures."""
    last = _last(rows, "val/dead_channels")
    body = [f"<tr><th>{k}</th><td class=number>{escape(v)}</td></tr>" for k, v in _health(last)]
    parts = [_table(("held-out pictures, averaged weights", ""), body)] if body else []
    found = sheets(run / "samples" / "latents")
    sheet = opened(list(found.values())[-1]) if found else None
    if sheet is not None:
        parts.append(_pictures(cut(sheet, side_px(sheet))))
    return f"<h3>Latents</h3>{''.join(parts)}" if parts else ""


def _health(last: Mapping[str, float]) -> list[tuple[str, str]]:
    if not last:
        return []
    spreads = []
    for channel in count():
        if (spread := last.get(f"val/latent_std_{channel}")) is None:
            break
        spreads.append(number(spread))
    found = [("spread of each channel", ", ".join(spreads))]
    found.append(("channels that carry next to nothing", number(last["val/dead_channels"])))
    if "val/outlier_share" in last:
        found.append(("beyond 5 standard deviations", f"{100 * last['val/outlier_share']:.2g} %"))
    if (nats := last.get("val/kl_per_dimension")) is not None:
        bits = number(nats / math.log(2.0))
        found.append(("KL per latent dimension", f"{number(nats)} nats = {bits} bits"))
        found.append(("spread of a posterior", number(last["val/posterior_sigma"])))
    for name in ("codebook_usage", "codebook_perplexity", "quantization_error"):
        if (value := last.get(f"val/{name}")) is not None:
            found.append((name.replace("_", " "), metric(name, value)))
    if "val/fits_half" in last:
        peak = max(value for name, value in last.items() if name.startswith("val/decoder_peak_"))
        verdict = "fp16 will do" if last["val/fits_half"] else "decode in fp32 (force_upcast)"
        found.append(
            ("largest value in the decoder", f"{number(peak)} of {HALF_LIMIT:,.0f}: {verdict}")
        )
    return found


def _pictures(pictures: Sequence[Any]) -> str:
    """A row for each kind of picture; the sheet has them side by side."""
    if len(pictures) % LATENT_COLUMNS:
        return ""  # a sheet that was not cut
    body = []
    for i, label in enumerate(_KINDS):
        shown = (img(p, label, wide_px=64, narrow_px=32) for p in pictures[i::LATENT_COLUMNS])
        cells = "".join(f"<td>{image}</td>" for image in shown)
        body.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return f'<div class="strip wordy"><table>{"".join(body)}</table></div>'


def _table(columns: Sequence[str], body: Sequence[str]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    return (
        f'<div class="wide"><table class="narrow"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _last(rows: Rows, name: str) -> Mapping[str, float]:
    """The newest row that has a number; empty without one."""
    return next((row for row in reversed(rows) if name in row), {})
