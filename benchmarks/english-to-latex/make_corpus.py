"""Write the corpus that the base model in base/ is pre-trained on, one JSON object {"text": ...} a line.

    python benchmarks/english-to-latex/make_corpus.py --documents 360000 --seed 0 --out corpus.jsonl

Seventy-eight documents in a hundred are an instruction and its answer, from twelve tasks other than the benchmark's: the
phrases that the benchmark asks for in LaTeX are here asked for in Python and in Lisp, and LaTeX is read, copied and renamed,
but never asked for from English. The others are passages of prose (prose.py). A phrase or a LaTeX string that is a row of
any bundled benchmark appears in no instruction. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from grammar import ATOM_LATEX, INFINITY, NUMBERS, VARIABLES, Node, english, latex, render, sample
from make_rows import PROMPT
from prose import passage, sentence

# The chat template of the base model writes the same marks; the end mark is the tokenizer's end-of-text token.
USER, ASSISTANT = "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ '<|user|>' + message['content'] + '\\n' }}"
    "{% elif loop.index0 > 0 and messages[loop.index0 - 1]['role'] == 'system' %}{{ message['content'] }}"
    "{% else %}{{ '<|user|>' + message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Of the documents; it is 70 % of the tokens, for prose runs longer.
INSTRUCTION_SHARE = 0.78
MAX_WORDS = 24
BENCHMARKS = Path(__file__).resolve().parent.parent

PYTHON = {
    "equals": "Eq(<0>,<1>)",
    "at_most": "Le(<0>,<1>)",
    "at_least": "Ge(<0>,<1>)",
    "plus": "<0>+<1>",
    "minus": "<0>-<1>",
    "times": "<0>*<1>",
    "squared": "<0>**2",
    "cubed": "<0>**3",
    "power": "<0>**(<1>)",
    "sub": "<0>[<1>]",
    "fraction": "(<0>)/(<1>)",
    "square_root": "sqrt(<0>)",
    "cube_root": "cbrt(<0>)",
    "sine": "sin(<0>)",
    "cosine": "cos(<0>)",
    "logarithm": "log(<0>)",
    "absolute": "abs(<0>)",
    "limit": "limit(<0>,<1>,<2>)",
    "series": "summation(<0>,(<1>,<2>,<3>))",
    "derivative": "diff(<0>,<1>)",
    "integral": "integrate(<0>,(<3>,<1>,<2>))",
}
LISP = {
    "equals": "(= <0> <1>)",
    "at_most": "(<= <0> <1>)",
    "at_least": "(>= <0> <1>)",
    "plus": "(+ <0> <1>)",
    "minus": "(- <0> <1>)",
    "times": "(* <0> <1>)",
    "squared": "(^ <0> 2)",
    "cubed": "(^ <0> 3)",
    "power": "(^ <0> <1>)",
    "sub": "(sub <0> <1>)",
    "fraction": "(/ <0> <1>)",
    "square_root": "(sqrt <0>)",
    "cube_root": "(root 3 <0>)",
    "sine": "(sin <0>)",
    "cosine": "(cos <0>)",
    "logarithm": "(log <0>)",
    "absolute": "(abs <0>)",
    "limit": "(lim <0> <1> <2>)",
    "series": "(sum <0> <1> <2> <3>)",
    "derivative": "(d <0> <1>)",
    "integral": "(int <0> <1> <2> <3>)",
}
DIGITS = {name: str(value) for value, name in enumerate(NUMBERS)}


def documents(count: int, seed: int = 0, excluded: frozenset[str] | None = None) -> Iterator[str]:
    """The texts of the corpus, one after another."""
    if excluded is None:
        excluded = benchmark_texts()
    rng = random.Random(seed)
    tasks = list(TASKS)
    weights = [TASKS[task][0] for task in tasks]
    for _ in range(count):
        if rng.random() < INSTRUCTION_SHARE:
            task = rng.choices(tasks, weights)[0]
            instruction, answer = TASKS[task][1](rng, excluded)
            yield f"{USER}{task}: {instruction}{ASSISTANT}{answer}"
        else:
            yield passage(rng)


def benchmark_texts(folder: Path = BENCHMARKS) -> frozenset[str]:
    """Every string of every row of the bundled benchmarks, with and without this benchmark's prompt before it."""
    texts: set[str] = set()
    for path in sorted(folder.glob("*/*.jsonl")):
        if path.stem in ("test", "dev", "train"):
            for line in path.read_text(encoding="utf-8").splitlines():
                values = [value for value in json.loads(line).values() if isinstance(value, str)]
                texts |= {*values, *(value.removeprefix(PROMPT) for value in values)}
    return frozenset(texts)


