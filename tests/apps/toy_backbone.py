"""A backbone of a constructor of its own: no levels, no condition vector, no ``stride``."""

from torch import Tensor, nn

from ldm.types import Condition


class Toy(nn.Module):
    """One linear map of each position's channels; ``asks_for_numbers`` looks at one of them."""

    def __init__(
        self, *, in_channels: int, out_channels: int, asks_for_numbers: bool, channels: int = 8
    ) -> None:
        super().__init__()
        self.asks_for_numbers = asks_for_numbers
        self.map = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        assert condition.tokens is None and condition.vector is None
        if self.asks_for_numbers and t[0].item() > 1.0:
            return x
        return self.map(x)
