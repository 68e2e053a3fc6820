"""The commands as functions: what `from evalft import assess, run, decide, diff, gate, baseline, rescore` gives.

Each does what the command of its name does, prints nothing, and returns a frozen record; `.frame()` is its table as a
pandas DataFrame. A mistake is an `evalft.UserError` with the command's own line. What stops a run on the way (the
budget, an interruption, coverage) is no exception but the record's `status`, as it is the command's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evalft import baselines, concluding, config, diffing, gating, pipeline, rescoring, sources
from evalft.concluding import Assessment
from evalft.config import Config
from evalft.diffing import Diff
from evalft.gating import Gate
from evalft.records import Prediction, Verdict
from evalft.rescoring import Rescored
from evalft.store import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame

Result = TypeVar("Result")
Place = str | Path
"""A file or folder; RUN:CANDIDATE where one candidate of a run is meant."""


@dataclass(frozen=True)
class Run:
    """A run folder and what is in it now."""

    path: Path
    summary: Mapping[str, Any]
    """summary.json"""
    verdict: Verdict | None
    """None: there are no thresholds, or the run is not whole."""
    status: int
    """The command's: 0 done, 5 budget reached, 6 coverage under its floor, 130 interrupted."""

    def frame(self) -> DataFrame:
        """One row per candidate and metric: value, low, high, confidence, method, n, reason, and what is required of it.
        cost_per_query is in USD, latency_p50 and latency_p95 in seconds."""
        import pandas as pd

        return pd.DataFrame([row for entry in self.summary["candidates"] for row in _metrics(entry, self.summary)])

    def examples(self, candidate: str | None = None) -> DataFrame:
        """One row per candidate and example: input, target, answer (the first of several), labels, failure, costs in
        USD, seconds, and a column `score_METRIC` for each metric that rows have a score of."""
        import pandas as pd

        folder = RunFolder(self.path)
        names = [entry["name"] for entry in self.summary["candidates"]] if candidate is None else [candidate]
        return pd.DataFrame([row for name in names for row in _examples(folder, name)])


@dataclass(frozen=True)
class Rescoring:
    """A run that was scored again, and what moved."""

    run: Run
    moved: tuple[Rescored, ...]
    said: tuple[str, ...]
    """What was chosen, a line each."""

    def frame(self) -> DataFrame:
        """One row per candidate and metric whose value moved: before, after."""
        import pandas as pd

        rows = [(one.candidate, name, *values) for one in self.moved for name, values in one.metrics.items()]
        return pd.DataFrame(rows, columns=["candidate", "metric", "before", "after"])


def assess(
    source: Place | Config | None = None,
    *,
    models: Sequence[str] = (),
    thresholds: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Place | None = None,
    limit: int | None = None,
    fresh: bool = False,
) -> Run:
    """Score every candidate on every row, decide, report: `evalft assess`.

    source: a config file, a run folder, a file of rows (with `models`), a Config, or None for evalft.yaml here.
    thresholds: {"accuracy": ">= 0.9"}; settings: values at dotted keys, {"limits.max_cost_usd": 1}."""
    found, folder = _configured(source, models, thresholds, settings, out)
    return _run(_beside_a_loop(lambda: pipeline.assess(found, out=folder, limit=limit, fresh=fresh)))


def run(
    source: Place | Config | None = None,
    *,
    models: Sequence[str] = (),
    thresholds: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Place | None = None,
    limit: int | None = None,
    fresh: bool = False,
    train_here: bool = False,
) -> Run:
    """Assess; where the verdict is tune: expand, train, assess again, compare: `evalft run`. Arguments as for assess()."""
    found, folder = _configured(source, models, thresholds, settings, out)
    return _run(
        _beside_a_loop(lambda: pipeline.run(found, out=folder, limit=limit, fresh=fresh, train_here=train_here))
    )


