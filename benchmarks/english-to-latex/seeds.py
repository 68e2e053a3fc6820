"""Run the whole loop once per seed (of expansion and training) and print what each stage and the tuned model came to.

    python benchmarks/english-to-latex/seeds.py --out reports/seeds

The endpoint is started and stopped here. A run that was killed goes on; a finished one is read. --set goes to `evalft run`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a run folder per seed goes below it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    command = [sys.executable, str(HERE / "server.py"), "--port", "0", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        base_url = server.stdout.readline().removeprefix("listening on ").strip()
        for seed in args.seeds:
            run(args.out / f"seed-{seed}", [f"expand.seed={seed}", f"tune.seed={seed}", *args.overrides], base_url)
        server.stdin.close()
    print(
        "| seed | base, test | train rows | SFT, dev | DPO, dev | chosen | tuned, test | its interval | fixed / broken | verdict |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for seed in args.seeds:
        print(line(seed, json.loads((args.out / f"seed-{seed}" / "summary.json").read_text(encoding="utf-8"))))


def run(out: Path, overrides: list[str], base_url: str) -> None:
    words = ["run", str(HERE / "evalft.yaml"), "--out", str(out), "--train-here"]
    for override in [f"providers.rules.base_url={base_url}", *overrides]:
        words += ["--set", override]
    program = "import sys; from evalft.cli import main; main()"
    if not (out / "summary.json").exists() or "tuned" not in (out / "summary.json").read_text(encoding="utf-8"):
        subprocess.run([sys.executable, "-c", program, *words], check=True, stdout=subprocess.DEVNULL)


def line(seed: int, summary: dict) -> str:
    """A row of the table; intervals are 95 %, and the first metric is the primary one."""
    metric = summary["task"]["metrics"][0]
    dev = {stage["name"]: stage["dev"][metric]["value"] for stage in summary["stages"]}
    chosen = next(stage["name"] for stage in summary["stages"] if stage["chosen"])
    test = {entry["role"]: entry["metrics"][metric] for entry in summary["candidates"]}
    base, tuned = test["baseline"], test.get("tuned")
    cells = [
        seed,
        f"{base['value']:.3f} (at most {base['high']:.3f})",
        summary["expansion"]["total"],
        f"{dev['sft']:.3f}",
        f"{dev['dpo']:.3f}" if "dpo" in dev else "no pairs",
        chosen,
        f"{tuned['value']:.4f}" if tuned else "none",
        f"{tuned['low']:.3f} to {tuned['high']:.3f}" if tuned else "",
        f"{summary['diff']['fixed']} / {summary['diff']['broken']}" if summary["diff"] else "",
        summary["verdict"]["action"],
    ]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
