"""Links to files of the repository: each has a page, and names after # exist."""

from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from docs.hooks.sources import on_page_markdown, outward, place, shown


def rewritten(text: str, here: str) -> str:
    return on_page_markdown(text, page=SimpleNamespace(file=SimpleNamespace(src_uri=here)))


def test_a_link_out_of_docs_leads_to_the_page_of_that_file() -> None:
    text = "[draw](../../ldm/diffusion/schedule.py#NoiseSchedule.draw)"
    wanted = "[draw](../source/ldm/diffusion/schedule.py.md#NoiseSchedule.draw)"
    assert rewritten(text, "theory/x.md") == wanted
    assert list(outward(text, "theory/x.md")) == [
        ("ldm/diffusion/schedule.py", "NoiseSchedule.draw")
    ]


@pytest.mark.parametrize(
    "text", ["[a](data.md)", "[a](#here)", "[a](https://arxiv.org/abs/1)", "[a](../missing.py)"]
)
def test_other_links_stay(text: str) -> None:
    assert rewritten(text, "index.md") == text


def test_links_of_a_file_that_is_shown_begin_where_it_lies() -> None:
    assert rewritten("[d](docs/data.md)", place("CONTRIBUTING.md")) == "[d](../data.md)"


def test_a_name_that_is_gone_is_refused() -> None:
    with pytest.raises(PluginError, match="ldm/random.py has no dice"):
        rewritten("[d](../ldm/random.py#dice)", "index.md")


def test_code_is_shown_whole_under_its_names() -> None:
    page = shown("ldm/diffusion/prediction.py")
    assert "## Epsilon { #Epsilon }" in page and "### Epsilon.x0 { #Epsilon.x0 }" in page
    code = [line for line in page.splitlines() if line.startswith("        return ")]
    assert "        return alpha * eps - sigma * x0" in code
