"""Formulas in pages: what is one, and what only looks like it."""

import pytest

from docs.hooks.formulas import put_back, set_aside


def test_formulas_are_set_aside_and_put_back() -> None:
    text, found = set_aside("so $a_b*c*d$ and\n\n$$x = 1$$\n")
    assert len(found) == 2 and "$" not in text and "*" not in text
    html = put_back("<p>so xFORMULAx0x and</p>\n<p>xFORMULAx1x</p>", found)
    assert "<p>so <math>" in html
    assert '<div class="formula"><math display="block">' in html


@pytest.mark.parametrize(
    "text",
    [
        "`$HOME` and `$PATH`",
        "```bash\necho $HOME $PATH\n```",
        "```\n$$\n```\n",
        "`` `$a$` ``",
        "it costs $ 5 and $ 6",
    ],
)
def test_code_and_money_are_left_alone(text: str) -> None:
    assert set_aside(text) == (text, [])


def test_a_dollar_can_be_escaped() -> None:
    assert set_aside(r"\$5 or \$6") == ("&#36;5 or &#36;6", [])
