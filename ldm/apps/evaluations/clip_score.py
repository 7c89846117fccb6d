"""The CLIP score (Hessel et al. 2021), by a published CLIP and by the model's own towers."""

from collections.abc import Iterator
from typing import Literal

from ldm.apps.evaluations.alone import alone
from ldm.apps.evaluations.measure import (
    REFERENCE,
    SAMPLES,
    Measure,
    Noted,
    NotGiven,
    Number,
    Setting,
)
from ldm.apps.evaluations.observers.clip import ClipObserver, clip
from ldm.apps.evaluations.observers.own import own_pair
from ldm.metrics.notes import Notes, rows_of

_SCALES = {
    "raw": "mean cosine",
    "x100": "100 x mean cosine",
    "2.5x": "mean of 2.5 x max(cosine, 0), the CLIPScore of Hessel et al. 2021",
}


def clip_score(
    setting: Setting,
    *,
    file: str,
    model: str | None,
    activation: Literal["gelu", "quick_gelu"] | None,
) -> Measure:
    """By the published pair whose weights ``file`` names; see observers/clip.py.

    UserError where pictures have no prompts.
    """
    observer = clip(setting, file=file, model=model, activation=activation)
    setting.captions(SAMPLES)
    return _measure("clip_score", setting, observer)


def clip_score_own(setting: Setting) -> Measure:
    """By the model's own towers, which need no download; UserError where it has none.

    Pictures without prompts are left out, as recipes ask for it whatever the data are.
    """
    if not _has_captions(setting, SAMPLES, "clip_score_own"):
        return Measure({}, lambda noted: iter(()))
    return _measure("clip_score_own", setting, own_pair(setting))


def _measure(name: str, setting: Setting, observer: ClipObserver) -> Measure:
    """Of pictures and their prompts, and of the real pairs beside it where these have captions."""
    has_real = _has_captions(setting, REFERENCE, f"{name}.real")
    sets = [SAMPLES, REFERENCE] if has_real else [SAMPLES]

    def numbers(noted: Noted) -> Iterator[Number]:
        samples = noted(SAMPLES, observer)
        protocol = noted.protocol(SAMPLES) | observer.protocol
        for kind, value in _score(samples).items():
            shown = name if kind == "raw" else f"{name}.{kind}"
            yield Number(shown, value, protocol | {"scale": _SCALES[kind]})
        truncated = float(rows_of(samples, "truncated").double().mean())
        yield Number(f"{name}.truncated", truncated, protocol | {"scale": "share of captions"})
        if has_real:
            real = _score(noted(REFERENCE, observer))["raw"]
            protocol = noted.protocol(REFERENCE) | observer.protocol
            yield Number(f"{name}.real", real, protocol | {"scale": _SCALES["raw"]})

    return Measure({pictures: [observer] for pictures in sets}, numbers)


def _has_captions(setting: Setting, pictures: str, name: str) -> bool:
    """Whether pictures have captions; where not, it is said that the number is left out."""
    try:
        setting.captions(pictures)
    except NotGiven:
        print(f"{name}: left out, there are no captions of the {pictures}", flush=True)
        return False
    return True


def _score(notes: Notes) -> dict[str, float]:
    from ldm.metrics.clip_score import ClipScore

    metric = alone(ClipScore())
    for image, text in zip(notes.blocks("image"), notes.blocks("text"), strict=True):
        metric.update(image, text)
    return {kind: float(value) for kind, value in metric.compute().items()}
