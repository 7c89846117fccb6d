"""Whether tensors are those of a network, by name and shape; where not, which differ."""

from collections.abc import Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]


def require_fit(found: Tensors, expected: Tensors, *, origin: str) -> None:
    """ValueError naming the tensors that are missing, unknown or of another size."""
    sizes = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    faults = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another size": sizes,
    }
    said = [f"{what}: {_shown(names)}" for what, names in faults.items() if names]
    if said:
        raise ValueError(
            f"the weights of {origin} do not fit its settings; {'; '.join(said)}. They are not "
            "whole, or another model's; fetch or export them again."
        )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
