"""Aspect-ratio buckets: legal shapes, the nearest for each picture, nobody lost."""

import numpy as np
import pytest

from ldm.data.latents.buckets import assign, scaled_to_cover, shape_table, share_cut_off


@pytest.mark.parametrize("size_px, step_px, ratio", [(512, 64, 2.5), (256, 32, 4.0), (64, 8, 1.0)])
def test_shapes_keep_the_area_the_step_and_the_ratio(size_px, step_px, ratio):
    shapes = shape_table(size_px, step_px=step_px, max_aspect_ratio=ratio)
    assert (shapes % step_px == 0).all() and (shapes > 0).all()
    area = shapes.prod(axis=1)
    assert (area <= size_px**2).all()
    assert (area > size_px**2 - step_px * shapes.max(axis=1)).all()  # no room for one more step
    assert ((shapes.max(axis=1) / shapes.min(axis=1)) <= ratio).all()
    found = {tuple(shape) for shape in shapes.tolist()}
    assert (size_px, size_px) in found and len(found) == len(shapes)
    assert {(w, h) for h, w in found} == found
    assert (np.diff(shapes[:, 0] / shapes[:, 1]) > 0).all()


def test_the_table_of_512():
    shapes = shape_table(512, step_px=64, max_aspect_ratio=2.5)
    assert shapes.tolist() == [
        [320, 768], [384, 640], [448, 576], [512, 512], [576, 448], [640, 384], [768, 320],
    ]  # fmt: skip


def test_a_size_off_the_step_names_its_neighbours():
    with pytest.raises(ValueError, match="size=500 is no multiple of bucket_step=64.*448 or 512"):
        shape_table(500, step_px=64, max_aspect_ratio=2.0)


def test_every_picture_goes_to_the_nearest_ratio():
    shapes = shape_table(512, step_px=64, max_aspect_ratio=2.5)
    sizes = np.random.default_rng(0).integers(100, 3000, (5000, 2))
    found = assign(sizes, shapes, min_bucket=1)
    ratio = sizes[:, 0] / sizes[:, 1]
    distance = np.abs(np.log(ratio)[:, None] - np.log(found.shapes[:, 0] / found.shapes[:, 1]))
    np.testing.assert_array_equal(found.bucket, distance.argmin(axis=1))
    assert len(found.shapes) == len(shapes) and not found.dissolved


def test_small_buckets_dissolve_into_the_next_nearest_and_nobody_is_lost():
    shapes = shape_table(512, step_px=64, max_aspect_ratio=2.5)
    sizes = np.array([[512, 512]] * 10 + [[448, 576]] * 2 + [[384, 640]] * 3 + [[768, 320]])
    found = assign(sizes, shapes, min_bucket=4)
    # 768x320 goes first, to the square; then 448x576, to the square (0.25 away, 384x640 is 0.26);
    # then 384x640.
    assert found.dissolved == [(768, 320, 1), (448, 576, 2), (384, 640, 3)]
    assert found.shapes.tolist() == [[512, 512]] and (found.bucket == 0).all()
    found = assign(sizes, shapes, min_bucket=3)
    assert found.shapes.tolist() == [[384, 640], [512, 512]]
    assert np.bincount(found.bucket).tolist() == [3, 13]
    assert len(assign(sizes[:2], shapes, min_bucket=100).shapes) == 1  # the last one stays


def test_cover_and_cut_are_those_of_the_pixels():
    sizes, shape = np.array([[300, 600], [600, 300], [64, 64], [10, 1000]]), np.array([128, 64])
    scaled = scaled_to_cover(sizes, shape)
    assert (scaled >= shape).all() and (scaled == shape).any(axis=1).all()
    assert scaled.tolist() == [[128, 256], [128, 64], [128, 128], [128, 12800]]
    kept = 128 * 64 / scaled.prod(axis=1)
    np.testing.assert_allclose(share_cut_off(sizes, shape), 1 - kept, atol=1e-12)


def test_a_million_pictures_are_assigned_at_once():
    sizes = np.random.default_rng(0).integers(256, 2048, (1_000_000, 2), dtype=np.int32)
    found = assign(sizes, shape_table(512, step_px=64, max_aspect_ratio=2.0), min_bucket=1)
    assert np.bincount(found.bucket).sum() == 1_000_000
