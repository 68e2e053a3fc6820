"""Runs whose candidates answer with a column of the row: what they answer is the test's to say, row by row."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalft import config, pipeline

LABELS = ("ham", "spam", "other")
Row = dict[str, Any]


def rows_of(n: int = 90, seed: int = 0, better: float = 0.9, worse: float = 0.6) -> list[Row]:
    """Rows with the answers of two candidates in columns: `good` is right more often than `bad`."""
    draw = random.Random(seed)

    def answer(label: str, skill: float) -> str:
        return label if draw.random() < skill else draw.choice(LABELS)

    rows = []
    for i in range(n):
        label = draw.choice(LABELS)
        row = {"id": f"r{i}", "text": f"Message {i}", "label": label}
        rows.append(row | {"good": answer(label, better), "bad": answer(label, worse)})
    return rows


def assess(
    folder: Path, rows: list[Row], names: Mapping[str, str] | None = None, task: Mapping[str, Any] | None = None
) -> Path:
    """A run whose candidates answer with a column of the row (names: candidate -> column). Returns the run folder."""
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "task": {
            "name": "mail",
            "type": "classification",
            "test": "test.jsonl",
            "input": "text",
            "target": "label",
            "labels": list(LABELS),
            "metrics": ["f1", "roc_auc", "accuracy"],
        }
        | dict(task or {}),
        "candidates": [
            {"name": name, "model": "fake:echo", "prompt": f'{{{{ row["{column}"] }}}}'}
            for name, column in (names or {"good": "good", "bad": "bad"}).items()
        ],
    }
    run = folder / "run"
    pipeline.assess(config.build(data, source="test", folder=folder), out=run)
    return run
