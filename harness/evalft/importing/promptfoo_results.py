"""Results of promptfoo (`promptfoo eval --output results.json`): {"results": {"version": 2 or 3, "results": [...]}}."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalft.errors import UserError
from evalft.importing.imported import Imported, Row, as_score, as_text

ERROR = 2
"""failureReason of a call that failed, beside 1 for an assertion."""


def read(path: Path, file: Mapping[str, Any]) -> Imported:
    summary = file["results"]
    if summary.get("version") not in (2, 3):
        raise UserError(f"{path}: is of promptfoo's version {summary.get('version')!r}; 2 and 3 are read")
    found = Imported("promptfoo", str((file.get("config") or {}).get("description") or path.stem))
    results = summary["results"]
    try:
        several = len({result["promptIdx"] for result in results}) > 1
        seen: dict[tuple[str, str], int] = {}
        for result in results:
            provider = result["provider"].get("label") or result["provider"]["id"]
            candidate = f"{provider} prompt {result['promptIdx']}" if several else str(provider)
            key = (candidate, str(result["testIdx"]))
            seen[key] = seen.get(key, 0) + 1
            id = key[1] if seen[key] == 1 else f"{key[1]}-{seen[key]}"
            asserted = [
                {part: one.get(part) for part in ("type", "value")} for one in result["testCase"].get("assert") or []
            ]
            values = result["vars"]
            given = next(iter(values.values())) if len(values) == 1 else values
            found.rows[id] = {"id": id, "input": as_text(given) or "(no vars)", "target": _target(asserted)}
            found.answers.setdefault(candidate, []).append({"id": id} | _answer(result))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is no result of promptfoo as this version knows them ({error!r})") from None
    found.said.append("the target of a row is what its test asserts")
    return found


def _target(asserted: list[dict[str, Any]]) -> str:
    if len(asserted) == 1 and asserted[0]["type"] == "equals" and isinstance(asserted[0]["value"], str):
        return asserted[0]["value"] or "[]"
    return as_text(asserted)


def _answer(result: Mapping[str, Any]) -> Row:
    tokens, response = result.get("tokenUsage") or {}, result.get("response") or {}
    answer = {
        "cost_usd": result.get("cost"),
        "latency_s": result["latencyMs"] / 1000 if result.get("latencyMs") else None,
        "input_tokens": tokens.get("prompt"),
        "output_tokens": tokens.get("completion"),
    }
    if result.get("failureReason") == ERROR or "output" not in response:
        return answer | {"failure": "api_error", "message": str(result.get("error") or "no output")[:500]}
    named = {f"promptfoo/{name}": as_score(value) for name, value in (result.get("namedScores") or {}).items()}
    scores = {"promptfoo/pass": as_score(result["success"]), "promptfoo/score": as_score(result["score"])} | named
    return answer | {
        "text": as_text(response["output"]),
        "scores": {name: score for name, score in scores.items() if score is not None},
    }