def decide(
    run: Place, *, thresholds: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Run:
    """The verdict of a run again from its stored answers, under other thresholds, prices or volumes: `evalft decide`."""
    path = Path(run)
    concluding.require_run(path)
    return _run(pipeline.decide_again(path, config.load(path / "config.yaml", extra=_extra(thresholds, settings))))


def rescore(run: Place, *, metrics: Sequence[Any] = (), normalize: Sequence[str] | None = None) -> Rescoring:
    """The stored answers of a run read and scored again: `evalft rescore`. metrics: names, or {name: options}."""
    overrides = [f"task.metrics={json.dumps(list(metrics))}"] if metrics else []
    overrides += [] if normalize is None else [f"task.normalize={json.dumps(list(normalize))}"]
    result, moved, said = rescoring.rescore(Path(run), overrides)
    return Rescoring(_run(result), tuple(moved), tuple(said))


def diff(base: Place, new: Place, *, confidence: float | None = None, margin: float | None = None) -> Diff:
    """Two scored candidates on the same rows, paired: `evalft diff`. Each is RUN or RUN:CANDIDATE."""
    return diffing.diff(str(base), str(new), confidence=confidence, margin=margin)


def baseline(run: Place, out: Place = "baseline.jsonl") -> Path:
    """Write what RUN (or RUN:CANDIDATE) scored, for git: `evalft baseline`. Returns the file."""
    baselines.write(str(run), Path(out))
    return Path(out)


def gate(run: Place, baseline: Place = "baseline.jsonl", *, config: Place | None = None) -> Gate:
    """Whether RUN (or RUN:CANDIDATE) is worse than its baseline: `evalft gate`, without its files. config: what the run
    must be of; None: that is not looked at, and noted."""
    return gating.gate(Path(baseline), str(run), None if config is None else Path(config))


# ---------------------------------------------------------------- what they share


def _configured(
    source: Place | Config | None,
    models: Sequence[str],
    thresholds: Mapping[str, str] | None,
    settings: Mapping[str, Any] | None,
    out: Place | None,
) -> tuple[Config, Path | None]:
    folder = None if out is None else Path(out)
    models = (models,) if isinstance(models, str) else models
    extra = _extra(thresholds, settings)
    if not isinstance(source, Config):
        return sources.configure(None if source is None else Path(source), out=folder, models=models, extra=extra)
    if not models and not extra:
        return source, folder
    if models:
        extra["candidates"] = [{"name": spec, "model": sources.from_here(spec)} for spec in models]
    return config.build(config.as_data(source), source="config", folder=Path.cwd(), extra=extra), folder


def _extra(thresholds: Mapping[str, str] | None, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    return {f"thresholds.{name}": text for name, text in (thresholds or {}).items()} | dict(settings or {})


def _run(result: Assessment) -> Run:
    found = result.summary["verdict"]
    verdict = found and Verdict(
        found["action"], found["candidate"], tuple(found["reasons"]), tuple(found["flips_if"]), found.get("rows_needed")
    )
    return Run(result.path, result.summary, verdict, result.status)


def _beside_a_loop(call: Callable[[], Result]) -> Result:
    """A notebook's own event loop is running, and two in one thread cannot: there the call has a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def _metrics(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    measured = dict(entry["metrics"]) | {"cost_per_query": entry["cost_per_query_usd"]}
    measured |= {f"latency_{name}": found for name, found in (entry["latency_s"] or {}).items()}
    rows = []
    for name, found in measured.items():
        required = (entry["thresholds"] or {}).get(name) or {}
        row: dict[str, Any] = {"candidate": entry["name"], "metric": name}
        row |= {key: found.get(key) for key in ("value", "low", "high", "confidence", "method", "n", "reason")}
        row |= {"confidence": found.get("confidence") or summary["confidence"]}
        rows.append(row | {"require": required.get("require"), "status": required.get("status")})
    return rows


def _examples(folder: RunFolder, candidate: str) -> list[dict[str, Any]]:
    scores = {score.id: score for score in folder.read_scores(candidate)}
    answers = {one.id: one for one in folder.read_in_order(candidate) if one.repeat == 0}
    rows = []
    for example in folder.read_examples("test"):
        score, answer = scores.get(example.id), answers.get(example.id)
        rows.append(
            {
                "candidate": candidate,
                "id": example.id,
                "input": example.input,
                "target": example.target,
                "answer": answer.text if answer else None,
                "labels": answer.labels if isinstance(answer, Prediction) else None,
                "failure": score.failure if score else None,
                "cost_usd": answer.cost_usd if answer else None,
                "latency_s": answer.latency_s if answer else None,
            }
            | {f"score_{name}": value for name, value in (score.values if score else {}).items()}
            | {f"slice_{name}": value for name, value in example.slices.items()}
        )
    return rows
