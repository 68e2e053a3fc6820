"""What every reader of another tool's file gives: test rows, and what each candidate answered, with the tool's own scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalft.errors import UserError

Row = dict[str, Any]


@dataclass
class Imported:
    """Rows: id, input, target and maybe group. Answers: id, then text or failure and message, scores by name ("tool/name"),
    and cost_usd, latency_s, input_tokens, output_tokens where the file says them."""

    tool: str
    task: str
    rows: dict[str, Row] = field(default_factory=dict)
    answers: dict[str, list[Row]] = field(default_factory=dict)
    """By candidate."""
    said: list[str] = field(default_factory=list)


def as_score(value: object) -> float | None:
    """A right or wrong, or a number; None: no score that a row can have."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def as_text(value: object) -> str:
    """A text as it is, chat messages as `role: content`, one user message as its content, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "content" in one for one in value):
        if len(value) == 1:
            return _content(value[0]["content"])
        return "\n\n".join(f"{one.get('role', '')}: {_content(one['content'])}" for one in value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _content(value: object) -> str:
    """Of one message: a text, or parts of which the texts are taken."""
    if isinstance(value, list):
        return "\n".join(str(part.get("text", "")) for part in value if isinstance(part, Mapping))
    return value if isinstance(value, str) else as_text(value)


def as_target(value: object) -> str:
    """One expected text as it is; several, or none, as JSON: what the tool held answers against."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and value.strip() else as_text(value if value not in ("", None) else [])


def json_of(path: Path, text: str, line: int | None = None) -> Any:
    where = str(path) if line is None else f"{path}:{line}"
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON: {error}") from None


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line of a JSONL file."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                data = json_of(path, line, number)
                if not isinstance(data, dict):
                    raise UserError(f"{path}:{number}: is not an object")
                yield number, data
