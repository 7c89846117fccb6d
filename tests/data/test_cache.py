"""The latent cache: resumable to the byte, exact statistics, never stale without a word."""

import numpy as np
import pytest
import torch

from ldm.autoencoders.regularizers import KL
from ldm.data.batches import crop
from ldm.data.cache import LatentCache, finished, write_cache
from ldm.data.shards import ImageShards
from ldm.data.sizes import picture_sizes
from ldm.manifest import FILE_NAME, read_json

INPUTS = {
    "shards": {"path": "a", "fingerprint": "s1"},
    "autoencoder": {"path": "b", "fingerprint": "a1"},
}
SETTINGS = {"size_px": 32, "block": 10}


def encode(images):
    """A fixed 'autoencoder': pooled pixels as mean, a logvar that varies."""
    mean = torch.nn.functional.avg_pool2d(images, 8) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    return torch.cat([mean + 2.0, mean - 1.0], dim=1)


def moments(code):
    mean, logvar = code.chunk(2, dim=1)
    return mean, logvar.exp()


def tokenize(captions):
    return torch.tensor([[len(caption), 49407] for caption in captions])


def write(shards, directory, **changes):
    arguments = {
        "encode": encode,
        "moments": moments,
        "tokenize": tokenize,
        "load": lambda image: crop(image, 32),
        "sizes": lambda sample: picture_sizes(sample, 32),
        "facts": {},
        "block": 10,
        "settings": SETTINGS,
        "inputs": INPUTS,
    }
    return write_cache(shards, directory, **(arguments | changes))


@pytest.fixture(scope="module")
def shards(world) -> ImageShards:
    return ImageShards(world.shards)


@pytest.fixture(scope="module")
def made(shards, tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    assert list(write(shards, directory)) == [0, 10, 20, 30, 40, 50, 60, 64]
    return directory


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_what_was_cached_comes_back(shards, made):
    cache = LatentCache(made)
    assert len(cache) == 64 and cache.codes.dtype == np.float16 and cache.ids.dtype == np.uint16
    where = torch.tensor([63, 0, 17])
    code, ids, sizes = cache.gather(where)
    images = torch.stack([crop(shards[i].image, 32) for i in where.tolist()])
    assert torch.equal(code, encode(images).half().float())
    assert ids.tolist() == tokenize([shards.captions[i] for i in where.tolist()]).tolist()
    assert sizes.tolist() == [[32, 32, 0, 0, 32, 32]] * 3
    assert cache.examples == shards.captions[:64]


def test_statistics_are_those_of_two_passes_in_float64(made):
    cache = LatentCache(made)
    codes = np.asarray(cache.codes, dtype=np.float64)
    mean, variance = codes[:, :3], np.exp(codes[:, 3:])
    expected = mean.mean(axis=(0, 2, 3))
    spread = (variance + (mean - expected[:, None, None]) ** 2).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(cache.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(cache.std, np.sqrt(spread), rtol=1e-10)


def test_statistics_count_the_posterior_draw():
    code = torch.cat([torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 1.0).log()], dim=1)
    mean, variance = moments(code)
    drawn = KL().draw(code, torch.ones_like(mean)) - mean
    assert torch.equal(drawn.square(), variance)  # as `ldm cache` computes it


@pytest.mark.parametrize("stop_after", [1, 3, 7])
def test_a_killed_run_continues_to_the_same_bytes(shards, made, tmp_path, stop_after):
    run = write(shards, tmp_path)
    done = [next(run) for _ in range(stop_after)][-1]
    run.close()  # the process dies here
    assert not (tmp_path / FILE_NAME).exists()
    with pytest.raises(ValueError, match="ldm cache"):
        LatentCache(tmp_path)
    encoded = []

    def counting(images):
        encoded.append(len(images))
        return encode(images)

    again = write(shards, tmp_path, encode=counting)
    assert next(again) == done
    assert sum(1 for _ in again) and sum(encoded) == 64 - done  # only what was missing
    assert files(tmp_path) == files(made)


def test_a_kill_inside_a_block_leaves_no_trace(shards, made, tmp_path):
    calls = 0

    def dying(images):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        list(write(shards, tmp_path, encode=dying))
    again = write(shards, tmp_path)
    assert next(again) == 30
    list(again)
    assert files(tmp_path) == files(made)


def test_an_interrupted_cache_of_other_inputs_is_begun_anew(shards, made, tmp_path):
    other = INPUTS | {"autoencoder": {"path": "b", "fingerprint": "a2"}}
    run = write(shards, tmp_path, inputs=other, encode=lambda images: encode(images) + 1.0)
    assert [next(run), next(run)] == [0, 10]
    run.close()
    again = write(shards, tmp_path)
    assert next(again) == 0
    list(again)
    assert files(tmp_path) == files(made)


def test_stale_inputs_are_refused_by_name_with_a_remedy(made, tmp_path):
    assert finished(tmp_path, settings=SETTINGS, inputs=INPUTS) is None
    found = finished(made, settings=SETTINGS, inputs=INPUTS)
    assert found is not None and found.kind == "latents"
    moved = {name: value | {"path": "elsewhere"} for name, value in INPUTS.items()}
    assert finished(made, settings=SETTINGS, inputs=moved) is not None  # moved, but the same
    for name in INPUTS:
        other = INPUTS | {name: {"path": "x", "fingerprint": "new"}}
        with pytest.raises(ValueError, match=f"another {name} .*now new.*ldm cache"):
            finished(made, settings=SETTINGS, inputs=other)
    with pytest.raises(ValueError, match="size_px=32, now 64.*another out="):
        finished(made, settings=SETTINGS | {"size_px": 64}, inputs=INPUTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_a_latent_that_is_not_finite_is_named(shards, tmp_path, value):
    def broken(images):
        code = encode(images)
        if len(seen) == 20:
            code[3, 0, 0, 0] = value
        seen.extend(images)
        return code

    seen = []
    key = shards[23].key
    with pytest.raises(ValueError, match=f"'{key}' is not finite.*lower lr"):
        list(write(shards, tmp_path, encode=broken))
    assert not (tmp_path / FILE_NAME).exists()


def test_a_missing_or_damaged_cache_names_the_command(made, tmp_path):
    with pytest.raises(ValueError, match="no latents at .*ldm cache autoencoder_run=RUN"):
        LatentCache(tmp_path / "none")
    for name, content in files(made).items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "codes.npy", np.load(made / "codes.npy")[:40])
    with pytest.raises(ValueError, match="should hold 64 latents but holds 40; delete it"):
        LatentCache(tmp_path)
    assert read_json(made / FILE_NAME)["facts"]["num_samples"] == 64
