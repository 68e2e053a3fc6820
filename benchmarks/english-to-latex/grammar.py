"""An unambiguous grammar of English phrases for mathematics, and the LaTeX of each phrase.

    rng = random.Random(0)
    node = sample(rng, depth=2)
    english(node)   # "the square root of x squared plus y end root"
    latex(node)     # "\\sqrt{x^{2} + y}"

A node is an atom (a string) or a tuple: the name of a form, then its parts. A form is a pair of templates, one for
English and one for LaTeX, with the same holes. Phrases stay unambiguous because every form that could run on says its
end ("end root", "end fraction"), because relations stand at the top only, and because a part that binds more loosely
than its hole allows is bracketed in both languages alike: "the quantity ... end quantity" and "( ... )".
"""

from __future__ import annotations

import random
from dataclasses import dataclass

Node = str | tuple["Node", ...]

VARIABLES = tuple("abckmnpqrstuvwxyz")
GREEK = ("alpha", "beta", "gamma", "theta", "mu", "pi", "sigma", "tau", "phi", "omega")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
INFINITY = "infinity"
ATOM_LATEX: dict[str, str] = (
    {name: name for name in VARIABLES}
    | {name: "\\" + name for name in GREEK}
    | {name: str(value) for value, name in enumerate(NUMBERS)}
    | {INFINITY: "\\infty"}
)

# How tightly a form holds together; a hole names the loosest that it takes without brackets.
RELATION, SUM, PRODUCT, FACTOR, BASE = range(5)
# Holes that take an atom of a kind instead of an expression.
VARIABLE, INDEX, BOUND = "variable", "index", "bound"


@dataclass(frozen=True)
class Form:
    """One way to build an expression: two templates over the same holes, written <0>, <1> ..."""

    construct: str
    level: int
    holes: tuple[int | str, ...]
    english: str
    latex: str


FORMS: dict[str, Form] = {
    "equals": Form("relation", RELATION, (SUM, SUM), "<0> equals <1>", "<0> = <1>"),
    "at_most": Form("relation", RELATION, (SUM, SUM), "<0> is at most <1>", "<0> \\leq <1>"),
    "at_least": Form("relation", RELATION, (SUM, SUM), "<0> is at least <1>", "<0> \\geq <1>"),
    "plus": Form("sum", SUM, (PRODUCT, PRODUCT), "<0> plus <1>", "<0> + <1>"),
    "minus": Form("difference", SUM, (PRODUCT, PRODUCT), "<0> minus <1>", "<0> - <1>"),
    "times": Form("product", PRODUCT, (FACTOR, FACTOR), "<0> times <1>", "<0> \\cdot <1>"),
    "squared": Form("power", FACTOR, (BASE,), "<0> squared", "<0>^{2}"),
    "cubed": Form("power", FACTOR, (BASE,), "<0> cubed", "<0>^{3}"),
    "power": Form("power", FACTOR, (BASE, SUM), "<0> to the power <1> end power", "<0>^{<1>}"),
    "sub": Form("subscript", BASE, (VARIABLE, INDEX), "<0> sub <1>", "<0>_{<1>}"),
    "fraction": Form("fraction", FACTOR, (SUM, SUM), "the fraction <0> over <1> end fraction", "\\frac{<0>}{<1>}"),
    "square_root": Form("root", FACTOR, (SUM,), "the square root of <0> end root", "\\sqrt{<0>}"),
    "cube_root": Form("root", FACTOR, (SUM,), "the cube root of <0> end root", "\\sqrt[3]{<0>}"),
    "sine": Form("function", FACTOR, (SUM,), "the sine of <0> end sine", "\\sin(<0>)"),
    "cosine": Form("function", FACTOR, (SUM,), "the cosine of <0> end cosine", "\\cos(<0>)"),
    "logarithm": Form("function", FACTOR, (SUM,), "the logarithm of <0> end logarithm", "\\log(<0>)"),
    "absolute": Form("absolute", FACTOR, (SUM,), "the absolute value of <0> end value", "|<0>|"),
    # The next three leave their body open on the right in LaTeX: they take a factor and count as a product.
    "limit": Form(
        "limit",
        PRODUCT,
        (FACTOR, VARIABLE, BOUND),
        "the limit of <0> as <1> approaches <2> end limit",
        "\\lim_{<1> \\to <2>} <0>",
    ),
    "series": Form(
        "series",
        PRODUCT,
        (FACTOR, VARIABLE, INDEX, BOUND),
        "the sum of <0> from <1> equals <2> to <3> end sum",
        "\\sum_{<1> = <2>}^{<3>} <0>",
    ),
    "derivative": Form(
        "derivative",
        PRODUCT,
        (FACTOR, VARIABLE),
        "the derivative of <0> with respect to <1> end derivative",
        "\\frac{\\mathrm{d}}{\\mathrm{d} <1>} <0>",
    ),
    "integral": Form(
        "integral",
        FACTOR,
        (SUM, INDEX, BOUND, VARIABLE),
        "the integral of <0> from <1> to <2> with respect to <3> end integral",
        "\\int_{<1>}^{<2>} <0> \\, \\mathrm{d} <3>",
    ),
}
CONSTRUCTS: tuple[str, ...] = tuple(dict.fromkeys(form.construct for form in FORMS.values()))
ENGLISH = {name: form.english for name, form in FORMS.items()}
LATEX = {name: form.latex for name, form in FORMS.items()}


