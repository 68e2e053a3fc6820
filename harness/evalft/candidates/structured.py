"""Structured answers: which candidates are asked for JSON of the task's labels, and how (response_format).

With a schema a server can only say labels that exist. It is sent where the prompt is evalft's own, which says nothing
else of the answer's form: a prompt of the user's may ask for reasons first, and shots show answers as plain text, so
both are left as they are. Whoever wants plain text all the same, or another schema, says so with `extra_body:
{response_format: ...}`. `answers` reads what comes back, and plain text too, since not every server that takes the
field obeys it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from evalft.answers import SCHEMA_KEY
from evalft.config import CandidateConfig, TaskConfig
from evalft.prompts import default_prompt
from evalft.records import TaskType


def is_asked_for(candidate: CandidateConfig, task: TaskConfig) -> bool:
    if task.type not in SCHEMA_KEY or not task.labels or candidate.shots.count or candidate.prompt is not None:
        return False
    if "response_format" in (candidate.extra_body or {}) or task.prompt != default_prompt(task):
        return False
    # no tokenizer makes more tokens than bytes of text: a limit of the user's that JSON might not fit into is kept
    return candidate.max_tokens is None or candidate.max_tokens >= _longest_answer(task.type, task.labels)


def response_format(task_type: TaskType, labels: Sequence[str]) -> dict[str, Any]:
    """`{"label": one of the labels}` or `{"labels": [some of them]}`, as OpenAI's strict mode wants it."""
    key = SCHEMA_KEY[task_type]
    one = {"type": "string", "enum": list(labels)}
    schema = {
        "type": "object",
        "properties": {key: one if key == "label" else {"type": "array", "items": one}},
        "required": [key],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _longest_answer(task_type: TaskType, labels: Sequence[str]) -> int:
    """Bytes of the longest answer of the schema."""
    value: object = list(labels) if task_type == "multilabel" else max(labels, key=lambda label: len(label.encode()))
    return len(json.dumps({SCHEMA_KEY[task_type]: value}, ensure_ascii=False).encode())
