"""A run folder -> View: all that a report shows, in order, its numbers already text.

Reads summary.json, manifest.json and the rows (examples.py); computes no score. Text from the test set and from models
is passed on as it is: each format escapes it (text.py). A folder without rows still has a report, which says what it
cannot show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evalft import numbers
from evalft.config import Threshold, parse_threshold
from evalft.errors import UserError
from evalft.reporting.candidates import Candidate, estimate_of, shown
from evalft.reporting.drawing import Drawing, Row, draw
from evalft.reporting.examples import Examples, read_examples
from evalft.store import RunFolder

SCHEMA = "evalft.summary/1"

STAND_IN = "stand-in for a closed API"
SHOWN_ELSEWHERE = frozenset({"stages", "choices", "settled"})
"""Of manifest.json: the state of stages (the banner says what is missing) and what was settled per candidate."""
SYMBOLS = {"pass": "✓", "fail": "✗", "undecided": "?"}
"""A status is never colour alone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    action: str | None
    sentence: str
    candidate: str | None
    stand_in: bool
    reasons: tuple[str, ...]
    flips_if: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    title: str
    task_type: str
    task_facts: tuple[str, ...]
    confidence: str
    created: str
    version: str
    banner: tuple[str, ...]
    """What is missing of a run that was cut short; empty for a whole one."""
    verdict: Verdict
    columns: tuple[tuple[str, str], ...]
    """Name and requirement of each metric of the overview."""
    cost_require: str
    latency_require: str
    candidates: tuple[Candidate, ...]
    drawings: tuple[Drawing, ...]
    break_even: tuple[tuple[str, str], ...]
    spent: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    sent_to: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    examples: Examples


def read(run: Path) -> View:
    """Raises UserError where the folder holds no readable summary."""
    folder = RunFolder(run)
    summary = folder.read_json("summary")
    if summary.get("schema") != SCHEMA:
        found = summary.get("schema")
        raise UserError(f"{run}: its summary is {found!r}, this version reads {SCHEMA!r}; run `evalft assess` again")
    manifest = folder.manifest()
    entries: list[dict[str, Any]] = summary["candidates"]
    thresholds = _thresholds(summary)
    columns = _columns(summary, thresholds)
    confidence = summary.get("confidence") or _first_confidence(entries)
    candidates = tuple(shown(i, entry, columns, thresholds) for i, entry in enumerate(entries, 1))
    task = summary["task"]
    return View(
        title=task["name"],
        task_type=task["type"],
        task_facts=_task_facts(task),
        confidence=numbers.confidence(confidence),
        created=_when(summary.get("created")),
        version=str(summary.get("evalft") or ""),
        banner=_banner(summary),
        verdict=_verdict(summary),
        columns=tuple((m, numbers.requirement(thresholds[m]) if m in thresholds else "") for m in columns),
        cost_require=numbers.requirement(thresholds["cost_per_query"]) if "cost_per_query" in thresholds else "",
        latency_require=", ".join(
            f"{m[8:]} {numbers.requirement(t)}" for m, t in thresholds.items() if m.startswith("latency_")
        ),
        candidates=candidates,
        drawings=_drawings(entries, thresholds),
        break_even=tuple(_facts(summary.get("break_even") or {})),
        spent=_spent(summary["spent"]),
        warnings=tuple(summary.get("warnings") or ()),
        notes=tuple(summary.get("notes") or ()),
        sent_to=_sent_to(summary, manifest),
        provenance=tuple(
            _facts(
                {"test_sha256": task["test_sha256"]}
                | {key: value for key, value in manifest.items() if key not in SHOWN_ELSEWHERE}
            )
        ),
        examples=read_examples(folder, summary),
    )


# ---------------------------------------------------------------- verdict


def verdict_sentence(action: str | None, candidate: str | None, rows_needed: int | None, has_thresholds: bool) -> str:
    """The verdict in one sentence; the reasons carry the numbers."""
    whom = candidate or "a candidate"
    if action == "ship":
        return f"Ship {whom}: it meets every threshold, and no candidate that does is cheaper."
    if action == "tune":
        return f"Fine-tune {whom}: no candidate is shown to meet every threshold, and training is worth trying."
    if action == "more_test_data":
        rows = f"about {rows_needed:,} more test rows" if rows_needed else "more test rows"
        return f"Collect {rows}: this test set cannot yet tell whether a candidate meets every threshold."
    if action == "fix_labels":
        return "Fix the labels of the test set first: they allow no candidate to reach the thresholds."
    if action == "stop":
        return "Stop: no candidate is shown to meet every threshold, and the conditions for fine-tuning are not met."
    if has_thresholds:
        return "No verdict: the run did not get as far as a decision."
    return "No verdict: no thresholds are set, so there is nothing to decide."


def _verdict(summary: Mapping[str, Any]) -> Verdict:
    verdict = summary["verdict"] or {}
    candidate = verdict.get("candidate")
    action = verdict.get("action")
    reasons = tuple(verdict.get("reasons", ()))
    has_thresholds = bool(summary.get("thresholds")) or any(entry["thresholds"] for entry in summary["candidates"])
    if not action and not has_thresholds:
        first = (summary["task"]["metrics"] or ["accuracy"])[0]
        reasons = (f"Set a threshold to get one, for example --threshold '{first} >= 0.9'.",)
    return Verdict(
        action=action,
        sentence=verdict_sentence(action, candidate, verdict.get("rows_needed"), has_thresholds),
        candidate=candidate,
        stand_in=any(entry["name"] == candidate and entry.get("stand_in") for entry in summary["candidates"]),
        reasons=reasons,
        flips_if=tuple(verdict.get("flips_if", ())),
        steps=tuple(summary.get("steps") or ()),
    )


