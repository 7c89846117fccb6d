"""A folder of one's own configurations is found whatever it is called."""

import pytest

from ldm.apps.compose import compose


@pytest.mark.parametrize(
    "name", ["a,b", "a=b", "a(b)", "it's", "a b", "${HOME}", "[a]", r"a\'b", "a\\\\"]
)
def test_every_name_of_a_folder_will_do(name, tmp_path):
    folder = tmp_path / name / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - demo_diffusion\nmax_steps: 77\n"
    )
    words = ["experiment=mine", "data.root=x"]
    assert compose("train", words, config_dir=str(folder.parent)).max_steps == 77
