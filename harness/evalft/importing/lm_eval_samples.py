"""samples_TASK_DATE.jsonl of lm-evaluation-harness (--log_samples): one line per document and filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalft.errors import UserError
from evalft.importing.imported import Imported, Row, as_score, as_target, objects

NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
}  # fmt: skip


def read(path: Path) -> Imported:
    named = re.fullmatch(r"samples_(.+)_\d{4}-\d{2}-\d{2}T[\d.:-]+", path.stem)
    found = Imported("lm-eval", named[1] if named else path.stem)
    model = path.absolute().parent.name if named else path.stem
    lines = list(objects(path))
    filters = {line.get("filter") for _, line in lines}
    answers: dict[str, Row] = {}
    for number, line in lines:
        try:
            id = str(line["doc_id"])
            asked = line["arguments"]["gen_args_0"]["arg_0"]
            found.rows[id] = {"id": id, "input": str(asked), "target": as_target(line["target"])}
            answer = answers.setdefault(id, {"id": id, "text": _text(line), "scores": {}})
            names = line.get("metrics") or [key for key in line if key not in NOT_METRICS]
            for name in names:
                score = as_score(line.get(name))
                full = f"lm-eval/{name}" + (f"/{line['filter']}" if len(filters) > 1 else "")
                if score is not None:
                    answer["scores"][full] = score
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{path}:{number}: is no sample of lm-eval as this version knows them ({error!r})"
            ) from None
    found.answers[model] = list(answers.values())
    found.said.append(f"the candidate is called {model!r}, as the folder of the file is; --name gives another name")
    return found


def _text(line: Mapping[str, Any]) -> str:
    """The answer; where continuations were scored ((log-likelihood, is greedy) of each), the likeliest one."""
    said = line["filtered_resps"]
    if all(isinstance(one, list | tuple) and len(one) == 2 and as_score(_number(one[0])) is not None for one in said):
        best = max(range(len(said)), key=lambda place: _number(said[place][0]) or 0.0)
        return str(line["arguments"][f"gen_args_{best}"]["arg_1"]).strip()
    first = said[0]
    return first if isinstance(first, str) else str(first[0])


def _number(value: object) -> float | None:
    """Log-likelihoods are written as texts."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
