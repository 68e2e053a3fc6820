"""English phrases for mathematics to LaTeX, by a recursive-descent parser.

    translate("x squared plus y")   # "x^{2} + y"

It reads the language that the benchmark's card describes and shares no code with the sampler of the rows, so the two check
each other. One method stands for one rule; rules follow each other from the loosest to the tightest. A rule that a phrase
does not follow raises Untranslatable: nothing is guessed.

    relation   sum [ equals | is at most | is at least  sum ]
    sum        product [ plus | minus  product ]
    product    factor [ times factor ]  |  limit  |  series  |  derivative
    factor     base [ squared | cubed | to the power sum end power ]  |  a closed form: "the fraction ... end fraction"
    base       atom  |  letter sub atom  |  the quantity sum end quantity
"""

from __future__ import annotations

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
GREEK = frozenset({"alpha", "beta", "gamma", "theta", "mu", "pi", "sigma", "tau", "phi", "omega"})
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(value) for value, word in enumerate(NUMBERS)}
RELATIONS = {("equals",): "=", ("is", "at", "most"): "\\leq", ("is", "at", "least"): "\\geq"}
# Words after "the", the words that end the form, and what stands around the expression between them.
ENCLOSING = {
    ("square", "root", "of"): ("root", "\\sqrt{", "}"),
    ("cube", "root", "of"): ("root", "\\sqrt[3]{", "}"),
    ("sine", "of"): ("sine", "\\sin(", ")"),
    ("cosine", "of"): ("cosine", "\\cos(", ")"),
    ("logarithm", "of"): ("logarithm", "\\log(", ")"),
    ("absolute", "value", "of"): ("value", "|", "|"),
}
MAX_WORDS = 200


class Untranslatable(ValueError):
    """The text is no phrase of the language."""


def translate(phrase: str) -> str:
    """The LaTeX of a phrase; case and spacing do not matter. Raises Untranslatable."""
    words = phrase.lower().split()
    if len(words) > MAX_WORDS:
        raise Untranslatable(f"more than {MAX_WORDS} words")
    parser = _Parser(words)
    result = parser.relation()
    if parser.position < len(words):
        raise Untranslatable(f"{words[parser.position]!r} was not expected")
    return result


class _Parser:
    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.position = 0

    def relation(self) -> str:
        left = self.sum()
        for words, sign in RELATIONS.items():
            if self.take(*words):
                return f"{left} {sign} {self.sum()}"
        return left

    def sum(self) -> str:
        left = self.product()
        for word, sign in (("plus", "+"), ("minus", "-")):
            if self.take(word):
                return f"{left} {sign} {self.product()}"
        return left

    def product(self) -> str:
        # The body of these three is open on the right in LaTeX, so they are no factors: no power, no "times" beside them.
        if self.take("the", "limit", "of"):
            body = self.factor()
            self.expect("as")
            variable = self.letter()
            self.expect("approaches")
            bound = self.bound()
            self.expect("end", "limit")
            return f"\\lim_{{{variable} \\to {bound}}} {body}"
        if self.take("the", "sum", "of"):
            body = self.factor()
            self.expect("from")
            variable = self.letter()
            self.expect("equals")
            first = self.bound()
            self.expect("to")
            last = self.bound()
            self.expect("end", "sum")
            return f"\\sum_{{{variable} = {first}}}^{{{last}}} {body}"
        if self.take("the", "derivative", "of"):
            body = self.factor()
            self.expect("with", "respect", "to")
            variable = self.letter()
            self.expect("end", "derivative")
            return f"\\frac{{\\mathrm{{d}}}}{{\\mathrm{{d}} {variable}}} {body}"
        left = self.factor()
        return f"{left} \\cdot {self.factor()}" if self.take("times") else left

    def factor(self) -> str:
        if self.take("the", "fraction"):
            over = self.sum()
            self.expect("over")
            under = self.sum()
            self.expect("end", "fraction")
            return f"\\frac{{{over}}}{{{under}}}"
        if self.take("the", "integral", "of"):
            body = self.sum()
            self.expect("from")
            first = self.bound()
            self.expect("to")
            last = self.bound()
            self.expect("with", "respect", "to")
            variable = self.letter()
            self.expect("end", "integral")
            return f"\\int_{{{first}}}^{{{last}}} {body} \\, \\mathrm{{d}} {variable}"
        for words, (ending, opening, closing) in ENCLOSING.items():
            if self.take("the", *words):
                inside = self.sum()
                self.expect("end", ending)
                return opening + inside + closing
        base = self.base()
        if self.take("squared"):
            return base + "^{2}"
        if self.take("cubed"):
            return base + "^{3}"
        if self.take("to", "the", "power"):
            exponent = self.sum()
            self.expect("end", "power")
            return f"{base}^{{{exponent}}}"
        return base

    def base(self) -> str:
        if self.take("the", "quantity"):
            inside = self.sum()
            self.expect("end", "quantity")
            return f"({inside})"
        head = self.next()
        if head in LETTERS and self.take("sub"):
            return f"{head}_{{{self.atom(self.next())}}}"
        return self.atom(head)

    def atom(self, word: str) -> str:
        if word in LETTERS:
            return word
        if word in GREEK:
            return "\\" + word
        if word in DIGITS:
            return DIGITS[word]
        raise Untranslatable(f"{word!r} is no letter, Greek letter or number")

    def letter(self) -> str:
        word = self.next()
        if word not in LETTERS:
            raise Untranslatable(f"{word!r} is no letter")
        return word

    def bound(self) -> str:
        return "\\infty" if self.take("infinity") else self.atom(self.next())

    def take(self, *words: str) -> bool:
        """Whether these words come next; if so, go past them."""
        if tuple(self.words[self.position : self.position + len(words)]) != words:
            return False
        self.position += len(words)
        return True

    def expect(self, *words: str) -> None:
        if not self.take(*words):
            raise Untranslatable(f"{' '.join(words)!r} was expected at word {self.position + 1}")

    def next(self) -> str:
        if self.position == len(self.words):
            raise Untranslatable("the phrase ends too early")
        self.position += 1
        return self.words[self.position - 1]
