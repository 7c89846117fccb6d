"""Records of numbers and what keeps two of them from being compared."""

import json

import pytest
import torch

from ldm.metrics.protocol import differences, record, unlike


def test_a_record_is_json_and_says_how_it_was_made():
    entry = record(torch.tensor(0.5), num_images=256, weights="ema", features={"hash": "ab"})
    again = json.loads(json.dumps(entry))
    assert again == entry and entry["value"] == 0.5
    assert entry["protocol"]["num_images"] == 256
    assert {"ldm", "python", "torch", "torchmetrics"} <= entry["protocol"]["versions"].keys()
    assert len(entry["protocol"]["hash"]) == 16


def test_the_hash_stands_for_the_protocol_and_not_the_value():
    one, two = record(0.1, steps=20, seed=0), record(0.9, seed=0, steps=20)
    assert one["protocol"]["hash"] == two["protocol"]["hash"]
    assert record(0.1, steps=21, seed=0)["protocol"]["hash"] != one["protocol"]["hash"]


def test_differences_name_the_keys():
    one = record(0.1, steps=20, seed=0, features={"name": "own", "hash": "ab"}, mean=(0.5, 0.5))
    two = record(0.1, steps=50, features={"name": "own", "hash": "cd"}, mean=[0.5, 0.5])
    two["protocol"]["versions"]["torch"] = "0"
    assert differences(one, two) == ["features.hash", "seed", "steps", "versions.torch"]
    assert differences(one, json.loads(json.dumps(one))) == []


def test_weights_that_are_not_the_published_ones_mark_the_record():
    with pytest.raises(ValueError, match="came to nan"):
        record(float("nan"))
    assert "valid" not in record(0.5, features={"weights_file": "net.pth"})
    entry = record(0.5, features={"weights_file": "net.pth", "unpublished_weights": "net.pth"})
    assert entry["valid"] is False and entry["why"].startswith("net.pth: not a published file")
    assert json.loads(json.dumps(entry)) == entry


def test_what_differs_is_told_with_both_values():
    one, two = record(0.1, steps=20, n=1), record(0.1, steps=50, seed=0, n=1)
    assert unlike(one, two) == {"seed": ("", 0), "steps": (20, 50)}
