"""The charts of a sweep: quality against fidelity to the prompt, and numbers across a setting."""

import math
from collections.abc import Mapping, Sequence

from ldm.apps.report.charts import Curve, line_chart
from ldm.apps.report.numbers import is_frechet, title
from ldm.apps.report.sweep_rows import Row, Sweep, lines

_CLIP_SCORES = ("clip_score", "clip_score_own")
_POWERS = 20.0  # a setting over such a factor is drawn by its logarithm
_MOST_LABELS = 5  # in a legend; of more lines it names the first and the last


def clip_chart(sweep: Sweep) -> str:
    """The first Fréchet distance over the CLIP score, as Stable Diffusion's model card has it.

    A line joins what differs in guidance alone, whose points are named by it (or, where guidance
    was not varied, by the first setting that is a number). "" where the numbers are not there.
    """
    clip = next((name for name in _CLIP_SCORES if _is_there(sweep, name)), None)
    distance = next((n for n in sweep.headlines if is_frechet(n) and _is_there(sweep, n)), None)
    numeric = sweep.numeric()
    if clip is None or distance is None or not numeric:
        return ""
    along = "guidance" if "guidance" in numeric else numeric[0]
    joined = lines(sweep, along, [clip, distance])
    curves = [
        Curve(
            label or title(distance),
            [(row.value(clip) or 0.0, row.value(distance) or 0.0) for row in rows],
            color,
            marked=True,
            names=[row.settings[along] for row in rows],
        )
        for (label, rows), color in _coloured(joined)
    ]
    return line_chart(
        title(distance),
        f"lower is better; at each point its {along}",
        curves,
        log=False,
        ordered=len(curves) > _MOST_LABELS,
        across=f"{title(clip)} (higher is better)",
    )


def search_chart(sweep: Sweep) -> str:
    """The objective of a search over its trials, and the best until then; "" without any."""
    name = sweep.objective
    values = [(float(trial), row.value(name)) for trial, row in enumerate(sweep.rows, 1)]
    points = [(trial, value) for trial, value in values if value is not None]
    better = min if sweep.direction == "minimize" else max
    bests = [(at, better(v for _, v in points[: i + 1])) for i, (at, _) in enumerate(points)]
    curves = [
        Curve("trial", points, "var(--train)", marked=True, joined=False),
        Curve("best until then", bests, "var(--held-out)", marked=False),
    ]
    return line_chart(title(name), name, curves, log=True, ordered=False, across="trial")


def charts_across(sweep: Sweep, along: str) -> list[str]:
    """Every headline number over a varied setting; one chart each.

    Trials of a search differ in all settings at once, so that no line joins them.
    """
    if sweep.method != "grid":
        charts = (_scattered(sweep, along, name) for name in sweep.headlines)
        return [chart for chart in charts if chart]
    found = []
    for name in sweep.headlines:
        curves = [
            Curve(
                label or title(name),
                [(row.number_of(along) or 0.0, row.value(name) or 0.0) for row in rows],
                color,
                marked=True,
            )
            for (label, rows), color in _coloured(lines(sweep, along, [name]))
        ]
        found.append(
            line_chart(
                title(name),
                "",
                curves,
                log=False,
                ordered=len(curves) > _MOST_LABELS,
                across=along,
            )
        )
    return [chart for chart in found if chart]


def _scattered(sweep: Sweep, along: str, name: str) -> str:
    """A number of every trial over one setting, which is shown by its powers of ten if it spans
    several."""
    pairs = [
        (row.number_of(along) or 0.0, value)
        for row in sweep.rows
        if (value := row.value(name)) is not None
    ]
    settings = [setting for setting, _ in pairs]
    by_power = bool(pairs) and min(settings) > 0 and max(settings) >= _POWERS * min(settings)
    points = [(math.log10(at) if by_power else at, value) for at, value in pairs]
    across = f"log10 of {along}" if by_power else along
    curve = Curve(title(name), points, "var(--train)", marked=True, joined=False)
    return line_chart(title(name), "", [curve], log=True, ordered=False, across=across)


def _is_there(sweep: Sweep, name: str) -> bool:
    return any(row.value(name) is not None for row in sweep.rows)


def _coloured(
    joined: Mapping[str, Sequence[Row]],
) -> list[tuple[tuple[str, Sequence[Row]], str]]:
    """The lines, each with a shade between two colours."""
    last = max(1, len(joined) - 1)
    shades = [
        f"color-mix(in oklab,var(--ramp-end) {100 * i / last:.0f}%,var(--ramp-start))"
        for i in range(len(joined))
    ]
    return list(zip(joined.items(), shades, strict=True))
