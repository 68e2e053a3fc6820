"""Seconds of a run whose answers are all in the response cache: scoring and reporting alone.

python benchmarks/speed/cached_rerun.py               10,000 rows, 3 rounds
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from api_overhead import serving, write_config, write_rows
from measuring import Cost, machine, rounds, table, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, serving(0.0) as url:
        folder, runs = Path(place), 0
        write_rows(folder / "rows.jsonl", given.rows)
        config = write_config(folder, "cached", "rows.jsonl", url, 64)

        def evalft() -> Cost:
            nonlocal runs
            runs += 1
            command = [sys.executable, "-m", "evalft.cli", "assess", str(config), "--out", str(folder / f"out{runs}")]
            return timed(command, env={"EVALFT_CACHE": str(folder / "cache")})

        first = evalft()
        print(f"{given.rows:,} rows, {machine()}\n\nasked: {first.cpu_s:.2f} s CPU, {first.wall_s:.2f} s\n")
        found = rounds({"all from the cache": evalft}, given.rounds)
        print(f"\n{table(found, 'all from the cache')}")


if __name__ == "__main__":
    main()
