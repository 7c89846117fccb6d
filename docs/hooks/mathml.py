"""TeX formulas as MathML, which browsers draw by themselves: no script, no font, no network.

This is the part of TeX that the handbook is written in. Anything else is a ValueError, which ends a
build: a formula is right or it is not shown.
"""

import re
from collections.abc import Callable
from html import escape

_TOKEN = re.compile(
    r"\\(?:text|mathrm|operatorname|mathtt|mathbb|mathcal)\{[^{}]*\}"
    r"|\\[A-Za-z]+|\\.|\d+(?:[.,]\d+)*|\S"
)
_LETTERS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε",
    "eta": "η", "theta": "θ", "lambda": "λ", "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "psi": "ψ", "omega": "ω", "ell": "ℓ", "Delta": "Δ", "Sigma": "Σ",
    "infty": "∞", "nabla": "∇", "partial": "∂", "varnothing": "∅",
}  # fmt: skip
_OPERATORS = {
    "cdot": "⋅", "times": "×", "le": "≤", "ge": "≥", "ne": "≠", "approx": "≈", "sim": "∼",
    "in": "∈", "to": "→", "leftarrow": "←", "mapsto": "↦", "propto": "∝", "odot": "⊙",
    "mid": "|", "ldots": "…", "cdots": "⋯", "ll": "≪", "gg": "≫",
}  # fmt: skip
_FUNCTIONS = ("log", "exp", "min", "max", "cos", "sin", "arccos", "tanh")
_LARGE = {"sum": "∑", "prod": "∏", "int": "∫"}
_SPACES = {",": "0.17em", ";": "0.28em", "quad": "1em", "qquad": "2em", " ": "0.25em"}
_FENCES = {"lvert": "|", "rvert": "|", "lVert": "‖", "rVert": "‖", "{": "{", "}": "}", ".": ""}
_FENCES |= {"lfloor": "⌊", "rfloor": "⌋", "langle": "⟨", "rangle": "⟩"}
# Marks that join the letter before them, which every font can draw.
_ACCENTS = {"bar": "\u0304", "hat": "\u0302", "tilde": "\u0303"}
_ALPHABETS = {"E": "𝔼", "R": "ℝ", "N": "𝒩", "L": "ℒ", "U": "𝒰", "B": "ℬ"}
_RELATIONS = {"-": "−", "*": "∗", "'": "′"}


def mathml(tex: str, *, display: bool = False) -> str:
    """The formula as a `<math>` element; ValueError for what is not known here."""
    parser = _Parser(tex)
    body = parser.row(())
    if parser.left:
        raise ValueError(f"{tex!r}: {parser.left[-1]!r} closes nothing")
    block = ' display="block"' if display else ""
    # The source stays for those who copy a formula or hear it read.
    source = f'<annotation encoding="application/x-tex">{escape(tex.strip())}</annotation>'
    return f"<math{block}><semantics>{body}{source}</semantics></math>"


