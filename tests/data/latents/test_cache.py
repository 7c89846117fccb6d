"""The latent cache: resumable to the byte, exact statistics, never stale without a word."""

import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ldm.autoencoders.regularizers import KL
from ldm.data.images import to_tensor
from ldm.data.latents.cache import LatentCache
from ldm.data.latents.crop import Variants, cut
from ldm.data.latents.files import Contents, finish, lay_out
from ldm.data.latents.identity import finished
from ldm.data.latents.plan import Shaping, plan
from ldm.data.latents.writer import Encoders, fill
from ldm.manifest import FILE_NAME, read_json
from tests.data.pictures import Pictures

INPUTS = {
    "shards": {"path": "a", "fingerprint": "s1"},
    "autoencoder": {"path": "b", "fingerprint": "a1"},
}
SETTINGS = {"size_px": 32, "buckets": True, "block": 10, "store": "ids"}
SHAPING = Shaping(
    size_px=32, buckets=True, step_px=8, max_aspect_ratio=3.0, min_bucket=1, max_crop=0.3,
    enlarge=False,
)  # fmt: skip
CONTENTS = Contents(
    codes_per_latent=2, latent_channels=3, stride=8, variants=Variants(True, 2, 0),
    with_sizes=True, ids=(2,), tokens=None, vector=None, block=10,
)  # fmt: skip


def encode(image):
    """A fixed 'autoencoder': pooled pixels as mean, a logvar that varies."""
    mean = torch.nn.functional.avg_pool2d(image, 8) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    return torch.cat([mean + 2.0, mean - 1.0], dim=1)


def moments(code):
    mean, logvar = code.chunk(2, dim=1)
    return mean, logvar.exp()


def tokenize(captions):
    return torch.tensor([[sum(caption.encode()), 49407] for caption in captions])


def encode_pixels(pixels):
    code = encode(to_tensor(pixels.numpy()))
    return lambda: code


ENCODERS = Encoders(
    encode=encode_pixels, moments=moments, tokenize=tokenize,
    is_truncated=lambda caption: caption.endswith("7"), features=None,
)  # fmt: skip


class Making:
    """A cache in the making, step by step."""

    def __init__(self, shards, directory, *, encoders=ENCODERS, contents=CONTENTS, shaping=SHAPING,
                 settings=SETTINGS, inputs=INPUTS):  # fmt: skip
        self.shards, self.directory, self.contents = shards, directory, contents
        self.encoders, self.plan = encoders, plan(shards, shaping)
        self.identity = {"settings": settings, "inputs": inputs}

    def begin(self, **more):
        lay_out(self.directory, self.shards, self.plan, self.contents, **self.identity)
        shapes = [bucket.size_px for bucket in self.plan.buckets]
        return fill(self.shards, self.directory, shapes, self.contents, self.encoders, **more)

    def finish(self):
        finish(self.directory, self.shards, self.plan, self.contents, **self.identity,
               facts={"more": 1})  # fmt: skip
        return LatentCache(self.directory)

    def make(self):
        for _ in self.begin():
            pass
        return self.finish()


@pytest.fixture(scope="module")
def shards() -> Pictures:
    """64 pictures of three shapes and some between; sample i has 1 to 3 captions."""
    sizes = [[(40, 40), (32, 48), (64, 36)][i % 3] for i in range(60)] + [(50, 40)] * 4
    captions = [tuple(f"{i}, {k}" for k in range(1 + i % 3)) for i in range(64)]
    return Pictures(sizes, captions)


