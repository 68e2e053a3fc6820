"""Peak memory and seconds of whole runs over many rows, answered by rule: everything of evalft but a model.

python benchmarks/speed/memory.py                     1,000,000 rows (some minutes, and a few GB of disk)
python benchmarks/speed/memory.py --rows 10000 100000
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from measuring import machine, timed

WORDS = "ash birch cedar elder hazel larch maple oak pine rowan".split()


def write_rows(path: Path, rows: int) -> None:
    """Ten words and a number each; the echo of four in five is right."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            words = f"{' '.join(draw.choices(WORDS, k=10))} {number}"
            target = words if draw.random() < 0.8 else "none of these"
            file.write(json.dumps({"input": words, "target": target}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    given = parser.parse_args()
    print(f"{machine()}\n\n| rows | CPU s | wall s | peak MB |\n|---|---|---|---|")
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_rows(folder / "rows.jsonl", rows)
            command = [
                sys.executable,
                "-m",
                "evalft.cli",
                "assess",
                "rows.jsonl",
                "--model",
                "fake:echo",
                "--out",
                "run",
            ]
            cost = timed(command, env={"EVALFT_CACHE": str(folder / "cache")}, cwd=folder)
        print(f"| {rows:,} | {cost.cpu_s:.1f} | {cost.wall_s:.1f} | {cost.peak_mb:.0f} |", flush=True)


if __name__ == "__main__":
    main()