class _Parser:
    """Reads tokens from the left; each method gives the MathML of what it has read."""

    def __init__(self, tex: str) -> None:
        self.tex = tex
        self.left = _TOKEN.findall(tex)[::-1]  # the next one is the last
        self.before = "("  # what was read before this token

    def row(self, ends: tuple[str, ...]) -> str:
        """Everything up to one of ``ends``, which stays, or to the end of the formula."""
        parts = []
        while self.left and self.left[-1] not in ends and self.left[-1] != "}":
            parts.append(self.scripted())
        return f"<mrow>{''.join(parts)}</mrow>"

    def take(self, wanted: str) -> None:
        if not self.left or self.left.pop() != wanted:
            raise ValueError(f"{self.tex!r}: {wanted!r} is missing")

    def group(self) -> str:
        """An argument: a group in braces, or one token."""
        if self.left and self.left[-1] == "{":
            self.left.pop()
            inside = self.row(())
            self.take("}")
            return inside
        return self.atom()

    def scripted(self) -> str:
        base_is_large = self.left[-1].lstrip("\\") in _LARGE
        base = self.group()
        scripts: dict[str, str] = {}
        while self.left and self.left[-1] in ("^", "_", "'"):
            mark = self.left.pop()
            where = "_" if mark == "_" else "^"
            before = scripts.get(where, "")
            if before and not before.endswith("′</mo>"):  # a power may follow a prime
                raise ValueError(f"{self.tex!r}: two scripts at one place")
            script = "<mo>′</mo>" if mark == "'" else self.group()
            scripts[where] = f"<mrow>{before}{script}</mrow>" if before else script
        if not scripts:
            return base
        under, over = ("munder", "mover") if base_is_large else ("msub", "msup")
        if len(scripts) == 2:
            both = "munderover" if base_is_large else "msubsup"
            return f"<{both}>{base}{scripts['_']}{scripts['^']}</{both}>"
        ((where, script),) = scripts.items()
        name = under if where == "_" else over
        return f"<{name}>{base}{script}</{name}>"

    def atom(self) -> str:
        if not self.left:
            raise ValueError(f"{self.tex!r}: it ends too early")
        token, before = self.left.pop(), self.before
        self.before = token
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        if token in "()[]|":
            return f'<mo stretchy="false">{token}</mo>'
        if token in "+-" and before in ("(", "[", ",", "=", "<", ">"):
            return f'<mo form="prefix">{_RELATIONS.get(token, token)}</mo>'  # a sign
        if token in "=<>+-*/,;:.!":
            return f"<mo>{escape(_RELATIONS.get(token, token))}</mo>"
        raise ValueError(f"{self.tex!r}: {token!r} is not known here")

    def command(self, name: str) -> str:
        inside: Callable[[], str] = self.group
        if name in _LETTERS:
            return f"<mi>{_LETTERS[name]}</mi>"
        if name in _OPERATORS:
            return f"<mo>{escape(_OPERATORS[name])}</mo>"
        if name in _FUNCTIONS:
            space = '<mspace width="0.17em"/>'
            return f"<mi>{name}</mi>{'' if self._closes() else space}"
        if name in _LARGE:
            return f"<mo>{_LARGE[name]}</mo>"
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"/>'
        if name in _FENCES:
            return f'<mo stretchy="false">{_FENCES[name]}</mo>'
        if name in _ACCENTS:
            return self.accented(_ACCENTS[name])
        if name == "frac":
            return f"<mfrac>{inside()}{inside()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{inside()}</msqrt>"
        if name == "left":
            opening = self.fence()
            body = self.row(("\\right",))
            self.take("\\right")
            return f"<mrow>{opening}{body}{self.fence()}</mrow>"
        kind, brace, text = name.partition("{")
        text = text.removesuffix("}")
        if brace and kind in ("mathbb", "mathcal") and text in _ALPHABETS:
            return f"<mi>{_ALPHABETS[text]}</mi>"
        if brace and kind == "text":
            return f"<mtext>{escape(text)}</mtext>"
        if brace and kind in ("mathrm", "operatorname"):
            return f'<mi mathvariant="normal">{escape(text)}</mi>'
        if brace and kind == "mathtt":
            return f"<mtext><code>{escape(text)}</code></mtext>"
        raise ValueError(f"{self.tex!r}: \\{name} is not known here")

    def accented(self, mark: str) -> str:
        """A letter with a mark above it, in italics as letters are."""
        letter = re.fullmatch(r"(?:<mrow>)?<mi>(.)</mi>(?:</mrow>)?", self.group())
        if letter is None:
            raise ValueError(f"{self.tex!r}: only a letter takes an accent")
        return f'<mi class="accented">{letter[1]}{mark}</mi>'

    def _closes(self) -> bool:
        """Whether what follows a function needs no space before it."""
        return not self.left or self.left[-1] in ("(", "^", "_", "}", "\\left")

    def fence(self) -> str:
        token = self.left.pop() if self.left else ""
        shown = _FENCES.get(token.lstrip("\\")) if token.startswith(("\\", ".")) else token
        if shown is None or len(shown) > 1:
            raise ValueError(f"{self.tex!r}: {token!r} is no bracket")
        return f'<mo fence="true" stretchy="true">{shown}</mo>'
