"""A device is known by its whole name: one that has another's in it computes otherwise."""

import pytest

from ldm.apps.planning.gpus import GPUS, gpu_called, peak_of


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100_40gb"),
        ("A100-SXM-80GB", "a100_80gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla V100-SXM2-32GB", "v100"),
    ],
)
def test_known_devices(device, name):
    assert gpu_called(device) is GPUS[name]


@pytest.mark.parametrize(
    "device",
    [
        "NVIDIA GH200 480GB",
        "NVIDIA GB200",
        "NVIDIA H200 NVL",
        "NVIDIA A100 80GB PCIe",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    ],
)
def test_others_are_not_taken_for_them(device):
    assert gpu_called(device) is None


def test_peaks_are_of_16_bits_alone():
    assert peak_of(GPUS["h100"], "bf16-mixed") == peak_of(GPUS["h100"], "16-true") == 989e12
    assert peak_of(GPUS["v100"], "bf16-mixed") is None
    assert peak_of(GPUS["h100"], "32-true") is None
