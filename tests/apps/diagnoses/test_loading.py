"""Loader speed: of shards and latents as training reads them, against what a step needs."""

import pytest

from ldm.apps.diagnoses.loading import judged, loading, measured


def test_shards_and_latents_are_measured(world):
    shards = measured(str(world.shards), 0, seconds=0.2)
    assert shards["what"] == "pictures" and shards["size"] == "32x32 px" and shards["rate"] > 0.0
    latents = measured(str(world.latents), 0, seconds=0.2)
    assert latents["what"] == "latents" and latents["rate"] > shards["rate"] / 10


def test_what_is_no_data_is_a_finding(tmp_path):
    check = loading(str(tmp_path / "absent"), 0, None)
    assert check.status == "fail" and str(tmp_path) in check.detail and "ldm check" in check.remedy


@pytest.mark.parametrize(
    "what, rate, workers, needed, status, remedy",
    [
        ("pictures", 500.0, 0, None, "ok", "an A100 takes 138"),
        ("pictures", 500.0, 0, 300.0, "ok", ""),
        ("pictures", 100.0, 2, 300.0, "warn", "data.workers=9"),
        ("pictures", 100.0, 0, 300.0, "warn", "data.workers=1"),
        ("latents", 100.0, 0, 300.0, "warn", "a faster disk"),
    ],
)
def test_against_what_a_step_needs(what, rate, workers, needed, status, remedy):
    facts = {"rate": rate, "what": what, "size": "256x256 px"}
    check = judged(facts, "DATA", workers, needed)
    assert check.status == status and remedy in check.remedy
    assert ("ldm cache" in check.remedy) == (status == "warn" and what == "pictures")
