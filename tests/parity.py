"""How close our networks and samplers are to the reference's: asserted always, printed if asked.

Hooks for conftest.py. ``agree`` compares two tensors and remembers by how much they differ; with
``--parity`` only the tests that use it run, and the differences are printed as a table at the end
(`make parity`).
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

ROWS = pytest.StashKey[list["Row"]]()


class Row(NamedTuple):
    """One line of the table."""

    component: str
    configuration: str
    dtype: str
    difference: float


Agree = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity", action="store_true", help="only parity, with its table")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--parity"):
        kept = [item for item in items if "agree" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Agree:
    """Asserts that ours equals the reference's within a tolerance (absolute and relative)."""

    def check(
        ours: Tensor, theirs: Tensor, *, component: str, configuration: str, tolerance: float
    ) -> None:
        dtype = str(ours.dtype).removeprefix("torch.")
        difference = float((ours.detach() - theirs.detach()).abs().max())
        request.config.stash[ROWS].append(Row(component, configuration, dtype, difference))
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance, msg=f"{component}, {configuration}"
        )

    return check


def same_gradients(ours: nn.Module, theirs: nn.Module, tolerance: float) -> tuple[Tensor, Tensor]:
    """The gradients of all parameters, end to end, ours and theirs; asserted to be the same."""
    found, expected = (
        {n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (ours, theirs)
    )
    assert found.keys() == expected.keys() and len(found) > 20
    assert max(float(grad.abs().max()) for grad in found.values()) > 1e-3
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=tolerance, atol=tolerance, msg=name)
    return (
        torch.cat([grad.flatten() for grad in found.values()]),
        torch.cat([expected[name].flatten() for name in found]),
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    rows = sorted(config.stash[ROWS])
    if not config.getoption("--parity") or not rows:
        return
    terminalreporter.section("parity: largest absolute difference")
    width = [max(len(str(row[i])) for row in rows) for i in range(3)]
    for row in rows:
        name = "  ".join(str(row[i]).ljust(width[i]) for i in range(3))
        terminalreporter.write_line(f"{name}  {row.difference:.1e}")
