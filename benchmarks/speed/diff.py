"""CPU seconds and memory of `evalft diff` and `evalft gate` on two runs of many rows, beside json.loads of the same files.

python benchmarks/speed/diff.py                        100,000 rows of four labels, with accuracy, F1, Jaccard, ROC-AUC
python benchmarks/speed/diff.py --rows 20000 --probabilities --rounds 5
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from measuring import Cost, machine, rounds, table, timed

LABELS = "eggs ham news spam".split()
WORDS = "ash birch cedar elder hazel larch maple oak pine rowan".split()
CONFIG = """task:
  test: rows.jsonl
  input: text
  target: label
  type: classification
  slices: [lang]
  metrics: [accuracy, f1, jaccard, roc_auc]
candidates: [{name: it, model: "file:NAME.jsonl"}]
thresholds: {roc_auc: ">= 0.5"}
"""
LOADED = """import json, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        for line in file:
            json.loads(line)
"""


def write_rows(folder: Path, rows: int, probabilities: bool) -> None:
    draw = random.Random(0)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as test:
        for number in range(rows):
            text = f"message {number} {' '.join(draw.choices(WORDS, k=10))}"
            row = {
                "id": f"r{number}",
                "text": text,
                "label": draw.choice(LABELS),
                "lang": draw.choice(["de", "en", "ko"]),
            }
            test.write(json.dumps(row) + "\n")
    for name, skill in (("a", 0.92), ("b", 0.925)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as answers, (folder / "rows.jsonl").open() as test:
            for line in test:
                row = json.loads(line)
                said = row["label"] if draw.random() < skill else draw.choice(LABELS)
                if probabilities:
                    shares = {label: draw.random() + 3 * (label == said) for label in LABELS}
                    probs = {label: share / sum(shares.values()) for label, share in shares.items()}
                    answer = {"id": row["id"], "probs": probs}
                else:
                    answer = {"id": row["id"], "text": said}
                answers.write(json.dumps(answer) + "\n")
        (folder / f"{name}.yaml").write_text(CONFIG.replace("NAME", name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--probabilities", action="store_true", help="Answers bring those of each label.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_rows(folder, given.rows, given.probabilities)

        def evalft(*words: str) -> Cost:
            return timed([sys.executable, "-m", "evalft.cli", *words], cwd=folder)

        for name in ("a", "b"):
            evalft("assess", f"{name}.yaml", "--out", f"run-{name}")
        evalft("baseline", "run-a", "--out", "baseline.jsonl")
        files = [str(path) for run in ("run-a", "run-b") for path in sorted((folder / run).glob("*/*.jsonl"))]
        arrays = {path: path.read_bytes() for path in sorted(folder.glob("run-?/scores/*.npz"))}

        def diff_of_jsonl() -> Cost:
            for path in arrays:
                path.unlink()
            cost = evalft("diff", "run-a", "run-b")
            for path, held in arrays.items():
                path.write_bytes(held)
            return cost

        runs = {
            "json.loads of both runs": lambda: timed([sys.executable, "-c", LOADED, *files]),
            "diff": lambda: evalft("diff", "run-a", "run-b"),
            "diff without the arrays": diff_of_jsonl,
            "gate": lambda: evalft("gate", "--baseline", "baseline.jsonl", "run-b"),
            "gate of the same run": lambda: evalft("gate", "--baseline", "baseline.jsonl", "run-a"),
            "evalft --help": lambda: evalft("--help"),
        }
        size_mb = sum(Path(file).stat().st_size for file in files) / 1e6
        arrays_mb = sum(map(len, arrays.values())) / 1e6
        found = rounds(runs, given.rounds)
    print(f"\n{machine()}; {given.rows:,} rows, {size_mb:.0f} MB of JSONL, {arrays_mb:.0f} MB of arrays\n")
    print(table(found, "json.loads of both runs"))


if __name__ == "__main__":
    main()
