"""Which of a run's logged numbers make which chart."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ldm.apps.learning import BINS
from ldm.apps.report.charts import Curve, line_chart
from ldm.apps.report.numbers import is_headline, split_count, title
from ldm.apps.report.tables import rank

_TRAIN, _HELD_OUT = "var(--train)", "var(--held-out)"
_FAMILY = re.compile(r"(.*)_(\d+)")  # latent_std_0, latent_std_1, ...


class _Chart(NamedTuple):
    title: str
    unit: str
    curves: Mapping[str, str]  # logged name -> label
    log: bool = False
    factor: float = 1.0
    ordered: bool = False


def _bins(name: str) -> dict[str, str]:
    ends = {0: "least noise", BINS - 1: "most"}
    return {f"val/{name}_bin_{i}": ends.get(i, f"bin {i}") for i in range(BINS)}


def _both(name: str) -> dict[str, str]:
    return {f"train/{name}": "training", f"val/{name}": "held out"}


# What predictors that learned nothing pay, beside what the denoiser does.
_LEVELS = {"val/linear_loss": "linear predictor", "val/zero_loss": "answering zero"}
_MAIN = (
    _Chart("Loss", "", _both("loss") | _LEVELS, log=True),
    _Chart("PSNR", "dB", _both("psnr")),
    _Chart("Retrieval of the right caption", "%", _both("retrieval"), factor=100.0),
    _Chart("Held-out loss by timestep", "", _bins("loss"), log=True, ordered=True),
    _Chart("KL per latent dimension", "nats", _both("kl_per_dimension")),
    _Chart("Codebook usage", "%", _both("codebook_usage"), factor=100.0),
    _Chart("Codebook perplexity", "codes", _both("codebook_perplexity")),
    _Chart("Perceptual distance", "", _both("perceptual")),
)
_MORE = (
    _Chart("Weighted loss", "", _both("weighted_loss"), log=True),
    _Chart("Weighted loss by timestep", "", _bins("weighted_loss"), log=True, ordered=True),
    _Chart("Absolute error", "L1, of a range of 2", _both("l1"), log=True),
    _Chart(
        "Discriminator's logits",
        "",
        {"train/logits_real": "real", "train/logits_fake": "reconstructed"},
    ),
    _Chart(
        "Adversarial losses", "", {"train/d_loss": "discriminator", "train/g_loss": "autoencoder"}
    ),
    _Chart("Weight of the adversarial loss", "", {"train/d_weight": "weight"}),
    _Chart(
        "Largest value in the decoder",
        "",
        {"val/decoder_peak_mid": "deepest"}
        | {f"val/decoder_peak_up_{i}": f"block {i}" for i in range(8)},
        log=True,
        ordered=True,
    ),
    _Chart("Latents beyond 5 standard deviations", "%", _both("outlier_share"), factor=100.0),
    _Chart("Learning rate", "", {"learning_rate": "learning rate"}),
    _Chart("Speed", "images per second", {"images_per_second": "all processes"}),
    _Chart(
        "Computing speed",
        "TFLOP per second and device: model FLOPs, 1 MAC = 2",
        {"tflops_per_second": "forward and backward of the trained network"},
    ),
    _Chart(
        "Model FLOPs utilisation (MFU)",
        "% of the device's dense peak",
        {"mfu": "nothing recomputed or frozen counts"},
        factor=100.0,
    ),
    _Chart("Time of an evaluation", "seconds", {"evaluate_seconds": "of all processes"}),
    _Chart("Time waiting for data", "%", {"data_wait_fraction": "share"}, factor=100.0),
    _Chart("Most memory", "GB", {"peak_memory_gb": "of all processes"}),
)
# Constants, which the table of noise levels has, or no numbers of the model.
_NO_CURVES = re.compile(r"step|images_seen|val/fits_half|val/(linear|zero)_loss_bin_\d+")


def charts(rows: Sequence[Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """The charts of a run: those to look at first, and the rest. Empty ones are left out."""
    known = {name for chart in _MAIN + _MORE for name in chart.curves}
    others = {name for row in rows for name in row if not _NO_CURVES.fullmatch(name)} - known
    families: dict[str, list[str]] = {}
    for name in sorted(others, key=_place):
        family = _FAMILY.fullmatch(name)
        families.setdefault(family[1] if family else name.rpartition("/")[2], []).append(name)
    rest = [_chart_of(base, names) for base, names in families.items()]
    main = [_drawn(chart, rows) for chart in _MAIN]
    more = [_drawn(chart, rows) for chart in (*_MORE, *rest)]
    return [c for c in main if c], [c for c in more if c]


def split_evaluation(
    rows: Sequence[Mapping[str, float]], records: Mapping[str, Any]
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The logged rows as two: numbers of evaluations, which ``records`` names, and all others."""
    names = {f"val/{name}" for name in records}
    evaluated = [{k: v for k, v in row.items() if k in names or k == "step"} for row in rows]
    rest = [{k: v for k, v in row.items() if k not in names} for row in rows]
    return evaluated, rest


def evaluation_charts(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """A chart for each headline number of evaluations; its value for real pictures as a level."""
    names = dict.fromkeys(name for row in rows for name in row)
    shown = sorted((n for n in names if n.startswith("val/") and is_headline(n)), key=rank)
    found = []
    for name in shown:
        curves = []
        base, count = split_count(name)
        real = f"{base}.real-{count}" if count else f"{base}.real"
        for logged, label in ((name, "samples"), (real, "real pictures")):
            points = [(row["step"], row[logged]) for row in rows if logged in row]
            level = logged != name
            color = "var(--level)" if level else _HELD_OUT
            curves.append(Curve(label, points, color, marked=True, level=level))
        found.append(line_chart(title(name), "", curves, log=False, ordered=False))
    return [chart for chart in found if chart]


def _chart_of(base: str, names: Sequence[str]) -> _Chart:
    """The chart of numbers that nothing is known of: training and held out, or a family."""
    if _FAMILY.fullmatch(names[0]):
        labels = {name: name.rpartition("_")[2] for name in names}
        return _Chart(title(base), "", labels, ordered=True)
    labels = {**_both(base), base: base}
    return _Chart(title(base), "", {name: label for name, label in labels.items() if name in names})


def _place(name: str) -> tuple[str, int]:
    """Where a name stands among others: a family by its numbers, 2 before 10."""
    family = _FAMILY.fullmatch(name)
    return (family[1], int(family[2])) if family else (name, 0)


def _drawn(chart: _Chart, rows: Sequence[Mapping[str, float]]) -> str:
    curves = []
    for i, (name, label) in enumerate(chart.curves.items()):
        points = [(row["step"], row[name] * chart.factor) for row in rows if name in row]
        marked, level = name.startswith("val/"), name in _LEVELS
        curves.append(Curve(label, points, _color(chart, i), marked=marked, level=level))
    return line_chart(chart.title, chart.unit, curves, log=chart.log, ordered=chart.ordered)


def _color(chart: _Chart, i: int) -> str:
    if chart.ordered:  # shades between two colours
        share = 100 * i / max(1, len(chart.curves) - 1)
        return f"color-mix(in oklab,var(--ramp-end) {share:.0f}%,var(--ramp-start))"
    name = list(chart.curves)[i]
    if name in _LEVELS:
        return "var(--level)" if name == next(iter(_LEVELS)) else "var(--level-2)"
    return _HELD_OUT if name.startswith("val/") or i == 1 else _TRAIN
