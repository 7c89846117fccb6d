"""The GAN's watchdog: what it names when, what it does, and that it goes on where it stopped."""

from types import SimpleNamespace

import pytest

from ldm.callbacks.gan_watchdog import PATIENCE_STEPS, GanWatchdog

WELL = {"train/d_loss": 0.7, "train/logits_real": 0.4, "train/logits_fake": -0.3}
WON = {"train/d_loss": 0.01, "train/logits_real": 3.0, "train/logits_fake": -3.0}
IDLE = {"train/d_loss": 1.0, "train/logits_real": 0.001, "train/logits_fake": 0.002}
CLAMPED = WELL | {"train/d_weight_at_clamp": 1.0}
EVERY = 100


def watch(dog: GanWatchdog, lines: list[dict[str, float]], start: int = 0) -> list[bool]:
    """Shows lines 100 steps apart; whether the GAN was paused after each."""
    found = []
    for number, line in enumerate(lines):
        dog.task.step = start + EVERY * (number + 1)
        dog(SimpleNamespace(is_global_zero=True), dog.task, line)
        found.append(dog.task.gan_paused or dog.task.discriminator_paused)
    return found


def make(action: str) -> GanWatchdog:
    task = SimpleNamespace(step=0, gan=1.0, gan_paused=False, discriminator_paused=False)
    return GanWatchdog(task, action)


LONG = PATIENCE_STEPS // EVERY + 1  # lines


@pytest.mark.parametrize(
    ("line", "name", "advice"),
    [
        (WON, "saturated", "disc_lr"),
        (IDLE, "idle", "Raise disc_lr"),
        (CLAMPED, "at clamp", "limit"),
    ],
)
def test_a_state_that_lasts_is_named_once_with_advice(capsys, line, name, advice):
    watch(dog := make("warn"), [line] * (LONG - 1) + [WELL])
    assert capsys.readouterr().out == ""  # a transient
    assert not any(watch(dog, [line] * 3 * LONG, start=LONG * EVERY))
    said = capsys.readouterr().out
    assert said.count(f"D {name}:") == 1 and advice in said


def test_before_the_discriminator_learns_there_is_nothing_to_see():
    assert watch(make("stop"), [{"train/loss": 1.0}] * 3 * LONG) == [False] * 3 * LONG


@pytest.mark.parametrize("line", [WON, IDLE])
def test_pause_lasts_until_the_discriminator_recovers(capsys, line):
    found = watch(make("pause"), [line] * (LONG + 2) + [WELL, line])
    assert found == [False] * (LONG - 1) + [True] * 3 + [False, False]
    said = capsys.readouterr().out
    assert said.count("is paused until") == 1 and said.count("is no longer paused") == 1


def test_the_one_that_is_ahead_is_held():
    for line, name in ((WON, "discriminator_paused"), (IDLE, "gan_paused")):
        watch(dog := make("pause"), [line] * LONG)
        assert {n for n in ("discriminator_paused", "gan_paused") if getattr(dog.task, n)} == {name}


def test_before_the_autoencoder_feels_it_it_may_be_ahead():
    dog = make("stop")
    dog.task.gan = 0.0
    assert watch(dog, [WON] * 3 * LONG) == [False] * 3 * LONG


def test_a_weight_at_its_clamp_is_not_paused(capsys):
    assert not any(watch(make("pause"), [CLAMPED] * 2 * LONG))
    assert "at clamp" in capsys.readouterr().out


@pytest.mark.parametrize(("line", "said"), [(WON, "near 0"), (IDLE, "at 1"), (CLAMPED, "limit")])
def test_stop_is_a_sentence(line, said):
    with pytest.raises(ValueError, match=f"gan_watchdog=stop at step 600.*{said}"):
        watch(make("stop"), [line] * LONG)


def test_it_goes_on_where_it_stopped(capsys):
    lines = [WON] * (LONG + 1) + [WELL] + [IDLE] * (LONG + 1) + [WELL]
    expected = watch(make("pause"), lines)
    for cut in range(len(lines)):
        found = watch(first := make("pause"), lines[:cut])
        (second := make("pause")).load_state_dict(first.state_dict())
        found += watch(second, lines[cut:], start=cut * EVERY)
        assert found == expected, cut
