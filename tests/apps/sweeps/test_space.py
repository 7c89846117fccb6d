"""What is varied: Hydra's grammar, every combination of a grid, the corners of a search."""

import pytest

from ldm.apps.errors import UserError
from ldm.apps.sweeps.space import Interval, Values, combinations, corners, read_space


def test_words_with_one_value_stay_and_others_are_read():
    fixed, space = read_space(
        [
            "prompt=a, b", "run=a=b", "lr=tag(log,interval(1e-4,1e-2))", "drop_rate=interval(0,1)",
            "backbone.channels=choice([64,64],[64,128])", "global_batch=range(16,64,step=16)",
            "n=int(interval(1,5))", "seed=1,2", "r=range(0,1,0.25)",
        ]
    )  # fmt: skip
    assert fixed == ["prompt=a, b", "run=a=b"]
    assert space == [
        Interval("lr", 1e-4, 1e-2, whole=False, log=True),
        Interval("drop_rate", 0.0, 1.0, whole=False, log=False),
        Values("backbone.channels", ("[64,64]", "[64,128]")),
        Values("global_batch", ("16", "32", "48"), range(16, 64, 16)),
        Interval("n", 1, 5, whole=True, log=False),
        Values("seed", ("1", "2")),
        Values("r", ("0.0", "0.25", "0.5", "0.75")),
    ]  # fmt: skip


def test_numbers_of_an_interval_have_few_digits_and_stay_within():
    lr = Interval("lr", 1e-4, 1.23456e-2, whole=False, log=True)
    assert lr.word(0.00123456) == "0.001235"
    assert lr.word(1.23456e-2) == "0.0123456"  # and not 0.01235, which is beyond
    assert Interval("n", 1, 5, whole=True, log=False).word(3.0) == "3"


def test_a_grid_has_every_combination_and_no_interval():
    _, space = read_space(["a=1,2", "b=x,y"])
    assert combinations(space) == [
        ("a=1", "b=x"), ("a=1", "b=y"), ("a=2", "b=x"), ("a=2", "b=y"),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"lr=interval.*lr=0.0001,0.01.*sweep=tpe"):
        combinations(read_space(["lr=interval(1e-4,1e-2)"])[1])


def test_each_value_is_in_a_corner():
    _, space = read_space(["a=1,2,3", "b=interval(0,1)"])
    assert [*corners(space)] == [
        ("a=1", "b=0.0"), ("a=2", "b=0.0"), ("a=3", "b=0.0"), ("a=1", "b=1.0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a=1"], "several values"),
        (["a=1,2", "a=3,4"], "a= is varied twice"),
        (["lr=tag(log,interval(0,1))"], "above 0 for log"),
        (["lr=interval(2,1)"], "the lower one first"),
        (["a=range(3,3)"], "empty"),
        (["a=1,2,1"], "1 is there twice"),
        (["a=glob(*)"], "choice"),
        (["a=choice(1,"], "a=choice"),
    ],
)
def test_what_cannot_be_varied_is_said(words, said):
    with pytest.raises(UserError, match=said):
        combinations(read_space(words)[1])
