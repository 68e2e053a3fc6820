"""Event logs of openai/evals (`oaieval --record_path FILE`): {"spec": ...}, then one event a line, then {"final_report": ...}."""

from __future__ import annotations

from pathlib import Path

from evalft.errors import UserError
from evalft.importing.imported import Imported, Row, as_score, as_target, as_text, objects


def read(path: Path) -> Imported:
    found = Imported("evals", path.stem)
    answers: dict[str, Row] = {}
    model = path.stem
    for number, line in objects(path):
        try:
            if "spec" in line:
                found.task, model = str(line["spec"]["eval_name"]), str(line["spec"]["completion_fns"][0])
            if "type" not in line or line.get("sample_id") is None:
                continue
            id, data = str(line["sample_id"]), line["data"]
            row = found.rows.setdefault(id, {"id": id, "input": "(not sampled)", "target": "[]"})
            answer = answers.setdefault(id, {"id": id, "scores": {}})
            if line["type"] == "sampling":
                said = data["sampled"]
                row["input"] = as_text(data["prompt"])
                answer["text"] = as_text(said[0]) if isinstance(said, list) and said else as_text(said)
            elif line["type"] == "match":
                row["target"] = as_target(data.get("expected"))
                answer["scores"]["evals/match"] = float(data["correct"])
            elif line["type"] == "metrics":
                named = {f"evals/{name}": as_score(value) for name, value in data.items()}
                answer["scores"] |= {name: score for name, score in named.items() if score is not None}
            elif line["type"] == "error":
                answer |= {"failure": "api_error", "message": str(data.get("message", ""))[:500]}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(
                f"{path}:{number}: is no event of openai/evals as this version knows them ({error!r})"
            ) from None
    for answer in answers.values():
        if "text" not in answer and "failure" not in answer:
            answer |= {"failure": "empty", "message": "no sampling event"}
        if "failure" in answer:
            del answer["scores"]
    found.answers[model] = list(answers.values())
    found.said.append("where a sample was asked more than once, its last answer is kept")
    return found
