"""Settings under which networks measure."""

import pytest
import torch

from ldm.apps.evaluations.observers.exact import exact


def settings():
    cudnn = torch.backends.cudnn
    return (
        torch.is_grad_enabled(),
        cudnn.allow_tf32,
        cudnn.deterministic,
        torch.get_float32_matmul_precision(),
    )


def test_float32_is_kept_whole_and_settings_come_back():
    @exact()
    def inside(fails):
        if fails:
            raise KeyError
        return settings()

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        outside = settings()
        assert outside[1] and inside(False) == (False, False, True, "highest")
        assert settings() == outside
        with pytest.raises(KeyError):
            inside(True)
        assert settings() == outside
    finally:
        torch.set_float32_matmul_precision(before)
