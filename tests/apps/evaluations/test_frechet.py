"""Frechet distances of samples and reconstructions, and references sets as statistics."""

import numpy as np
import pytest

from ldm.apps.evaluations import frechet as file
from ldm.apps.evaluations.frechet import fd_clip, fid, frechet, rfid
from ldm.apps.evaluations.measure import RECONSTRUCTIONS, REFERENCE, SAMPLES
from ldm.metrics.frechet import frechet_distance
from ldm.metrics.statistics import Observed, read_statistics, write_statistics
from tests.apps.evaluations.given import Given, block
from tests.apps.evaluations.pixels import Pixels, given, numbers, pictures
from tests.interop.tiny_clip import write_tiny_clip


def test_the_number_carries_how_many_samples_there_were():
    sets = given(samples=pictures(40), reference=pictures(50, seed=1))
    measure = frechet(sets, "fd_pixels", observer := Pixels())
    assert measure.observers == {SAMPLES: [observer], REFERENCE: [observer]}
    (found,) = numbers(measure, sets).values()
    sides = [sets.moments(name, observer, "features") for name in (SAMPLES, REFERENCE)]
    assert found.name == "fd_pixels-40"
    assert found.value == pytest.approx(float(frechet_distance(*sides)), rel=1e-9)
    assert found.protocol == sets.protocol(SAMPLES, REFERENCE) | observer.protocol


def test_names_of_layers_and_of_reconstructions(monkeypatch):
    monkeypatch.setattr(file, "inception", lambda setting, layer, resize: Pixels(resize))
    sets = given(
        samples=pictures(40), reconstructions=pictures(30, seed=2), reference=pictures(30, seed=1)
    )
    names = {}
    for make in (fid, rfid):
        for layer in (2048, 64):
            measure = make(sets, layer=layer, resize="clean_fid")
            ((name, found),) = numbers(measure, sets).items()
            assert found.protocol["resize"] == "clean_fid"
            names[name] = next(iter(measure.observers))
    assert names == {
        "FID-40": SAMPLES,
        "fd_inception_64-40": SAMPLES,
        "rFID-30": RECONSTRUCTIONS,
        "rfd_inception_64-30": RECONSTRUCTIONS,
    }


def test_the_image_tower_of_a_published_pair(tmp_path):
    (tmp_path / "tiny").mkdir()
    write_tiny_clip(tmp_path / "tiny")
    sets = {SAMPLES: [block(30)], REFERENCE: [block(30, seed=1)]}
    setting = Given(sets, weights_dir=str(tmp_path), allow_unknown_weights=True)
    (found,) = fd_clip(setting, file="tiny", model=None).numbers(setting)
    assert found.name == "fd_clip-30" and found.value > 0
    assert found.protocol["weights_file"] == "tiny/model.safetensors"


def test_fewer_pictures_than_features_are_refused_before_anything_is_made():
    few = given(samples=pictures(11), reference=pictures(50))
    with pytest.raises(ValueError, match=r"11 generated pictures.*12 features.*\[kid\]"):
        frechet(few, "fd", Pixels())
    few = given(samples=pictures(50), reference=pictures(11))
    with pytest.raises(ValueError, match="11 real pictures.*a larger reference="):
        frechet(few, "fd", Pixels())
    alone = given(samples=pictures(11), reference=pictures(11))  # as a file of statistics is made
    with pytest.raises(ValueError, match="11 real pictures"):
        frechet(alone, "fd", Pixels())


def test_statistics_give_what_the_pictures_give(tmp_path):
    sets = given(samples=pictures(40), reference=pictures(50, seed=1))
    observer, path = Pixels(), tmp_path / "reference.safetensors"
    observed = [Observed(observer.name, observer.protocol, sets(REFERENCE, observer))]
    write_statistics(path, observed, size_px=(4, 4), protocol={}, provenance={}, keep_rows=False)
    from_file = given(read_statistics(path), samples=pictures(40))
    values = [numbers(frechet(g, "fd", observer), g)["fd-40"].value for g in (sets, from_file)]
    assert values[0] == values[1]
    with pytest.raises(ValueError, match="resize: none . other"):
        frechet(from_file, "fd", Pixels("other"))


def test_published_statistics_serve_the_inception_of_their_width(tmp_path):
    class Inception(Pixels):
        name = "inception"

    rows = pictures(50, seed=1).flatten(1)[:, :12].numpy()
    np.savez(tmp_path / "a.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    sets = given(read_statistics(tmp_path / "a.npz"), samples=pictures(40))
    pair = given(samples=pictures(40), reference=pictures(50, seed=1))
    values = [numbers(frechet(g, "FID", Inception()), g)["FID-40"].value for g in (sets, pair)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    monochrome = Inception()
    monochrome.num_features = 4
    with pytest.raises(ValueError, match="of 12 features, those of inception are 4"):
        frechet(sets, "FID", monochrome)
