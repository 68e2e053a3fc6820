"""The committed example of a report: reports/example.

    python benchmarks/example/make.py [FOLDER]

scores the benchmark urgent-tickets with three candidates whose answers are SIMULATED: drawn by seed from the right labels,
with costs and latencies made up beside them. No model was asked, and nothing here says how good any model is. What is real is
everything after the answers: scores, intervals, verdict, charts.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from evalft import concluding, config, pipeline
from evalft.store import RunFolder

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = ROOT / "benchmarks" / "urgent-tickets"
KEPT = ("report.html", "report.md", "summary.json")
"""Of the run folder: what is committed, beside charts/."""


@dataclass(frozen=True)
class Simulated:
    """A candidate that does not exist."""

    name: str
    strength: float
    """How far apart its scores of urgent and routine messages lie, in standard deviations."""
    cost_usd: float
    """Of a message of average length."""
    latency_s: float
    """The median."""
    truncated: float
    """The share of answers that end at the token limit."""


CANDIDATES = (
    Simulated("simulated-large-api", strength=3.7, cost_usd=0.0011, latency_s=1.4, truncated=0.0),
    Simulated("simulated-small-api", strength=3.6, cost_usd=0.00017, latency_s=0.6, truncated=0.01),
    Simulated("simulated-open-model", strength=1.8, cost_usd=0.00002, latency_s=0.25, truncated=0.03),
)


def answers(candidate: Simulated, rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """One per row. A score is normal about 0 for routine and about `strength` for urgent messages; the probability of
    urgent is what Bayes' rule makes of it at even odds."""
    draw = random.Random(candidate.name)
    mean_words = sum(len(row["text"].split()) for row in rows) / len(rows)
    lines: list[dict[str, object]] = []
    for row in rows:
        score = draw.gauss(candidate.strength if row["label"] == "urgent" else 0.0, 1.0)
        odds = 2.718281828 ** (candidate.strength * (score - candidate.strength / 2))
        share = len(row["text"].split()) / mean_words
        line: dict[str, object] = {
            "id": row["id"],
            "cost_usd": round(candidate.cost_usd * (0.6 + 0.4 * share), 9),
            "latency_s": round(candidate.latency_s * draw.lognormvariate(0.0, 0.4), 3),
        }
        urgent = round(odds / (1 + odds), 4)
        if draw.random() < candidate.truncated:
            line |= {"failure": "truncated", "message": "the answer ended at the token limit (simulated)"}
        else:
            line |= {
                "text": "urgent" if urgent > 0.5 else "routine",
                "probs": {"routine": 1 - urgent, "urgent": urgent},
            }
        lines.append(line)
    return lines


def make(folder: Path) -> None:
    """The report in `folder`, in place of what is there."""
    rows = [json.loads(line) for line in (BENCHMARK / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    folder = folder.absolute()
    with tempfile.TemporaryDirectory() as work, chdir(work):  # so that no file of this machine is named
        for candidate in CANDIDATES:
            lines = "".join(json.dumps(line) + "\n" for line in answers(candidate, rows))
            Path(f"{candidate.name}.jsonl").write_text(lines, encoding="utf-8")
        shutil.copy(BENCHMARK / "test.jsonl", ".")
        data = {
            "task": {
                "name": "urgent tickets (simulated answers)",
                "type": "classification",
                "test": "test.jsonl",
                "input": "text",
                "target": "label",
                "id": "id",
                "labels": ["routine", "urgent"],
                "positive": "urgent",
                "slices": ["channel"],
                "metrics": ["roc_auc", "recall", "f1", "accuracy", "ece"],
            },
            "candidates": [{"name": one.name, "model": f"file:{one.name}.jsonl"} for one in CANDIDATES],
            "thresholds": {
                "roc_auc": ">= 0.9",
                "recall": ">= 0.8",
                "cost_per_query": "<= 0.0005",
                "latency_p95": "<= 2",
            },
            "decide": {"queries_per_month": 500_000},
        }
        pipeline.assess(config.build(data, source="example", folder=Path()), out=Path("run"))
        # What is of this machine would differ on every other.
        source = {"test": (BENCHMARK / "test.jsonl").relative_to(ROOT).as_posix()}
        RunFolder(Path("run")).update_manifest(source=source, versions={}, python="", machine="")
        concluding.render(Path("run"))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree("run/charts", folder / "charts")
        for name in KEPT:
            shutil.copy(Path("run") / name, folder / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "reports" / "example")
