"""What does not fit is listed, in three kinds, and long lists are cut."""

import pytest
import torch

from ldm.interop.weights_fit import require_fit


def test_each_kind_of_misfit_is_listed():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3, 1), "c": torch.zeros(())}
    require_fit({name: value.half() for name, value in expected.items()}, expected, origin="f")
    found = {"b": torch.zeros(1, 3), "c": torch.zeros(()), "z": torch.zeros(1)}
    what = (
        r"of f do not fit .*; missing: a; unknown: z; of another size: b is \(1, 3\), not \(3, 1\)"
    )
    with pytest.raises(ValueError, match=what):
        require_fit(found, expected, origin="f")
    with pytest.raises(ValueError, match="missing: 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"):
        require_fit({}, {str(i): torch.zeros(1) for i in range(20)}, origin="f")
