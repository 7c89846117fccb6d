"""Which of a run's logged numbers make which chart."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ldm.apps.report.charts import Curve, line_chart
from ldm.apps.report.numbers import title

_TRAIN, _HELD_OUT = "var(--train)", "var(--held-out)"
_BINS = 8


class _Chart(NamedTuple):
    title: str
    unit: str
    curves: Mapping[str, str]  # logged name -> label
    log: bool = False
    factor: float = 1.0
    ordered: bool = False


def _both(name: str) -> dict[str, str]:
    return {f"train/{name}": "training", f"val/{name}": "held out"}


_MAIN = (
    _Chart("Loss", "", _both("loss"), log=True),
    _Chart("PSNR", "dB", _both("psnr")),
    _Chart("Retrieval of the right caption", "%", _both("retrieval"), factor=100.0),
    _Chart(
        "Held-out loss by timestep",
        "",
        {
            f"val/loss_bin_{i}": {0: "least noise", _BINS - 1: "most"}.get(i, f"bin {i}")
            for i in range(_BINS)
        },
        log=True,
        ordered=True,
    ),
    _Chart("KL per latent dimension", "nats", _both("kl_per_dimension")),
    _Chart("Codebook usage", "%", _both("codebook_usage"), factor=100.0),
    _Chart("Codebook perplexity", "codes", _both("codebook_perplexity")),
    _Chart("Perceptual distance", "", _both("perceptual")),
)
_MORE = (
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
    _Chart("Learning rate", "", {"learning_rate": "learning rate"}),
    _Chart("Speed", "images per second", {"images_per_second": "all processes"}),
    _Chart("Time waiting for data", "%", {"data_wait_fraction": "share"}, factor=100.0),
)
_NO_CURVES = {"step", "images_seen"}


def charts(rows: Sequence[Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """The charts of a run: those to look at first, and the rest. Empty ones are left out."""
    known = {name for chart in _MAIN + _MORE for name in chart.curves} | _NO_CURVES
    others = sorted({name for row in rows for name in row} - known)
    bases = dict.fromkeys(name.removeprefix("train/").removeprefix("val/") for name in others)
    rest = [
        _Chart(title(base), "", {name: label for name, label in _labels(base) if name in others})
        for base in bases
    ]
    main = [_drawn(chart, rows) for chart in _MAIN]
    more = [_drawn(chart, rows) for chart in (*_MORE, *rest)]
    return [c for c in main if c], [c for c in more if c]


def _labels(base: str) -> list[tuple[str, str]]:
    return [*_both(base).items(), (base, base)]


def _drawn(chart: _Chart, rows: Sequence[Mapping[str, float]]) -> str:
    curves = []
    for i, (name, label) in enumerate(chart.curves.items()):
        points = [(row["step"], row[name] * chart.factor) for row in rows if name in row]
        curves.append(Curve(label, points, _color(name, i), marked=name.startswith("val/")))
    return line_chart(chart.title, chart.unit, curves, log=chart.log, ordered=chart.ordered)


def _color(name: str, i: int) -> str:
    if "_bin_" in name:  # an ordered family: shades between two colours
        return f"color-mix(in oklab,var(--ramp-end) {100 * i / (_BINS - 1):.0f}%,var(--ramp-start))"
    return _HELD_OUT if name.startswith("val/") or i == 1 else _TRAIN
