"""The numbers of clip_score and clip_score_own."""

import pytest
import torch

from ldm.apps.errors import UserError
from ldm.apps.evaluations.clip_score import clip_score, clip_score_own
from ldm.apps.evaluations.measure import REFERENCE, SAMPLES
from ldm.metrics.clip_score import cosines
from tests.apps.evaluations.given import Given, block, own_towers, weights_in
from tests.interop.tiny_clip import write_tiny_clip

SAMPLED = [
    block(3, captions=["a red circle", "a dog", "a cat"], seed=1),
    block(2, captions=["a blue square " * 9, "two"], seed=2),
]
REAL = [block(4, captions=["one", "two", "three", "four"], seed=3)]


def test_numbers_of_the_own_towers():
    given = Given({SAMPLES: SAMPLED, REFERENCE: REAL}, own=own_towers())
    measure = clip_score_own(given)
    (observer,) = measure.observers[SAMPLES]
    rows = [observer(each) for each in SAMPLED]
    found = torch.cat([cosines(each["image"], each["text"]) for each in rows])
    (real,) = (observer(each) for each in REAL)
    numbers = {number.name: number for number in measure.numbers(given)}
    expected = {
        "clip_score_own": float(found.mean()),
        "clip_score_own.x100": 100 * float(found.mean()),
        "clip_score_own.2.5x": 2.5 * float(found.clamp_min(0).mean()),
        "clip_score_own.truncated": 1 / 5,
        "clip_score_own.real": float(cosines(real["image"], real["text"]).mean()),
    }
    assert list(numbers) == list(expected)  # the raw mean comes first
    assert {k: v.value for k, v in numbers.items()} == pytest.approx(expected, rel=1e-12)
    first = numbers["clip_score_own"].protocol
    assert first[SAMPLES] and first["scale"] == "mean cosine" and first["features_hash"]
    assert REFERENCE not in first and REFERENCE in numbers["clip_score_own.real"].protocol


def test_a_reference_without_captions_is_left_out_and_that_is_said(capsys):
    given = Given({SAMPLES: SAMPLED, REFERENCE: [block(2)]}, own=own_towers())
    measure = clip_score_own(given)
    assert list(measure.observers) == [SAMPLES]
    assert "clip_score_own.real" not in {number.name for number in measure.numbers(given)}
    assert "clip_score_own.real: left out" in capsys.readouterr().out


def test_pictures_without_prompts(capsys, tmp_path):
    given = Given({SAMPLES: [block(2)]}, own=own_towers())
    measure = clip_score_own(given)
    assert not measure.observers and not list(measure.numbers(given))
    assert "clip_score_own: left out" in capsys.readouterr().out
    (tmp_path / "tiny").mkdir()
    write_tiny_clip(tmp_path / "tiny")
    given.weights_dir, given.allow_unknown_weights = str(tmp_path), True
    with pytest.raises(UserError, match="no captions"):
        clip_score(given, file="tiny", model=None, activation=None)
    with pytest.raises(UserError, match="no own towers"):
        clip_score_own(Given({SAMPLES: SAMPLED}))


def test_the_score_of_a_published_pair_is_named_after_no_towers(tmp_path):
    (tmp_path / "tiny").mkdir()
    write_tiny_clip(tmp_path / "tiny")
    given = weights_in(tmp_path)
    given.blocks = {SAMPLES: SAMPLED, REFERENCE: REAL}
    measure = clip_score(given, file="tiny", model=None, activation=None)
    numbers = {number.name: number for number in measure.numbers(given)}
    assert next(iter(numbers)) == "clip_score" and len(numbers) == 5
    assert numbers["clip_score.2.5x"].protocol["weights_file"] == "tiny/model.safetensors"
    assert numbers["clip_score"].protocol["activation"] == "quick_gelu"
