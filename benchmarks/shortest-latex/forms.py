"""Every right way, by the rules below, to write an expression of ../english-to-latex/grammar.py in LaTeX.

    writings(("plus", ("squared", "x"), ("sine", "y")))   # x^2 + \\sin(y), x^{2} + \\sin(y) ...

An expression has one meaning and many spellings. Each form of the grammar has one or two shapes here; a shape is a row
of pieces, and a piece that is a tuple is a choice. Of two shapes and of a choice, the longer way stands first. Spacing
is no choice: there is one for each shape, and `length` counts no spaces.

Each spelling stays unambiguous: a hole says what may stand in it (FITS), and a shape that holds together more loosely
than its form does in the grammar says so by its level, and is bracketed where that is too loose.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from grammar import ATOM_LATEX, BASE, FORMS, PRODUCT, Node

LONG_SHARE = 0.65
"""How often a writer of a train row takes the longer way of a choice."""
BRACKETS = (("\\left( ", " \\right)"), ("(", ")"))
Way = TypeVar("Way")


@dataclass(frozen=True)
class Shape:
    """One way to write a form. <0> is its first part; a mark as in <0!> says what the part must be (FITS)."""

    pieces: tuple[str | tuple[str, ...], ...]
    level: int | None = None
    """How tightly it holds together; None: as tightly as the form in the grammar."""


@dataclass(frozen=True)
class Writing:
    text: str
    level: int
    share: float
    """How often a writer of a train row comes to it, as a weight: not every choice is free everywhere."""


def _stands_alone(text: str) -> bool:
    """Whether a factor shows where it ends, so that another one can stand beside it."""
    return not text.startswith("\\int") and "|" not in (text[0], text[-1])


FITS: dict[str, Callable[[str], bool]] = {
    "": lambda text: True,
    "!": lambda text: re.fullmatch(r"[a-z0-9]|\\[a-z]+", text) is not None,  # one token, which needs no braces
    "|": lambda text: "|" not in text,  # bars in bars are hard to pair
    ".": _stands_alone,  # the first of two factors side by side
    ",": lambda text: _stands_alone(text) and not text[0].isdigit(),  # the second
}


SHAPES: dict[str, tuple[Shape, ...]] = {
    "equals": (Shape(("<0> = <1>",)),),
    "at_most": (Shape(("<0> ", ("\\leq", "\\le"), " <1>")),),
    "at_least": (Shape(("<0> ", ("\\geq", "\\ge"), " <1>")),),
    "plus": (Shape(("<0> + <1>",)),),
    "minus": (Shape(("<0> - <1>",)),),
    "times": (Shape((("<0> \\cdot <1>", "<0.> <1,>"),)),),
    "squared": (Shape(("<0>^", ("{2}", "2"))),),
    "cubed": (Shape(("<0>^", ("{3}", "3"))),),
    "power": (Shape(("<0>^", ("{<1>}", "<1!>"))),),
    "sub": (Shape(("<0>_", ("{<1>}", "<1!>"))),),
    "fraction": (Shape(("\\frac{<0>}{<1>}",)), Shape(("<0!>/<1!>",), level=PRODUCT)),
    "square_root": (Shape(("\\sqrt", ("[2]", ""), "{<0>}")),),
    "cube_root": (Shape(("\\sqrt[3]{<0>}",)),),
    "sine": (Shape(("\\sin", ("\\left( <0> \\right)", "(<0>)"))),),
    "cosine": (Shape(("\\cos", ("\\left( <0> \\right)", "(<0>)"))),),
    "logarithm": (Shape(("\\log", ("\\left( <0> \\right)", "(<0>)"))),),
    "absolute": (Shape((("\\left| <0> \\right|", "|<0|>|"),)),),
    "limit": (Shape(("\\lim_{<1> ", ("\\rightarrow", "\\to"), " <2>} <0>")),),
    "series": (Shape(("\\sum_{<1> = <2>}^", ("{<3>}", "<3!>"), " <0>")),),
    "derivative": (Shape((("\\frac{\\mathrm{d}}{\\mathrm{d} <1>}", "\\frac{d}{d <1>}"), " <0>")),),
    "integral": (
        Shape(("\\int_", ("{<1>}", "<1!>"), "^", ("{<2>}", "<2!>"), " <0> \\, ", ("\\mathrm{d}", "d"), " <3>")),
    ),
}


def length(text: str) -> int:
    """Characters without spaces, which mean nothing in LaTeX's mathematics."""
    return len(text.replace(" ", ""))


def writings(node: Node) -> list[Writing]:
    """Every right way to write a node, the shortest first (of equals, the first in the alphabet)."""
    return sorted(_writings(node), key=lambda writing: (length(writing.text), writing.text))


def _writings(node: Node) -> Iterator[Writing]:
    if isinstance(node, str):
        yield Writing(ATOM_LATEX[node], BASE, 1.0)
        return
    name, *parts = node
    form = FORMS[str(name)]
    for shape, shape_share in _shared(SHAPES[str(name)]):
        level = form.level if shape.level is None else shape.level
        filled = [list(_in_hole(part, hole)) for part, hole in zip(parts, form.holes, strict=True)]
        choices = [_shared(piece if isinstance(piece, tuple) else (piece,)) for piece in shape.pieces]
        for pieces in itertools.product(*choices):
            template = "".join(piece for piece, _ in pieces)
            for fillings in itertools.product(*filled):
                text = _fill(template, [filling for filling, _ in fillings])
                if text is not None:
                    yield Writing(text, level, prod((shape_share, *(share for _, share in (*pieces, *fillings)))))


def _in_hole(part: Node, hole: int | str) -> Iterator[tuple[str, float]]:
    """The ways to write a part where it stands: bracketed where it holds together too loosely."""
    for writing in _writings(part):
        if isinstance(hole, int) and writing.level < hole:
            for (opening, closing), share in _shared(BRACKETS):
                yield opening + writing.text + closing, writing.share * share
        else:
            yield writing.text, writing.share


def _fill(template: str, fillings: list[str]) -> str | None:
    """The template with its holes filled; None where a filling does not fit its hole."""
    if not all(FITS[mark](fillings[int(hole)]) for hole, mark in re.findall(r"<(\d)(.?)>", template)):
        return None
    return re.sub(r"<(\d).?>", lambda hole: fillings[int(hole[1])], template)


def _shared(ways: tuple[Way, ...]) -> list[tuple[Way, float]]:
    """Each way of a choice with how often it is taken."""
    if len(ways) == 1:
        return [(ways[0], 1.0)]
    long, short = ways
    return [(long, LONG_SHARE), (short, 1 - LONG_SHARE)]
