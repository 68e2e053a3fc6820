"""LaTeX of this benchmark back to the expression that it means, by a recursive-descent parser.

    read("x^2/y")   # ("fraction", ("squared", "x"), "y"), a node of ../english-to-latex/grammar.py

It shares no code with forms.py and knows no list of shapes, so the two check each other: what every accepted answer of
a row means must be said, in the grammar's English, by the row's phrase. Long and short spellings mix freely. What it
cannot read raises Unreadable: nothing is guessed.

    relation   sum [ = | \\leq | \\le | \\geq | \\ge  sum ]
    sum        product [ + | -  product ]
    product    factor [ \\cdot factor | / factor | factor ]  |  a limit, series or derivative of a factor
    factor     base [ ^ script ]  |  \\frac{sum}{sum}  |  a root, function or absolute value  |  an integral
    base       atom [ _ script ]  |  ( sum )
    script     { sum }  |  token

\\left and \\right may stand before brackets and bars, both or neither.
"""

from __future__ import annotations

import re
from typing import Any

TOKEN = re.compile(r"\\[a-zA-Z]+|\\,|\d+|\S")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
GREEK = frozenset({"alpha", "beta", "gamma", "theta", "mu", "pi", "sigma", "tau", "phi", "omega"})
RELATIONS = {"=": "equals", "\\leq": "at_most", "\\le": "at_most", "\\geq": "at_least", "\\ge": "at_least"}
SUMS = {"+": "plus", "-": "minus"}
FUNCTIONS = {"\\sin": "sine", "\\cos": "cosine", "\\log": "logarithm"}
POWERS = {"two": "squared", "three": "cubed"}
MAX_TOKENS = 200


class Unreadable(ValueError):
    """The text is no LaTeX of this benchmark."""


def read(latex: str) -> Any:
    """The node that a LaTeX string means; spacing does not matter. Raises Unreadable."""
    tokens = TOKEN.findall(latex)
    if len(tokens) > MAX_TOKENS:
        raise Unreadable(f"more than {MAX_TOKENS} tokens")
    reader = _Reader(tokens)
    node = reader.relation()
    if reader.peek():
        raise Unreadable(f"{reader.peek()!r} was not expected")
    return node


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0

    def relation(self) -> Any:
        left = self.sum()
        name = RELATIONS.get(self.peek())
        if name is None:
            return left
        self.next()
        return (name, left, self.sum())

    def sum(self) -> Any:
        left = self.product()
        name = SUMS.get(self.peek())
        if name is None:
            return left
        self.next()
        return (name, left, self.product())

    def product(self) -> Any:
        if self.take("\\lim"):
            self.expect("_", "{")
            variable = self.atom()
            if not self.take("\\rightarrow"):
                self.expect("\\to")
            bound = self.atom()
            self.expect("}")
            return ("limit", self.factor(), variable, bound)
        if self.take("\\sum"):
            self.expect("_", "{")
            variable = self.atom()
            self.expect("=")
            first = self.atom()
            self.expect("}", "^")
            last = self.script()
            return ("series", self.factor(), variable, first, last)
        for d in (("\\mathrm", "{", "d", "}"), ("d",)):
            if self.take("\\frac", "{", *d, "}", "{", *d):
                variable = self.atom()
                self.expect("}")
                return ("derivative", self.factor(), variable)
        left = self.factor()
        if self.take("/"):
            return ("fraction", left, self.factor())
        if self.take("\\cdot") or self.begins_a_factor():
            return ("times", left, self.factor())
        return left

    def begins_a_factor(self) -> bool:
        """Whether what comes next can only be a second factor: a bar might close a value, a number end another one."""
        token = self.peek()
        opens = token in ("(", "\\frac", "\\sqrt", "\\int", *FUNCTIONS) or (token, self.peek(1)) == ("\\left", "(")
        return opens or token.isalpha() or token[1:] in GREEK

    def factor(self) -> Any:
        if self.take("\\frac", "{"):
            over = self.sum()
            self.expect("}", "{")
            under = self.sum()
            self.expect("}")
            return ("fraction", over, under)
        if self.take("\\sqrt"):
            if self.take("[", "3", "]"):
                return ("cube_root", self.script())
            self.take("[", "2", "]")
            return ("square_root", self.script())
        if self.peek() in FUNCTIONS:
            name = FUNCTIONS[self.next()]
            inside = self.enclosed("(", ")")
            if inside is None:
                raise Unreadable("a function's brackets were expected")
            return (name, inside)
        inside = self.enclosed("|", "|")
        if inside is not None:
            return ("absolute", inside)
        if self.take("\\int"):
            self.expect("_")
            first = self.script()
            self.expect("^")
            last = self.script()
            body = self.closed_by("\\,")
            if not self.take("\\mathrm", "{", "d", "}"):
                self.expect("d")
            return ("integral", body, first, last, self.atom())
        base = self.base()
        if not self.take("^"):
            return base
        exponent = self.script()
        return (POWERS[exponent], base) if exponent in ("two", "three") else ("power", base, exponent)

    def base(self) -> Any:
        inside = self.enclosed("(", ")")
        if inside is not None:
            return inside
        atom = self.atom()
        return ("sub", atom, self.script()) if self.take("_") else atom

    def script(self) -> Any:
        """What stands in braces, or a single token, which needs none."""
        return self.closed_by("}") if self.take("{") else self.token()

    def token(self) -> str:
        if re.fullmatch(r"\d\d+", self.peek()):
            raise Unreadable(f"only the first digit of {self.peek()} would be meant")
        return self.atom()

    def atom(self) -> str:
        token = self.next()
        if token.isdecimal() and int(token) < len(NUMBERS):
            return NUMBERS[int(token)]
        if token == "\\infty":
            return "infinity"
        if token[1:] in GREEK and token[0] == "\\":
            return token[1:]
        if re.fullmatch("[a-z]", token) and token != "d":
            return token
        raise Unreadable(f"{token!r} is no letter, Greek letter or number")

    def enclosed(self, opening: str, closing: str) -> Any | None:
        if self.take("\\left", opening):
            return self.closed_by("\\right", closing)
        return self.closed_by(closing) if self.take(opening) else None

    def closed_by(self, *closing: str) -> Any:
        inside = self.sum()
        self.expect(*closing)
        return inside

    def peek(self, ahead: int = 0) -> str:
        """The next token, or one further on; empty past the end."""
        at = self.position + ahead
        return self.tokens[at] if at < len(self.tokens) else ""

    def take(self, *tokens: str) -> bool:
        """Whether these tokens come next; if so, go past them."""
        if tuple(self.tokens[self.position : self.position + len(tokens)]) != tokens:
            return False
        self.position += len(tokens)
        return True

    def expect(self, *tokens: str) -> None:
        if not self.take(*tokens):
            raise Unreadable(f"{' '.join(tokens)!r} was expected at token {self.position + 1}")

    def next(self) -> str:
        if not self.peek():
            raise Unreadable("the formula ends too early")
        self.position += 1
        return self.tokens[self.position - 1]
