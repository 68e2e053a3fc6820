"""What happens, as JSON lines for a program that watches: one object a line, `event` and `at` (seconds since the epoch) in each.

    started    command, task, type, examples, folder, candidates [{name, model, requests}]
    choices    candidate (null: the data), lines: what the program chose or slowed down for, as log.txt has it
    plan       check only: candidate, requests, input_tokens, output_tokens, usd, worst_usd, minutes, memory_gb, assumes
    progress   name, done, total, metric, score, low, high, failures {kind: count}, cached, usd_spent: every 5 %
    training   stage, step, steps, loss, seconds
    said       line: what a person would have read on the way
    candidate  name, model, role, metrics, cost_per_query_usd, latency_s, coverage, thresholds, status, as in summary.json
    verdict    as in summary.json; action null where there is nothing to decide
    finished   status (the exit status), path, summary, report
    error      lines, status: nothing follows it

Fields are added, never renamed. Text of others (names, answers in messages) is escaped to ASCII: no terminal acts on it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import IO, Any

Emit = Callable[..., None]
"""emit(event, **fields)"""


def nobody(event: str, **fields: Any) -> None:
    """Nobody watches."""


def to(stream: IO[str]) -> Emit:
    """Each event as a line of `stream`, at once. Numbers that are not finite become null."""

    def emit(event: str, **fields: Any) -> None:
        line = {"event": event, "at": round(time.time(), 3)} | fields
        stream.write(json.dumps(_finite(line), allow_nan=False, default=str) + "\n")
        stream.flush()

    return emit


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
