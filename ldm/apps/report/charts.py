"""Line charts as inline SVG, written by hand: axes, ticks, legend, a title for hovering."""

import json
import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from ldm.apps.report.numbers import number

_WIDTH, _HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 498, 10, 222
_MOST_POINTS = 200  # per curve: more than a chart this wide can show


class Curve(NamedTuple):
    """A named line: points (step, value), the CSS colour, and whether to mark its points.

    A level is what others are held against: the last value, dashed over the whole chart. ``names``
    stand beside the points, which are then all shown; there are as many, or none. ``joined`` by a
    line, or points alone.
    """

    label: str
    points: list[tuple[float, float]]
    color: str
    marked: bool
    level: bool = False
    names: Sequence[str] = ()
    joined: bool = True


def line_chart(
    title: str,
    unit: str,
    curves: Sequence[Curve],
    *,
    log: bool,
    ordered: bool,
    across: str = "step",
) -> str:
    """A figure with one chart; "" if no curve has a finite point.

    log: a logarithmic value axis, taken only where every value is positive and they span a
    factor of ten. ordered: the curves are a family, whose legend names the first and the last.
    across: what the horizontal axis is; that of steps begins at 0, others where their values do.
    Long curves are shown as the means of neighbouring points, at most 200.
    """
    shown = [curve for curve in map(_finite, curves) if curve.points]
    if not shown:
        return ""
    values = [value for curve in shown for _, value in curve.points]
    steps = [step for curve in shown for step, _ in curve.points]
    log = log and min(values) > 0 and max(values) >= 10 * min(values)
    by_step = across == "step"
    first, last = (min(0, *steps), max(steps)) if by_step else _range(steps, False)
    low, high = _range(values, log)
    position = math.log10 if log else float

    def x(step: float) -> float:
        return _LEFT + (step - first) / ((last - first) or 1) * (_RIGHT - _LEFT)

    def y(value: float) -> float:
        share = (position(value) - position(low)) / (position(high) - position(low))
        return _BOTTOM - share * (_BOTTOM - _TOP)

    marks = []
    for tick, text in _labelled(_log_ticks(low, high) if log else ticks(low, high, 5)):
        marks.append(f'<path class="rule" d="M{_LEFT} {y(tick):.1f}H{_RIGHT}"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{text}</text>')
    for tick, text in _labelled(ticks(first, last, 5)):
        marks.append(
            f'<text x="{x(tick):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">'
            f"{'step ' if by_step and not tick else ''}{text}</text>"
        )
    if not by_step:
        marks.append(
            f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT + 8}" text-anchor="middle">'
            f"{escape(across)}</text>"
        )
    for curve in shown:
        if curve.level:
            marks.append(
                f'<path class="curve level" style="stroke:{curve.color}" '
                f'd="M{_LEFT} {y(curve.points[-1][1]):.1f}H{_RIGHT}"/>'
            )
            continue
        where = [f"{x(step):.1f} {y(value):.1f}" for step, value in curve.points]
        kind = "marked" if curve.marked else "plain"
        if curve.joined:
            marks.append(
                f'<path class="curve {kind}" style="stroke:{curve.color}" d="M{"L".join(where)}"/>'
            )
        if (curve.marked and len(where) <= 40) or len(where) == 1 or not curve.joined:
            dots = "".join(f"M{point}h0" for point in where)
            marks.append(f'<path class="dots" style="stroke:{curve.color}" d="{dots}"/>')
        for name, (step, value) in zip(curve.names, curve.points, strict=False):
            above = y(value) - 8 if y(value) - 8 > _TOP + 8 else y(value) + 18
            marks.append(
                f'<text class="name" x="{x(step):.1f}" y="{above:.1f}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
    frame = f"{title}{f', {unit}' if unit else ''}"
    hover = {
        "across": across,
        "frame": [_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, first, last],
        "curves": [[c.label, [[s, number(v)] for s, v in c.points]] for c in shown],
    }
    scale = ' <span class="note">logarithmic</span>' if log else ""
    return (
        f'<figure class="chart" data-chart="{escape(json.dumps(hover, separators=(",", ":")))}">'
        f"<figcaption><b>{escape(title)}</b>{f' <span>{escape(unit)}</span>' if unit else ''}"
        f"{scale}{_legend(shown, ordered)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT if by_step else _HEIGHT + 14}" role="img">'
        f"<title>{escape(frame)} by {escape(across)}</title>"
        f'{"".join(marks)}<path class="cursor" d="M0 {_TOP}V{_BOTTOM}"/></svg></figure>'
    )


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within [low, high], at most ``most`` + 1 of them, in steps of 1, 2 or 5."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    start, stop = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(start, stop + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1,), (1, 3), (1, 2, 5)):
        found = [m * 10.0**p for p in powers for m in multiples if low <= m * 10.0**p <= high]
        if len(found) >= 3:
            return found[:: -(-len(found) // 6)]
    return found if len(found) == 2 else ticks(low, high, 4)


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    """Limits of the value axis: all values and some air."""
    low, high = min(values), max(values)
    if log:
        air = max(high / low, 1.1) ** 0.05
        return low / air, high * air
    air = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.3 * high else low - air), high + air


def _finite(curve: Curve) -> Curve:
    """The points that can be shown, few enough for a chart; a named one keeps its name."""
    if not curve.names:
        return curve._replace(points=_thin([p for p in curve.points if math.isfinite(p[1])]))
    pairs = zip(curve.points, curve.names, strict=True)
    kept = [(p, name) for p, name in pairs if math.isfinite(p[0]) and math.isfinite(p[1])]
    return curve._replace(points=[p for p, _ in kept], names=[name for _, name in kept])


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(v for _, v in group) / len(group)) for group in groups]


def _labelled(found: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks with their texts, in which neighbours differ."""
    if len(found) == 1:
        return [(found[0], number(found[0]))]
    gaps = [b - a for a, b in pairwise(found)]
    return [(tick, _tick(tick, gap)) for tick, gap in zip(found, [gaps[0], *gaps], strict=True)]


def _tick(value: float, gap: float) -> str:
    """A tick with the digits that the gap to its neighbour has."""
    size = abs(value)
    decimals = -math.floor(math.log10(min(size, gap) if size else gap))
    if 0 < size < 1e-3:
        return f"{value:.{math.floor(math.log10(size)) + decimals + 1}g}"
    power, unit = (6, "M") if size >= 1e6 else (3, "k") if size >= 1e4 else (0, "")
    text = f"{value / 10**power:,.{max(decimals + power, 0)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + unit


def _legend(curves: Sequence[Curve], ordered: bool) -> str:
    if ordered and len(curves) > 2:
        colors = "".join(f'<i style="background:{c.color}"></i>' for c in curves)
        first, last = escape(curves[0].label), escape(curves[-1].label)
        return f'<span class="legend">{first}<span class="family">{colors}</span>{last}</span>'
    keys = "".join(
        f'<span class="key"><i style="background:{c.color}"></i>{escape(c.label)}</span>'
        for c in curves
    )
    return f'<span class="legend">{keys}</span>'
