"""Seconds of a run whose answers are all in the response cache: scoring and reporting alone. Beside it 2,000 requests by a
bare loop over the openai SDK, which says how fast the machine is at the time.

python benchmarks/speed/cached_rerun.py               10,000 rows, 3 rounds
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from api_overhead import HERE, serving, write_config, write_rows
from measuring import Cost, machine, rounds, table, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, serving(0.0) as url:
        folder, runs = Path(place), 0
        write_rows(folder / "rows.jsonl", given.rows)
        write_rows(folder / "fewer.jsonl", 2_000)
        config = write_config(folder, "cached", "rows.jsonl", url, 64)

        def evalft() -> Cost:
            nonlocal runs
            runs += 1
            command = [sys.executable, "-m", "evalft.cli", "assess", str(config), "--out", str(folder / f"out{runs}")]
            return timed(command, env={"EVALFT_CACHE": str(folder / "cache")})

        def sdk() -> Cost:
            return timed([sys.executable, str(HERE / "sdk_loop.py"), str(folder / "fewer.jsonl"), url, "64"])

        first = evalft()
        print(f"{given.rows:,} rows, {machine()}\n\nasked: {first.cpu_s:.2f} s CPU, {first.wall_s:.2f} s\n")
        found = rounds({"openai SDK loop, 2,000 requests": sdk, "all from the cache": evalft}, given.rounds)
        print(f"\n{table(found, 'openai SDK loop, 2,000 requests')}")


if __name__ == "__main__":
    main()