def _banner(summary: Mapping[str, Any]) -> tuple[str, ...]:
    partial = summary.get("partial")
    lines = []
    if partial:
        why = {
            "budget": "the budget (limits.max_cost_usd) was reached",
            "interrupted": "it was interrupted",
        }.get(partial["why"], str(partial["why"]))
        lines.append(f"This run is not complete: {why}. The same command goes on where it stopped.")
        stand_ins = {entry["name"] for entry in summary["candidates"] if entry.get("stand_in")}
        lines += [
            f"{name}{f' ({STAND_IN})' if name in stand_ins else ''}: {rows:,} rows are missing"
            for name, rows in partial.get("missing", {}).items()
            if rows
        ]
    floor = summary.get("min_coverage") or 0
    lines += [
        f"{entry['name']}: only {numbers.percent(entry['coverage']['scored'], entry['coverage']['total'])} of the rows could be "
        f"scored, under limits.min_coverage ({100 * floor:g} %): the exit status is 6; every failure counts as a miss"
        for entry in summary["candidates"]
        if not partial and entry["coverage"]["scored"] < floor * entry["coverage"]["total"]
    ]
    of = summary["task"].get("sampled_from")
    if of:
        lines.append(
            f"Only a sample was scored (--limit): {summary['task']['examples']:,} of {of:,} rows of the test set."
        )
    return tuple(lines)


# ---------------------------------------------------------------- candidates


def _thresholds(summary: Mapping[str, Any]) -> dict[str, Threshold]:
    required = dict(summary.get("thresholds") or {})
    for entry in summary["candidates"]:
        required |= {metric: result["require"] for metric, result in (entry["thresholds"] or {}).items()}
    return {metric: parse_threshold(metric, text) for metric, text in required.items()}


def _columns(summary: Mapping[str, Any], thresholds: Mapping[str, Threshold]) -> tuple[str, ...]:
    """The overview's metrics: those with a threshold and the primary one; without thresholds those of the task."""
    asked: list[str] = summary["task"]["metrics"]
    scores = [metric for metric in thresholds if numbers.unit_of(metric) == "score"]
    return tuple(dict.fromkeys([*asked[:1], *scores] if thresholds else asked[:4]))


def _first_confidence(entries: Sequence[Mapping[str, Any]]) -> float:
    return next((float(m["confidence"]) for entry in entries for m in entry["metrics"].values()), 0.95)


def _drawings(entries: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Threshold]) -> tuple[Drawing, ...]:
    drawings = []
    for metric, threshold in thresholds.items():
        rows = []
        for entry in entries:
            estimate = estimate_of(entry, metric)
            if estimate and estimate["value"] is not None:
                status = ((entry["thresholds"] or {}).get(metric) or {}).get("status", "undecided")
                rows.append(
                    Row(
                        name=entry["name"],
                        value=estimate["value"],
                        low=estimate["low"],
                        high=estimate["high"],
                        status=status,
                        stand_in=bool(entry.get("stand_in")),
                    )
                )
        title = metric if numbers.unit_of(metric) == "score" else metric.replace("_", " ")
        drawing = draw(threshold, title, rows)
        if drawing:
            drawings.append(drawing)
    return tuple(drawings)


# ---------------------------------------------------------------- facts


def _task_facts(task: Mapping[str, Any]) -> tuple[str, ...]:
    facts = [str(task["type"]), f"{task['examples']:,} test examples"]
    if task["labels"]:
        facts.append(f"{len(task['labels']):,} labels")
    return (*facts, f"primary metric {task['metrics'][0]}" if task["metrics"] else "no metric")


def _spent(spent: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return (
        ("new money", numbers.usd(spent["usd"])),
        ("API requests", f"{spent['api_requests']:,}"),
        ("answers from the cache", f"{spent['cached_requests']:,}"),
        ("GPU hours", numbers.count(spent["gpu_hours"])),
    )


def _sent_to(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Which rows left this machine, one sentence per candidate."""
    providers = manifest.get("providers")
    missing = (summary.get("partial") or {}).get("missing", {})
    lines = []
    for entry in summary["candidates"]:
        provider, _, model = str(entry["model"]).partition(":")
        if provider in ("hf", "fake"):
            lines.append(f"{entry['name']}: ran on this machine; no row was sent anywhere")
            continue
        where = providers.get(provider) if isinstance(providers, Mapping) else None
        url = where.get("base_url") if isinstance(where, Mapping) else where
        rows = entry["coverage"]["total"] - missing.get(entry["name"], 0)
        lines.append(
            f"{entry['name']}: {rows:,} rows were sent to {provider}{f' ({url})' if url else ''}, model {model}"
            + (f" — a {STAND_IN}" if entry.get("stand_in") else "")
        )
    return tuple(lines)


def _when(created: object) -> str:
    """An ISO time to the minute; anything else as it is."""
    try:
        return datetime.fromisoformat(str(created)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return str(created or "")


_UNITS = {"_usd": numbers.usd, "_s": numbers.seconds}


def _facts(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested data as (name, text) rows; what is null or empty is left out."""
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += _facts(value, f"{name} › ")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            for i, item in enumerate(value, 1):
                rows += _facts(item if isinstance(item, Mapping) else {"": item}, f"{name} {i} › ")
        elif value is not None and value != [] and value != "":
            rows.append((name.removesuffix("_usd").replace("_", " "), _fact(str(key), value)))
    return rows


def _fact(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        unit = next((show for ending, show in _UNITS.items() if key.endswith(ending)), None)
        return unit(value) if unit else numbers.count(value) if abs(value) >= 1 else f"{value:.4g}"
    return str(value)
