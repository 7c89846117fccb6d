"""The noise schedule against weighting: what is learned where sampling begins."""

import re

import pytest

from ldm.apps.check import check
from ldm.apps.errors import UserError

DIFFUSION = ["experiment=demo_diffusion", "data.root=DATA"]


@pytest.mark.parametrize(
    "words, share",
    [
        ([], None),
        (["prediction=v"], None),
        (["prediction=sample"], None),
        (["schedule=linear"], None),
        (["schedule=linear", "prediction=v"], "5e-05"),
        (["schedule=linear", "prediction=sample"], "8e-06"),
        (["schedule=cosine", "prediction=v"], "3e-09"),
        (["schedule=cosine", "prediction=v", "weighting=uniform"], None),
    ],
)
def test_a_weighting_that_hardly_counts_where_sampling_begins_is_remarked_on(words, share, capsys):
    assert check("train", [*DIFFUSION, *words], config_dir=None) == 0
    said = capsys.readouterr().out
    found = re.findall(r"last step of the schedule counts (\S+) .*weighting=uniform", said)
    assert found == ([share] if share else [])


@pytest.mark.parametrize(
    "words",
    [["schedule=flow", "prediction=flow"], ["prediction=v", "schedule.zero_terminal_snr=true"]],
)
def test_a_weighting_that_does_not_count_where_sampling_begins_is_refused(words):
    with pytest.raises(UserError, match="no weight, and sampling begins there; set weighting=uni"):
        check("train", [*DIFFUSION, *words], config_dir=None)