def _node(rng: random.Random, excluded: frozenset[str]) -> Node:
    """A random expression that is no row of a benchmark."""
    while True:
        node = sample(rng, rng.choice((1, 1, 2, 2, 2)))
        phrase = english(node)
        if len(phrase.split()) <= MAX_WORDS and phrase not in excluded and latex(node) not in excluded:
            return node


def _python(node: Node) -> str:
    return render(node, PYTHON, DIGITS | {INFINITY: "oo"}, ("(", ")"))


def _lisp(node: Node) -> str:
    # Lisp brackets everything, so what binds loosely needs no brackets more.
    return render(node, LISP, DIGITS | {INFINITY: "inf"}, ("", ""))


def _text(rng: random.Random, excluded: frozenset[str], with_latex: bool = False) -> str:
    """Something to work on: a phrase, a sentence, or LaTeX where the task only copies."""
    kind = rng.randrange(3 if with_latex else 2)
    if kind == 0:
        return sentence(rng)
    node = _node(rng, excluded)
    return english(node) if kind == 1 else latex(node)


Rows = Callable[[random.Random, frozenset[str]], tuple[str, str]]


def _translate(source: Callable[[Node], str], target: Callable[[Node], str]) -> Rows:
    def row(rng: random.Random, excluded: frozenset[str]) -> tuple[str, str]:
        node = _node(rng, excluded)
        return source(node), target(node)

    return row


def _edit(change: Callable[[str], str], with_latex: bool = False) -> Rows:
    def row(rng: random.Random, excluded: frozenset[str]) -> tuple[str, str]:
        text = _text(rng, excluded, with_latex)
        return text, change(text)

    return row


def _rename(rng: random.Random, excluded: frozenset[str]) -> tuple[str, str]:
    """LaTeX with one of its atoms replaced by another."""
    while True:
        node = _node(rng, excluded)
        old = rng.choice(sorted(set(_atoms(node)) & set(VARIABLES)) or [""])
        if not old:
            continue
        new = rng.choice([name for name in VARIABLES if name != old])
        renamed = _replace(node, old, new)
        if latex(renamed) not in excluded and english(renamed) not in excluded:
            return f"{ATOM_LATEX[old]} to {ATOM_LATEX[new]} in {latex(node)}", latex(renamed)


def _atoms(node: Node) -> list[str]:
    return [node] if isinstance(node, str) else [atom for part in node[1:] for atom in _atoms(part)]


def _replace(node: Node, old: str, new: str) -> Node:
    if isinstance(node, str):
        return new if node == old else node
    return (node[0], *(_replace(part, old, new) for part in node[1:]))


# What each task is called in its instruction: how often it is drawn, and its rows.
TASKS: dict[str, tuple[int, Rows]] = {
    "Convert to Python": (4, _translate(english, _python)),
    "Convert to Lisp": (3, _translate(english, _lisp)),
    "Convert LaTeX to Python": (2, _translate(latex, _python)),
    "Convert LaTeX to Lisp": (1, _translate(latex, _lisp)),
    "Read aloud": (2, _translate(latex, english)),
    "Repeat": (3, _edit(str, with_latex=True)),
    "Rename": (1, _rename),
    "Reverse the words": (1, _edit(lambda text: " ".join(reversed(text.split())))),
    "Upper case": (1, _edit(str.upper)),
    "Count the words": (1, _edit(lambda text: str(len(text.split())))),
    "Split into words": (1, _edit(lambda text: " | ".join(text.split()))),
    "Last word": (1, _edit(lambda text: text.split()[-1])),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, required=True, help="how many documents to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    parser.add_argument("--chat-template-out", type=Path, help="also write the Jinja chat template to this file")
    args = parser.parse_args()
    with args.out.open("w", encoding="utf-8", newline="\n") as file:
        for text in documents(args.documents, args.seed):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    if args.chat_template_out:
        args.chat_template_out.write_text(CHAT_TEMPLATE, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
