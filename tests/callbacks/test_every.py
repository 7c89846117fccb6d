"""Actions on the one counter: at every multiple of the steps, and once at the end."""

from types import SimpleNamespace

import pytest

from ldm.callbacks.every import Every


def act(every_steps, *, start=0, stop, accumulate=1, when_stopped=False, stopped=False):
    """The steps at which an action happens in a run from ``start`` to ``stop``."""
    seen = []
    module = SimpleNamespace(step=start)
    trainer = SimpleNamespace(should_stop=stopped)
    every = Every(every_steps, lambda _, m: seen.append(m.step), when_stopped=when_stopped)
    every.on_train_start(trainer, module)
    for index in range((stop - start) * accumulate):
        if (index + 1) % accumulate == 0:
            module.step += 1
        trainer.is_last_batch = not stopped and index + 1 == (stop - start) * accumulate
        every.on_train_batch_end(trainer, module, {}, None, index)
    every.on_train_end(trainer, module)
    return seen


@pytest.mark.parametrize("accumulate", [1, 3])
def test_multiples_and_the_end_each_once(accumulate):
    assert act(3, stop=7, accumulate=accumulate) == [3, 6, 7]
    assert act(3, stop=6, accumulate=accumulate) == [3, 6]
    assert act(100, stop=2, accumulate=accumulate) == [2]


def test_a_resumed_run_keeps_the_beat():
    assert act(3, start=4, stop=10) == [6, 9, 10]
    assert act(3, start=6, stop=6) == []  # nothing new since the last time
    assert act(3, start=3, stop=5) == [5]


def test_the_end_of_an_interrupted_run():
    assert act(4, stop=6, stopped=True, when_stopped=True) == [4, 6]
    assert act(4, stop=6, stopped=True, when_stopped=False) == [4]


def test_at_the_last_step_all_that_is_due_comes_in_order():
    seen = []
    module = SimpleNamespace(step=4)
    trainer = SimpleNamespace(should_stop=False, is_last_batch=True)
    often, late = (
        Every(steps, lambda _, m, name=name: seen.append(name), when_stopped=False)
        for steps, name in ((100, "validation"), (5, "checkpoint"))
    )
    for every in (often, late):
        every.on_train_start(trainer, module)
    module.step = 5
    for every in (often, late):
        every.on_train_batch_end(trainer, module, {}, None, 0)
    for every in (often, late):
        every.on_train_end(trainer, module)
    assert seen == ["validation", "checkpoint"]
