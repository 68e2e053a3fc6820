"""Write the rows of the benchmark: test.jsonl (400), dev.jsonl (100) and train.jsonl (50).

    python benchmarks/english-to-latex/make_rows.py

The same command remakes the same bytes. Constructs take turns, so every split holds about as many rows of each; two
rows in three are of depth 2, the others of depth 1. No phrase and no LaTeX string occurs twice, within a split or across.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from grammar import CONSTRUCTS, depth_of, english, latex, sample

SPLITS = {"test": 400, "dev": 100, "train": 50}
PROMPT = "Convert to LaTeX: "
MAX_WORDS = 20


def make_rows(seed: int = 20261122) -> dict[str, list[dict[str, str | int]]]:
    """The rows of every split, by the name of the split."""
    rng = random.Random(seed)
    seen: set[str] = set()
    rows: dict[str, list[dict[str, str | int]]] = {}
    for split, count in SPLITS.items():
        rows[split] = []
        while len(rows[split]) < count:
            number = len(rows[split])
            construct = CONSTRUCTS[number % len(CONSTRUCTS)]
            # A subscript takes atoms only, so it has no depth 2.
            depth = 1 if construct == "subscript" or (number // len(CONSTRUCTS)) % 3 == 0 else 2
            node = sample(rng, depth, construct)
            phrase, target = english(node), latex(node)
            if len(phrase.split()) > MAX_WORDS or phrase in seen or target in seen:
                continue
            seen |= {phrase, target}
            rows[split].append(
                {
                    "id": f"{split}-{number:03d}",
                    "input": PROMPT + phrase,
                    "target": target,
                    "construct": construct,
                    "depth": depth_of(node),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    args = parser.parse_args()
    for split, rows in make_rows().items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (args.out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