def sample(rng: random.Random, depth: int, construct: str | None = None, nested: bool = False) -> Node:
    """A random node of exactly this depth; at depth 0 an atom. A construct fixes the outermost form."""
    if depth == 0:
        return rng.choice(rng.choice((VARIABLES, VARIABLES, GREEK, NUMBERS)))
    names = [
        name
        for name, form in FORMS.items()
        if (construct is None or form.construct == construct)
        and not (nested and form.level == RELATION)
        and (depth == 1 or any(isinstance(hole, int) for hole in form.holes))
    ]
    # Constructs are equally likely, whatever the number of their forms.
    chosen = rng.choice(list(dict.fromkeys(FORMS[name].construct for name in names)))
    name = rng.choice([name for name in names if FORMS[name].construct == chosen])
    holes = FORMS[name].holes
    deepest = rng.choice([i for i, hole in enumerate(holes) if isinstance(hole, int)] or [0])
    parts: list[Node] = []
    for i, hole in enumerate(holes):
        if isinstance(hole, str):
            parts.append(_sample_atom(rng, hole))
        else:
            parts.append(sample(rng, depth - 1 if i == deepest else rng.randrange(depth), nested=True))
    # "to the power two" is said "squared", so that one LaTeX string has one phrase.
    if name == "power" and parts[1] in ("two", "three"):
        return ("squared" if parts[1] == "two" else "cubed", parts[0])
    return (name, *parts)


def english(node: Node) -> str:
    """The phrase of a node."""
    return render(node, ENGLISH, {}, ("the quantity ", " end quantity"))


def latex(node: Node) -> str:
    """The LaTeX of a node."""
    return render(node, LATEX, ATOM_LATEX, ("(", ")"))


def render(node: Node, templates: dict[str, str], atoms: dict[str, str], brackets: tuple[str, str]) -> str:
    """A node in the language that the templates (by form) and the atoms (those that change) describe."""
    if isinstance(node, str):
        return atoms.get(node, node)
    name = str(node[0])
    text = templates[name]
    for i, (part, hole) in enumerate(zip(node[1:], FORMS[name].holes, strict=True)):
        filling = render(part, templates, atoms, brackets)
        if not isinstance(part, str) and isinstance(hole, int) and FORMS[str(part[0])].level < hole:
            filling = brackets[0] + filling + brackets[1]
        text = text.replace(f"<{i}>", filling)
    return text


def depth_of(node: Node) -> int:
    """How many forms stand inside each other; 0 for an atom."""
    return 0 if isinstance(node, str) else 1 + max(depth_of(part) for part in node[1:])


def _sample_atom(rng: random.Random, hole: str) -> str:
    if hole == VARIABLE:
        return rng.choice(VARIABLES)
    if hole == INDEX:
        return rng.choice(rng.choice((VARIABLES, NUMBERS)))
    return rng.choice(rng.choice((VARIABLES, NUMBERS, (INFINITY,))))
