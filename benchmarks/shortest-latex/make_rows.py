"""Write the rows of the benchmark: test.jsonl (400), dev.jsonl (100) and train.jsonl (200).

    python benchmarks/shortest-latex/make_rows.py

The same command remakes the same bytes, in about half a minute: it goes through the corpus that the base model was
pre-trained on, for a phrase that stands there is no row here, and neither is a row of english-to-latex. Constructs take
turns, all phrases are of depth 2, and no phrase occurs twice, within a split or across.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OTHER = Path(__file__).resolve().parent.parent / "english-to-latex"
sys.path.insert(0, str(OTHER))  # before this folder: make_corpus imports the make_rows of its own

import make_corpus  # noqa: E402
from forms import Writing, length, writings  # noqa: E402
from grammar import CONSTRUCTS, english, latex, sample  # noqa: E402

SPLITS = {"test": 400, "dev": 100, "train": 300}
CORPUS_DOCUMENTS = 360_000
MAX_WORDS = 15
FEWEST_FORMS, MOST_FORMS = 2, 32


class Asked(frozenset[str]):
    """A set that remembers what it was asked for: every phrase and LaTeX string that is drawn for the corpus."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.strings: set[str] = set()

    def __contains__(self, text: object) -> bool:
        self.strings.add(str(text))
        return super().__contains__(text)


def taken() -> set[str]:
    """The phrases and LaTeX strings of english-to-latex and of the base model's corpus."""
    texts = []
    for split in ("test", "dev", "train"):
        for line in (OTHER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts += [row["input"].removeprefix(make_corpus.PROMPT), row["target"]]
    asked = Asked(texts)
    for _ in make_corpus.documents(CORPUS_DOCUMENTS, excluded=asked):
        pass
    return {*texts, *asked.strings}


def make_rows(taken: set[str], seed: int = 20261123) -> dict[str, list[dict[str, Any]]]:
    """The rows of every split, by the name of the split."""
    rng = random.Random(seed)
    constructs = [name for name in CONSTRUCTS if name != "subscript"]  # which has no depth 2
    seen = set(taken)
    rows: dict[str, list[dict[str, Any]]] = {}
    for split, count in SPLITS.items():
        rows[split] = []
        while len(rows[split]) < count:
            number = len(rows[split])
            node = sample(rng, 2, constructs[number % len(constructs)])
            phrase, forms = english(node), writings(node)
            if (
                len(phrase.split()) > MAX_WORDS
                or {phrase, latex(node)} & seen
                or not FEWEST_FORMS <= len(forms) <= MOST_FORMS
            ):
                continue
            seen |= {phrase, latex(node)}
            shortest = forms[0].text
            rows[split].append(
                {
                    "id": f"{split}-{number:03d}",
                    "phrase": phrase,
                    "target": _by_some_hand(rng, forms) if split == "train" else shortest,
                    "answers": [
                        {"text": form.text, "score": round(length(shortest) / length(form.text), 4)} for form in forms
                    ],
                    "construct": constructs[number % len(constructs)],
                }
            )
    return rows


def _by_some_hand(rng: random.Random, forms: Sequence[Writing]) -> str:
    return rng.choices(forms, [form.share for form in forms])[0].text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    args = parser.parse_args()
    for split, rows in make_rows(taken()).items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (args.out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
