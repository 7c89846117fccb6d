"""TeX to MathML: what is shown, and that nothing unknown is shown wrongly."""

import re
from xml.etree import ElementTree

import pytest

from docs.hooks.mathml import mathml
from tests.documents.commands import DOCUMENTS


def shape(tex: str) -> str:
    """The elements of a formula without rows and source, as name(children) or their text."""

    def walk(node: ElementTree.Element) -> str:
        inside = "".join(walk(child) for child in node)
        if node.tag in ("mrow", "math", "semantics"):
            return inside
        if node.tag == "annotation":
            return ""
        return f"{node.tag}({inside})" if inside else node.text or ""

    return walk(ElementTree.fromstring(mathml(tex)))


def test_scripts_and_fractions() -> None:
    assert shape(r"x_t^2") == "msubsup(xt2)"
    assert shape(r"\frac{a}{b+1}") == "mfrac(ab+1)"
    assert shape(r"\sqrt{1 - x}") == "msqrt(1−x)"
    assert shape(r"\sigma'") == "msup(σ′)"
    assert shape(r"\sigma'^2") == "msup(σ′2)"
    assert shape(r"\hat{x}_0") == "msub(x\u03020)"


def test_sums_have_their_bounds_below_and_above() -> None:
    assert shape(r"\sum_{i=1}^{N} i") == "munderover(∑i=1N)i"


def test_brackets_grow_only_where_asked() -> None:
    grown = mathml(r"\left( \frac{a}{b} \right)")
    assert grown.count('stretchy="true"') == 2
    assert 'stretchy="true"' not in mathml("(a)")


def test_a_function_keeps_its_distance_but_from_brackets() -> None:
    assert "mspace" in mathml(r"\log x")
    assert "mspace" not in mathml(r"\log (x)") and "mspace" not in mathml(r"\cos^2")


def test_a_sign_is_told_from_a_difference() -> None:
    assert mathml("[-1, 1]").count("prefix") == mathml("a = -b").count("prefix") == 1
    assert "prefix" not in mathml("1 - x")


def test_the_source_is_kept_and_escaped() -> None:
    assert '<annotation encoding="application/x-tex">a &lt; b</annotation>' in mathml("a < b")


@pytest.mark.parametrize(
    "tex",
    [r"\unknown", r"\frac{a}", "{a", "a}", r"\left( a", "x^1^2", "a # b", r"\bar{xy}"],
)
def test_what_is_not_known_is_refused(tex: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(tex))):
        mathml(tex)


def test_formulas_of_the_handbook_are_well_formed() -> None:
    from docs.hooks.formulas import set_aside

    pages = [page for page in DOCUMENTS if page.name != "README.md"]
    found = [formula for page in pages for formula in set_aside(page.read_text())[1]]
    assert len(found) > 100
    for formula in found:
        ElementTree.fromstring(formula)
