"""From sums to means, for numbers that are added up block by block."""

from torch import Tensor


def means(totals: dict[str, Tensor]) -> dict[str, Tensor]:
    """``totals[name] / totals[name_count]`` for every name with a count that is not zero."""
    return {
        name: value / totals[f"{name}_count"]
        for name, value in totals.items()
        if float(totals.get(f"{name}_count", 0.0)) > 0.0
    }