@pytest.fixture(scope="module")
def made(shards, tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    Making(shards, directory).make()
    return directory


def files(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def read(cache, bucket, rows, variant=0.0, caption=0.0):
    rows = torch.as_tensor(rows)
    chosen = {"variant": variant, "caption": caption}
    return cache.gather(bucket, rows, lambda name: torch.full(rows.shape, chosen[name]))


def test_every_picture_comes_back_once_with_all_its_variants_and_captions(shards, made):
    cache = LatentCache(made)
    assert len(cache) == 64 == sum(cache.counts) and cache.num_variants == 4
    assert cache.shapes == [(6, h // 8, w // 8) for h, w in cache.sizes_px]
    seen = []
    for bucket, (shape, count) in enumerate(zip(cache.sizes_px, cache.counts, strict=True)):
        samples = cache.arrays[bucket]["samples"]
        assert (np.diff(samples) > 0).all()
        seen += samples.tolist()
        rows = list(range(count))[::-1]
        for number in range(4):
            found = read(cache, bucket, rows, variant=(number + 0.5) / 4)
            crops = [CONTENTS.variants.of(int(samples[r]), shards.size(int(samples[r])), shape)
                     for r in rows]  # fmt: skip
            pixels = [cut(shards.read(int(samples[r])).image, crop[number])
                      for r, crop in zip(rows, crops, strict=True)]  # fmt: skip
            expected = encode(to_tensor(np.stack(pixels)))
            torch.testing.assert_close(found.code, expected.half(), rtol=0, atol=2e-3)
            assert found.code.dtype == torch.float16 and found.sizes.dtype == torch.int64
            assert found.tokens is None and found.vector is None
            corners = [(c[number].top, c[number].left) for c in crops]
            if number < 2:  # not mirrored
                assert [tuple(row[2:4]) for row in found.sizes.tolist()] == corners
            assert all(tuple(row[4:]) == shape for row in found.sizes.tolist())
        for caption in (0.01, 0.5, 0.99):
            own = [shards.captions(int(samples[r])) for r in rows]
            expected = tokenize([c[int(caption * len(c))] for c in own])
            assert torch.equal(read(cache, bucket, rows, caption=caption).ids, expected)
    assert sorted(seen) == list(range(64))
    assert cache.examples == [shards.captions(i)[0] for i in range(64)]
    assert cache.manifest.facts["more"] == 1
    assert cache.manifest.facts["truncated_captions"] == 0


def test_variants_and_captions_are_equally_likely(shards, made):
    cache = LatentCache(made)
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    bucket = max(range(len(cache.counts)), key=cache.counts.__getitem__)
    row = next(r for r, i in enumerate(cache.arrays[bucket]["samples"])
               if len(shards.captions(int(i))) == 3)  # fmt: skip
    draws = {"variant": uniform, "caption": uniform.flip(0)}
    found = cache.gather(bucket, torch.full((4000,), row), draws.__getitem__)
    for values, kinds in ((found.code.flatten(1), 4), (found.ids, 3)):
        _, counts = values.unique(dim=0, return_counts=True)
        assert len(counts) == kinds
        assert (counts / 4000 - 1 / kinds).abs().max() < 0.03  # 4 sigma


def test_one_square_bucket_of_one_variant_is_what_it_always_was(tmp_path):
    shards = Pictures([(32, 32)] * 23)
    contents = Contents(
        codes_per_latent=2, latent_channels=3, stride=8, variants=Variants(False, 1, 0),
        with_sizes=False, ids=(2,), tokens=None, vector=None, block=10,
    )  # fmt: skip
    shaping = Shaping(
        size_px=32, buckets=False, step_px=64, max_aspect_ratio=2.0, min_bucket=1, max_crop=1.0,
        enlarge=False,
    )  # fmt: skip
    cache = Making(shards, tmp_path, contents=contents, shaping=shaping).make()
    assert cache.counts == [23] and cache.sizes_px == [(32, 32)] and cache.num_variants == 1
    found = read(cache, 0, [22, 0, 7], variant=0.9, caption=0.9)
    image = torch.stack([to_tensor(shards.read(i).image) for i in (22, 0, 7)])
    assert torch.equal(found.code, encode(image).half().float())
    assert found.sizes.shape == (3, 0)


def test_statistics_are_those_of_two_passes_in_float64(made):
    cache = LatentCache(made)
    codes = [arrays["codes"].astype(np.float64) for arrays in cache.arrays]
    mean, logvar = (
        np.concatenate([c[:, :, part].transpose(2, 0, 1, 3, 4).reshape(3, -1) for c in codes], 1)
        for part in (slice(0, 3), slice(3, 6))
    )
    expected = mean.mean(axis=1)
    spread = (np.exp(logvar) + (mean - expected[:, None]) ** 2).mean(axis=1)
    np.testing.assert_allclose(cache.mean, expected, rtol=1e-12)
    np.testing.assert_allclose(cache.std, np.sqrt(spread), rtol=1e-10)


def test_statistics_count_the_posterior_draw():
    code = torch.cat([torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 1.0).log()], dim=1)
    mean, variance = moments(code)
    drawn = KL().draw(code, torch.ones_like(mean)) - mean
    assert torch.equal(drawn.square(), variance)  # as `ldm cache` computes it


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_a_stopped_run_continues_to_the_same_bytes(shards, made, tmp_path, stop_after):
    run = Making(shards, tmp_path).begin()
    done = [next(run) for _ in range(stop_after)][-1]
    run.close()
    assert not (tmp_path / FILE_NAME).exists()
    with pytest.raises(ValueError, match="ldm cache"):
        LatentCache(tmp_path)
    again = Making(shards, tmp_path)
    counts = list(again.begin())
    assert counts[0] == done and counts[-1] == 64  # only what was missing
    again.finish()
    assert files(tmp_path) == files(made)


def test_any_number_of_processes_makes_the_same_bytes(shards, made, tmp_path):
    making = Making(shards, tmp_path)
    shares = [making.begin(rank=rank, world_size=3) for rank in range(3)]
    for counts in zip(*shares, strict=False):  # in turns, each begun before others have ended
        assert counts
    for share in shares:
        list(share)
    making.finish()
    assert files(tmp_path) == files(made)


def test_a_cache_with_holes_is_not_finished(shards, tmp_path):
    making = Making(shards, tmp_path)
    run = making.begin()
    assert [next(run), next(run)] == [0, 10]
    run.close()
    with pytest.raises(ValueError, match="of .* blocks of .* are missing; run the same command"):
        making.finish()
    assert not (tmp_path / FILE_NAME).exists()


def test_an_error_inside_a_block_leaves_no_trace(shards, made, tmp_path):
    calls = 0

    def dying(pixels):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return encode_pixels(pixels)

    encoders = Encoders(**{**vars(ENCODERS), "encode": dying})
    with pytest.raises(KeyboardInterrupt):
        list(Making(shards, tmp_path, encoders=encoders).begin())
    again = Making(shards, tmp_path)
    already, *_ = again.begin()
    assert 0 < already < 64
    again.finish()
    assert files(tmp_path) == files(made)


def test_an_interrupted_cache_of_other_inputs_is_refused_once_it_holds_something(
    shards, made, tmp_path
):
    other = INPUTS | {"autoencoder": {"path": "b", "fingerprint": "a2"}}
    run = Making(shards, tmp_path, inputs=other).begin()
    assert next(run) == 0
    whole = Shaping(**{**vars(SHAPING), "min_bucket": 64, "max_crop": 1.0})
    settings = SETTINGS | {"min_bucket": 64}
    next(Making(shards, tmp_path, shaping=whole, settings=settings).begin())  # nothing was lost
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["32x32"]
    next(Making(shards, tmp_path).begin())
    run = Making(shards, tmp_path).begin()
    assert [next(run), next(run)] == [0, 10]
    run.close()
    with pytest.raises(ValueError, match=r"was begun from another autoencoder \(a1, now a2\)"):
        Making(shards, tmp_path, inputs=other).begin()
    with pytest.raises(ValueError, match="was begun with block=10, now 9. Delete .* out="):
        Making(shards, tmp_path, settings=SETTINGS | {"block": 9}).begin()


def test_stale_inputs_are_refused_by_name_with_a_remedy(made, tmp_path):
    assert finished(tmp_path, settings=SETTINGS, inputs=INPUTS) is None
    found = finished(made, settings=SETTINGS, inputs=INPUTS)
    assert found is not None and found.kind == "latents"
    moved = {name: value | {"path": "elsewhere"} for name, value in INPUTS.items()}
    assert finished(made, settings=SETTINGS, inputs=moved) is not None  # moved, but the same
    for name, words in (("shards", "other shards"), ("autoencoder", "another autoencoder")):
        other = INPUTS | {name: {"path": "x", "fingerprint": "new"}}
        with pytest.raises(ValueError, match=f"made from {words} .*now new.*run the same"):
            finished(made, settings=SETTINGS, inputs=other)
    more = INPUTS | {"text_encoder": {"path": "x", "fingerprint": "t1"}}
    with pytest.raises(ValueError, match=r"another text_encoder \(None, now t1\)"):
        finished(made, settings=SETTINGS, inputs=more)
    with pytest.raises(ValueError, match="size_px=32, now 64.*another out="):
        finished(made, settings=SETTINGS | {"size_px": 64}, inputs=INPUTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_a_latent_that_is_not_finite_is_named(tmp_path, value):
    shards = Pictures([(32, 32)] * 30)

    def broken(pixels):
        code = encode_pixels(pixels)()
        if torch.equal(pixels[3], torch.from_numpy(shards.read(23).image)):
            code[3, 0, 0, 0] = value
        return lambda: code

    contents = Contents(**{**vars(CONTENTS), "variants": Variants(False, 1, 0)})
    encoders = Encoders(**{**vars(ENCODERS), "encode": broken})
    making = Making(shards, tmp_path, encoders=encoders, contents=contents)
    with pytest.raises(ValueError, match="latent of sample 'key0023' is not finite.*lower lr"):
        list(making.begin())
    assert not (tmp_path / FILE_NAME).exists()


def test_stored_features_are_those_of_each_caption(shards, tmp_path):
    def features(ids):
        states = ids[..., None].float() / 1000 * torch.tensor([1.0, 2.0, 3.0])
        return states, states[:, 0]

    contents = Contents(**{**vars(CONTENTS), "tokens": (2, 3), "vector": 3})
    encoders = Encoders(**{**vars(ENCODERS), "features": features})
    settings = SETTINGS | {"store": "features"}
    making = Making(shards, tmp_path, encoders=encoders, contents=contents, settings=settings)
    found = read(making.make(), 0, [3, 1], caption=0.99)
    tokens, vector = features(found.ids)
    assert found.tokens.dtype == torch.float16
    assert torch.equal(found.tokens, tokens.half()) and torch.equal(found.vector, vector.half())


def test_truncated_captions_are_counted_with_every_caption(tmp_path):
    captions = [("7", "x"), ("y",), ("17", "27", "z")] * 10
    making = Making(Pictures([(32, 32)] * 30, captions), tmp_path)
    assert making.make().manifest.facts["truncated_captions"] == 30


def test_pictures_that_break_the_limits_are_counted_and_named():
    shards = Pictures([(32, 32), (40, 400), (32, 300), (33, 33)])
    message = r"2 of 4 pictures are cut by more than max_crop=0.3.*'key0001' \(400x40\).*max_crop=0"
    with pytest.raises(ValueError, match=message):
        plan(shards, SHAPING)
    allowed = Shaping(**{**vars(SHAPING), "max_crop": 0.9})
    assert sum(len(bucket.samples) for bucket in plan(shards, allowed).buckets) == 4
    small = Pictures([(32, 32), (31, 40)])
    with pytest.raises(ValueError, match=r"1 of 2 pictures are smaller.*'key0001' \(40x31\).*upsc"):
        plan(small, SHAPING)
    enlarging = Shaping(**{**vars(SHAPING), "enlarge": True})
    assert sum(len(bucket.samples) for bucket in plan(small, enlarging).buckets) == 2


def test_a_plan_counts_pictures_whose_crops_are_all_the_same():
    sizes = [(32, 32), (64, 64), (33, 32), (40, 32), (32, 48)]
    squares = Shaping(**{**vars(SHAPING), "buckets": False, "max_crop": 1.0})
    made = plan(Pictures(sizes), squares)
    variants = Variants(False, 8, 0)
    same = [len(set(variants.of(i, size, (32, 32)))) == 1 for i, size in enumerate(sizes)]
    assert made.num_exact == sum(same) == 2


def test_a_plan_reports_every_bucket(shards):
    lines = list(plan(shards, SHAPING).report())
    assert lines[1] == "32x32 px: 24 pictures (37.5%), at most 20% of one cut off"
    few = Shaping(**{**vars(SHAPING), "min_bucket": 21, "max_crop": 0.5})
    lines = list(plan(shards, few).report())
    assert lines[0] == "32x32 px: 64 pictures (100.0%), at most 44% of one cut off"
    assert lines[1].startswith("2 more shapes had fewer than min_bucket pictures; their 40 went")


def test_a_full_disk_is_known_before(shards, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("ldm.data.latents.files.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="GB and 0.00 GB are free; choose another disk"):
        Making(shards, tmp_path).begin()


def test_a_refusal_for_room_leaves_what_the_first_command_goes_on_with(
    shards, made, tmp_path, monkeypatch
):
    assert next(Making(shards, tmp_path).begin()) == 0
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": 1000})
        patch.setattr("ldm.data.latents.files.shutil.disk_usage", lambda path: usage)
        with pytest.raises(ValueError, match="are free"):
            Making(shards, tmp_path, settings=SETTINGS | {"block": 9}).begin()
    Making(shards, tmp_path).make()
    assert files(tmp_path) == files(made)


def test_a_failure_while_room_is_made_names_the_file_and_is_cleared_away(
    shards, tmp_path, monkeypatch
):
    def failing(descriptor, offset, size):
        raise OSError(errno.EFBIG, "File too large")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", failing, raising=False)
        with pytest.raises(OSError, match="File too large: .*codes.npy"):
            Making(shards, tmp_path).begin()
    whole = Shaping(**{**vars(SHAPING), "min_bucket": 64, "max_crop": 1.0})
    Making(shards, tmp_path, shaping=whole, settings=SETTINGS | {"min_bucket": 64}).make()
    assert {path.name for path in tmp_path.iterdir()} == {"32x32", FILE_NAME}


def test_a_missing_or_damaged_cache_names_the_command(made, tmp_path):
    with pytest.raises(ValueError, match="no latents at .*ldm cache autoencoder_run=RUN"):
        LatentCache(tmp_path / "none")
    for name, content in files(made).items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(content)
    count = len(np.load(made / "32x32" / "codes.npy"))
    np.save(tmp_path / "32x32" / "codes.npy", np.load(made / "32x32" / "codes.npy")[:4])
    with pytest.raises(ValueError, match=f"should hold {count} latents but holds 4.*delete"):
        LatentCache(tmp_path)
    for size in (3000, 20, 0):  # of 24 samples, of the header, of nothing
        os.truncate(tmp_path / "32x32" / "codes.npy", size)
        with pytest.raises(ValueError, match="32x32/codes.npy is damaged.*delete.*ldm cache"):
            LatentCache(tmp_path)
    (tmp_path / "32x32" / "ids.npy").unlink()
    with pytest.raises(ValueError, match="ids.npy is missing; delete"):
        LatentCache(tmp_path)
    assert read_json(made / FILE_NAME)["facts"]["num_samples"] == 64


def test_a_cache_is_sent_by_its_place(made):
    cache = LatentCache(made)
    sent = pickle.dumps(cache)
    assert len(sent) < 20_000
    assert torch.equal(read(pickle.loads(sent), 0, [2]).code, read(cache, 0, [2]).code)


def own_kilobytes():
    """What this process holds now, mapped files aside."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads /proc, of Linux")
def test_memory_stays_flat_while_reading(made):
    cache = LatentCache(made)
    rows = torch.arange(256) % cache.counts[0]
    uniform = (torch.arange(256) + 0.5) / 256

    def pages():
        for _ in range(300):
            cache.gather(0, rows, lambda name: uniform)
        return own_kilobytes()

    before = pages()
    assert pages() - before < 2_000
