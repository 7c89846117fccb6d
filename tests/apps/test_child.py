"""A child that is told to stop ends first, and its parent says how."""

import signal
import sys

import pytest

from ldm.apps.child import run_child

TELLS_ITS_PARENT = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
os.kill(os.getppid(), signal.{0})
if signal.{0} == signal.SIGINT:
    sys.exit(130)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGUSR1", 75), ("SIGTERM", 75), ("SIGINT", 130)])
def test_a_signal_to_the_parent_alone_is_passed_on_and_ctrl_c_is_waited_for(name, code):
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    before = [signal.getsignal(number) for number in numbers]
    assert run_child([sys.executable, "-c", TELLS_ITS_PARENT.format(name)]) == code
    assert before == [signal.getsignal(number) for number in numbers]


def test_a_child_that_dies_of_another_signal_has_failed():
    assert run_child([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"]) == -15


def test_an_exit_code_is_passed_on():
    assert run_child([sys.executable, "-c", "raise SystemExit(3)"]) == 3
