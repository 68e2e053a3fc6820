"""CPU seconds of a whole process, start to report, beside a bare loop over the same openai SDK.

    python benchmarks/speed/api_overhead.py                       2,000 rows, 20 ms, 64 in flight, 5 rounds
    python benchmarks/speed/api_overhead.py --in-flight 100 500 2000

Every request goes to a loopback endpoint in a process of its own. `evalft (1 row)` is start-up: what remains is per row.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from measuring import Cost, machine, rounds, table, timed

HERE = Path(__file__).parent


def write_rows(path: Path, count: int) -> None:
    """Short questions whose answer is themselves, so that the endpoint is always right."""
    draw = random.Random(0)
    words = "the quick brown fox jumps over a lazy dog while rain falls on quiet hills".split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = f"{number} " + " ".join(draw.choices(words, k=24))
            file.write(json.dumps({"input": text, "target": text}) + "\n")


def write_config(folder: Path, name: str, rows: str, url: str, in_flight: int) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(
        f"""task: {{name: {name}, type: generation, test: {rows}, input: input, target: target, metrics: [exact_match]}}
providers: {{local: {{base_url: "{url}"}}}}
candidates: [{{name: m, model: "local:m", max_tokens: 64, price: {{input: 0.1, output: 0.1}}}}]
limits: {{concurrency: {in_flight}, max_cost_usd: 100}}
""",
        encoding="utf-8",
    )
    return path


@contextmanager
def serving(latency_s: float) -> Iterator[str]:
    """The base URL of an endpoint in a process of its own."""
    command = [sys.executable, str(HERE / "endpoint.py"), "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as endpoint:
        assert endpoint.stdout is not None
        try:
            yield f"http://127.0.0.1:{endpoint.stdout.readline().strip()}/v1"
        finally:
            endpoint.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, serving(given.latency) as url:
        folder, runs = Path(place), 0
        write_rows(folder / "rows.jsonl", given.rows)
        write_rows(folder / "one.jsonl", 1)

        def evalft(rows: str, in_flight: int) -> Cost:
            nonlocal runs
            runs += 1
            config = write_config(folder, f"run{runs}", rows, url, in_flight)
            command = [sys.executable, "-m", "evalft.cli", "assess", str(config), "--out", str(folder / f"out{runs}")]
            return timed(command, env={"EVALFT_CACHE": str(folder / f"cache{runs}")})

        def sdk(in_flight: int) -> Cost:
            return timed([sys.executable, str(HERE / "sdk_loop.py"), str(folder / "rows.jsonl"), url, str(in_flight)])

        print(f"{given.rows:,} rows, {given.latency * 1000:g} ms, {machine()}\n")
        for in_flight in given.in_flight:
            found = rounds(
                {
                    "openai SDK loop": partial(sdk, in_flight),
                    "evalft": partial(evalft, "rows.jsonl", in_flight),
                    "evalft (1 row)": partial(evalft, "one.jsonl", in_flight),
                },
                given.rounds,
            )
            beyond_s = statistics.median(
                many.cpu_s - one.cpu_s for many, one in zip(found["evalft"], found["evalft (1 row)"], strict=True)
            )
            print(f"\n{in_flight} in flight\n\n{table(found, 'openai SDK loop')}\n")
            print(f"beyond start-up: {beyond_s / (given.rows - 1) * 1000:.2f} ms of CPU a row\n")


if __name__ == "__main__":
    main()
