"""Statistics files: what is in them, and what they are refused for."""

import numpy as np
import pytest
import torch

from ldm.metrics.frechet import moments
from ldm.metrics.notes import NotesInMemory, rows_of
from ldm.metrics.statistics import Observed, read_statistics, write_statistics
from tests.metrics.features import features

INCEPTION = {"features": "inception", "resize": "clean_fid", "features_hash": "12"}
PICTURES = {"reference": "abc", "n_real": 40}


def written(path, **settings):
    rows = features(40, 6)
    judged = torch.arange(40) % 3 == 0
    blocks = {
        i: {"features": part, "judged": judged[16 * i : 16 * i + 16]}
        for i, part in enumerate(rows.split(16))
    }
    observed = [
        Observed("inception", {"features": "other"}, NotesInMemory({0: {"features": rows}})),
        Observed("inception", INCEPTION, NotesInMemory(blocks)),
        Observed("own", {"size": (1, 2)}, NotesInMemory({0: {"features": rows[:, :2]}})),
    ]
    write_statistics(
        path,
        observed,
        size_px=(32, 48),
        protocol=PICTURES,
        provenance={"pictures": "a folder"},
        **settings,
    )
    return rows, judged


def test_it_gives_back_what_was_noted(tmp_path):
    rows, judged = written(tmp_path / "a.safetensors")
    found = read_statistics(tmp_path / "a.safetensors")
    assert (found.count, found.size_px, found.protocol) == (40, (32, 48), PICTURES)
    assert found.provenance == {"pictures": "a folder"}
    kept, expected = found.moments("inception", INCEPTION, "features"), moments([rows])
    assert kept.count == 40 and kept.mean.dtype == torch.float64
    assert torch.equal(kept.mean, expected.mean)
    assert torch.equal(kept.covariance, expected.covariance)
    notes = found.notes("inception", INCEPTION)
    assert notes.count == 40 and notes.names == ["features", "judged"]
    assert torch.equal(rows_of(notes, "features"), rows)
    assert torch.equal(rows_of(notes, "judged"), judged)
    # A list is what JSON makes of a tuple.
    assert found.moments("own", {"size": (1, 2)}, "features").mean.shape == (2,)


def test_what_differs_in_the_protocol_is_named(tmp_path):
    written(tmp_path / "a.safetensors")
    found = read_statistics(tmp_path / "a.safetensors")
    asked = INCEPTION | {"resize": "torch_fidelity"}
    differs = r"otherwise than asked \(resize: clean_fid \| torch_fidelity\).*metric \(resize\)"
    with pytest.raises(ValueError, match=differs):
        found.moments("inception", asked, "features")
    with pytest.raises(ValueError, match=differs):
        found.notes("inception", asked)
    nested = INCEPTION | {"resize": {"antialias": False, "kernel": "bicubic"}}
    told = r"resize: clean_fid \| none; resize antialias: none \| False;.* metric \(resize\), or"
    with pytest.raises(ValueError, match=told):
        found.notes("inception", nested)
    with pytest.raises(ValueError, match="of inception, own, and none in those of dinov2"):
        found.notes("dinov2", {})
    with pytest.raises(ValueError, match="no mean and covariance of judged"):
        found.moments("inception", INCEPTION, "judged")


def test_rows_may_be_left_out(tmp_path, monkeypatch):
    written(tmp_path / "few.safetensors", keep_rows=False)
    monkeypatch.setattr("ldm.metrics.statistics.MOST_KEPT", 100)
    written(tmp_path / "many.safetensors")
    for name in ("few", "many"):
        found = read_statistics(tmp_path / f"{name}.safetensors")
        assert found.moments("inception", INCEPTION, "features").count == 40
    assert found.notes("inception", INCEPTION).names == ["judged"]
    few = read_statistics(tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match="only mean and covariance of what inception saw"):
        few.notes("inception", INCEPTION)


def test_published_statistics_serve_the_frechet_distance_only(tmp_path):
    rows = features(40, 6)
    mu, sigma = rows.numpy().mean(0), np.cov(rows.numpy(), rowvar=False)
    np.savez(tmp_path / "a.npz", mu=mu, sigma=sigma, mu_s=mu, arr_0=np.zeros(3, np.uint8))
    found = read_statistics(tmp_path / "a.npz")
    assert found.count is None and found.size_px is None
    assert found.protocol["reference"] == "published statistics a.npz"
    assert found.protocol["n_real"] == "unknown" and len(found.protocol["reference_hash"]) == 16
    kept = found.moments("inception", {"resize": "any"}, "features")
    assert kept.count is None and kept.mean.dtype == kept.covariance.dtype == torch.float64
    assert np.array_equal(kept.covariance.numpy(), sigma)
    with pytest.raises(ValueError, match="Inception's features, not of own"):
        found.moments("own", {}, "features")
    with pytest.raises(ValueError, match=r"a Frechet distance.*\[fid\].*no other number"):
        found.notes("inception", {})


@pytest.mark.parametrize(
    "arrays, told",
    [
        ({"mu": np.zeros(3)}, "it has mu and no mu or no sigma"),
        ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, r"sigma of shape \(2, 2\)"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.nan)}, "NaN or infinite"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"mu of shape \(0,\)"),
        ({"mu": np.zeros(2), "sigma": np.eye(2) * 1j}, "complex"),
        ({"mu": np.zeros(2), "sigma": np.triu(np.ones((2, 2)))}, "not symmetric"),
        ({"mu": np.zeros(2), "sigma": np.diag([1.0, -1.0])}, "eigenvalue of -1"),
        ({"mu": np.array([{}], object), "sigma": np.zeros((1, 1))}, "allow_pickle"),
    ],
)
def test_a_published_file_that_does_not_fit_is_refused(tmp_path, arrays, told):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=told):
        read_statistics(tmp_path / "a.npz")


def test_other_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    (tmp_path / "damaged.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="holds no statistics"):
        read_statistics(tmp_path / "weights.safetensors")
    for told in ("damaged.safetensors is damaged", "damaged.npz is no .npz, .* or another"):
        with pytest.raises(ValueError, match=told):
            read_statistics(tmp_path / told.split()[0])
    with pytest.raises(ValueError, match=r"Pickles.*not opened"):
        read_statistics(tmp_path / "edm.pkl")
