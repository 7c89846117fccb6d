"""The navigation takes up pages that it does not name."""

from docs.hooks.navigation import expanded


def test_a_star_is_what_is_not_named_elsewhere() -> None:
    pages = ["index.md", "b.md", "a.md", "theory/x.md", "theory/y.md"]
    nav = [{"Start": ["index.md", "*"]}, {"Theory": ["theory/y.md", "theory/*"]}]
    assert expanded(nav, pages) == [
        {"Start": ["index.md", "a.md", "b.md"]},
        {"Theory": ["theory/y.md", "theory/x.md"]},
    ]


def test_titles_inside_a_section_stay() -> None:
    nav = [{"Reference": ["r/index.md", {"Commands": ["r/c/*"]}]}]
    assert expanded(nav, ["r/index.md", "r/c/train.md"]) == [
        {"Reference": ["r/index.md", {"Commands": ["r/c/train.md"]}]}
    ]
