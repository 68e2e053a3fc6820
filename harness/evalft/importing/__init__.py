"""`evalft import`: what another tool asked and scored, as a run folder that report, decide, diff, baseline and gate take.

A file becomes test rows and a file of answers (`file:` candidates), and is assessed without asking anything. The scores that
the tool gave stay that tool's: metrics called inspect/..., lm-eval/..., promptfoo/..., evals/... or table/..., read and
not computed. `evalft rescore RUN --set task.metrics=[exact_match]` scores the same answers by evalft's own metrics.

    inspect_log      inspect-ai: .eval and .json
    lm_eval_samples  lm-evaluation-harness: samples_TASK_DATE.jsonl
    promptfoo_results  promptfoo: results.json
    openai_evals     openai/evals: the event log, JSONL
    table            CSV, TSV, JSON, JSONL, Parquet with columns input, target, answer and maybe scores
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalft import config, pipeline
from evalft.concluding import Assessment
from evalft.errors import UserError
from evalft.importing import inspect_log, lm_eval_samples, openai_evals, promptfoo_results, table
from evalft.importing.imported import Imported, Row, json_of, objects
from evalft.numbers import counted
from evalft.store import RunFolder, slug, write_atomically

LEAST_SHARE = 0.5
"""Of the answers that must have a score, for it to be a metric."""


def import_run(
    source: Path,
    *,
    out: Path | None = None,
    name: str | None = None,
    thresholds: Mapping[str, str] | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> tuple[Assessment, list[str]]:
    """(the run, what was chosen, a line each). name: of the candidate, where there is one; columns: input, target and
    answer of a table. Raises UserError where the file is none that is known."""
    found = read(source, columns or {})
    said = [
        f"read as {found.tool}: {counted(len(found.rows), 'row')}, candidates: {', '.join(found.answers)}",
        *found.said,
    ]
    if name:
        if len(found.answers) != 1:
            raise UserError(f"{source}: --name names one candidate, and the file has {len(found.answers)}")
        found.answers = {name: next(iter(found.answers.values()))}
    metrics = _metrics(found, said)
    digest = sha256(source.read_bytes()).hexdigest()
    folder = RunFolder(out or Path("reports") / f"{slug(found.task)}-{digest[:8]}")
    if folder.exists() and not folder.data_file("imported").exists():
        raise UserError(f"{folder.path}: holds a run that was not imported; name another folder with --out")
    texts = {folder.data_file("imported"): _lines(found.rows.values())}
    texts |= {
        folder.data_file(f"answers-{slug(one)}"): _lines({"text": None} | answer for answer in answers)
        for one, answers in found.answers.items()
    }
    if any(path.exists() and path.read_text(encoding="utf-8") != text for path, text in texts.items()):
        raise UserError(f"{folder.path}: holds an import of another file; name another folder with --out")
    folder.create()
    for path, text in texts.items():
        write_atomically(path, text)
    task: dict[str, Any] = {
        "name": found.task,
        "test": "data/imported.jsonl",
        "id": "id",
        "input": "input",
        "target": "target",
    }
    if metrics:
        task |= {"type": "generation", "metrics": metrics}
    if any("group" in row for row in found.rows.values()):
        task["group"] = "group"
    candidates = [{"name": one, "model": f"file:data/answers-{slug(one)}.jsonl"} for one in found.answers]
    data = {"task": task, "candidates": candidates, "thresholds": dict(thresholds or {})}
    settings = config.build(data, source=f"import of {source}", folder=folder.path)
    return pipeline.assess(settings, out=folder.path), said


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def read(source: Path, columns: Mapping[str, str | None]) -> Imported:
    """Which tool's file it is, is seen by what is in it."""
    if not source.is_file():
        raise UserError(
            f"{source}: no such file; name a log of inspect, samples of lm-eval, results of promptfoo, a log of evals or rows"
        )
    found = _read(source, columns)
    answers = [answer for several in found.answers.values() for answer in several]
    if not any("failure" not in answer for answer in answers):
        why = f"; the first of {len(answers):,} failed: {answers[0]['message']}" if answers else ""
        raise UserError(f"{source}: read as {found.tool}, and it holds no answered rows{why}")
    return found


def _read(source: Path, columns: Mapping[str, str | None]) -> Imported:
    if source.suffix == ".eval":
        return inspect_log.read_archive(source)
    try:
        if source.suffix == ".json":
            data = json_of(source, source.read_text(encoding="utf-8-sig"))
            if isinstance(data, dict) and "eval" in data and "samples" in data:
                return inspect_log.read_json(source, data)
            if isinstance(data, dict) and isinstance(data.get("results"), dict) and "results" in data["results"]:
                return promptfoo_results.read(source, data)
        if source.suffix == ".jsonl":
            _, first = next(objects(source), (0, {}))
            if "spec" in first:
                return openai_evals.read(source)
            if {"doc_id", "filtered_resps"} <= first.keys():
                return lm_eval_samples.read(source)
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: is not UTF-8 text (byte {error.start})") from None
    return table.read(source, columns.get("input"), columns.get("target"), columns.get("answer"))


def _metrics(found: Imported, said: list[str]) -> list[str]:
    """The tool's scores that a row can have (0 to 1) and most answers do; what is left out is said, and dropped."""
    answered = [answer for answers in found.answers.values() for answer in answers if "scores" in answer]
    names = dict.fromkeys(name for answer in answered for name in answer["scores"])
    kept = []
    for name in names:
        values = [answer["scores"][name] for answer in answered if name in answer["scores"]]
        if not all(0 <= value <= 1 for value in values):
            said.append(f"{name} is left out: it is not from 0 to 1 ({min(values):g} to {max(values):g})")
        elif len(values) < LEAST_SHARE * len(answered):
            said.append(f"{name} is left out: {len(values):,} of {len(answered):,} answers have it")
        else:
            kept.append(name)
    for answer in answered:
        answer["scores"] = {name: answer["scores"][name] for name in kept if name in answer["scores"]}
    if kept:
        said.append(f"metrics are the scores that {found.tool} gave: {', '.join(kept)}")
    return kept
