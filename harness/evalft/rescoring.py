"""`evalft rescore`: the stored answers of a run read and scored again, where scoring changed. Asks nothing.

What may differ from the run's own config is what scores alone depend on (`preparing.SCORING`: metrics, normalisation, the
positive label) and evalft itself. Answers stored as text are read again; what is in the folder afterwards is all of the
new scoring, so that it goes on, is decided on and rendered like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalft import answers, scoring, summary
from evalft.concluding import Assessment, conclude, require_run
from evalft.config import TaskConfig, load
from evalft.errors import UserError
from evalft.numbers import counted
from evalft.preparing import SCORING, Prepared, prepare
from evalft.records import Failure, Outcome, Prediction, Score

READ_FAILURES = ("empty", "truncated", "unparsable")
"""What `answers.read` makes of an answer: another reading may understand it."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """What a candidate's scores were and are."""

    candidate: str
    metrics: Mapping[str, tuple[float | None, float | None]]
    """(old value, new value) of each metric whose value differs, or that only one of the scorings has."""
    rows_moved: int
    """Rows whose score by a metric of both scorings differs, or whose failure or rescue does."""
    read_differently: int
    """Answers whose text now says other labels, or fails otherwise."""

    @property
    def changed(self) -> bool:
        return bool(self.metrics or self.rows_moved or self.read_differently)


def rescore(path: Path, overrides: Sequence[str] = ()) -> tuple[Assessment, list[Rescored], list[str]]:
    """(the result, what changed per candidate, what was chosen). `overrides` are `key=value` as with --set.

    Raises UserError where RUN is no run folder, or the settings differ in more than scoring."""
    require_run(path)
    config_file = path / "config.yaml"
    stored = prepare(load(config_file), out=path)
    prepared = prepare(load(config_file, overrides), out=path)
    if prepared.asked != stored.asked:
        keys = ", ".join(f"task.{key}" for key in SCORING)
        raise UserError(
            f"{path}: what --set changes here needs new answers or a new training; rescore takes {keys}. "
            f"With new answers: evalft assess {config_file} --out NEW --set ..."
        )
    folder = prepared.folder
    with folder.locked():
        then = folder.read_summary() if folder.file("summary").is_file() else {}
        old_scores = {one.name: folder.read_scores(one.name) for one in prepared.config.candidates}
        read_differently = {one.name: _read_again(prepared, one.name) for one in prepared.config.candidates}
        manifest = folder.manifest()
        folder.write_text("config", summary.resolved_config(prepared.own_config, prepared.data, folder.path))
        folder.update_manifest(
            digest=prepared.digest,
            rescored=[
                *manifest.get("rescored", []),
                {
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "set": list(overrides),
                    "digest_before": manifest.get("digest"),
                    "scorer_before": then.get("scorer"),
                    "scorer": scoring.version(),
                },
            ],
        )
        partial = then.get("partial") or {}
        result = conclude(
            prepared,
            partial.get("why") if partial.get("missing") else None,
            unfinished=None if partial.get("missing") else partial.get("why"),
        )
        said = _chosen(then, prepared)
        for line in said:
            folder.log(f"rescore: {line}")
        found = [
            Rescored(
                name,
                _moved(_values(then, name), _values(result.summary, name)),
                _rows_moved(old_scores[name], folder.read_scores(name)),
                read_differently[name],
            )
            for name in old_scores
        ]
    return result, found, said


def lines(found: Sequence[Rescored]) -> list[str]:
    """What changed, as plain lines; one line where nothing did."""
    if not any(one.changed for one in found):
        return ["nothing changed"]
    said = []
    for one in found:
        if not one.changed:
            said.append(f"{one.candidate}: nothing changed")
            continue
        said += [
            f"{one.candidate}: {metric} {_shown(old)} -> {_shown(new)}" for metric, (old, new) in one.metrics.items()
        ]
        read = f", {one.read_differently:,} answers are read differently" if one.read_differently else ""
        said.append(f"{one.candidate}: the scores of {counted(one.rows_moved, 'row')} moved{read}")
    return said


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def read_again(outcome: Outcome, task: TaskConfig) -> Outcome:
    """The outcome as today's reader of answers sees its text. Label scoring has no text, and a refusal stays one."""
    read = isinstance(outcome, Prediction) or outcome.failure in READ_FAILURES
    judged = isinstance(outcome, Prediction) and outcome.scores is not None  # elsewhere, where it was read too
    if outcome.text is None or not read or judged:
        return outcome
    reading = answers.read(outcome.text, outcome.finish_reason, task.type or "generation", task.labels or ())
    if reading.failure:
        if isinstance(outcome, Failure):
            return replace(outcome, failure=reading.failure, message=reading.message)
        return Failure(failure=reading.failure, message=reading.message, **_shared(outcome, Failure))
    if isinstance(outcome, Prediction):
        return replace(outcome, labels=reading.labels, rescued=reading.rescued)
    return Prediction(labels=reading.labels, rescued=reading.rescued, **_shared(outcome, Prediction))


def _shared(outcome: Outcome, other: type[Prediction] | type[Failure]) -> dict[str, Any]:
    """What the two kinds of outcome have in common."""
    known = {field.name for field in fields(other)}
    return {field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name in known}


def _read_again(prepared: Prepared, candidate: str) -> int:
    """Rewrites predictions/<candidate>.jsonl where an answer is read differently; how many are."""
    before = prepared.folder.read_predictions(candidate)
    after = [read_again(outcome, prepared.config.task) for outcome in before]
    differ = sum(one != other for one, other in zip(before, after, strict=True))
    if differ:
        prepared.folder.write_predictions(candidate, after)
    return differ


def _values(summary: Mapping[str, Any], candidate: str) -> dict[str, float | None]:
    for entry in summary.get("candidates", ()):
        if entry["name"] == candidate:
            return {name: estimate["value"] for name, estimate in entry["metrics"].items()}
    return {}


def _moved(
    old: Mapping[str, float | None], new: Mapping[str, float | None]
) -> dict[str, tuple[float | None, float | None]]:
    pairs = {name: (old.get(name), new.get(name)) for name in [*new, *(name for name in old if name not in new)]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] or (name in old) != (name in new)}


def _rows_moved(old: Sequence[Score], new: Sequence[Score]) -> int:
    before = {score.id: score for score in old}
    return sum(_differ(before[score.id], score) for score in new if score.id in before)


def _differ(one: Score, other: Score) -> bool:
    both = one.values.keys() & other.values.keys()
    values = any(one.values[name] != other.values[name] for name in both)
    return values or (one.failure, one.rescued) != (other.failure, other.rescued)


def _chosen(then: Mapping[str, Any], prepared: Prepared) -> list[str]:
    metrics = ", ".join(spec.name for spec in prepared.config.task.metrics or ())
    said = [f"metrics: {metrics}; normalize: {', '.join(prepared.config.task.normalize) or 'nothing'}"]
    were, are = (then.get("task", {}).get("metrics") or [""])[0], scoring.primary(prepared.config.task)
    if were and were != are:
        said.append(f"the primary metric is {are}; it was {were}")
    before, now = then.get("scorer"), scoring.version()
    if before == now:
        said.append(f"the scorer is the one that scored this run before ({now})")
    else:
        said.append(f"the scorer is {now}; this run was scored by {before or 'one that is not recorded'}")
    if prepared.folder.manifest().get("trained"):
        said.append("the stages' scores on dev, by which one of them was chosen, stay as they were when it was trained")
    return said
