"""A run folder -> View: all that a report shows, in order, its numbers already text.

Reads summary.json, manifest.json and the rows (examples.py); computes no score. Text from the test set and from models
is passed on as it is: each format escapes it (text.py). A folder without rows still has a report, which says what it
cannot show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evalft import numbers
from evalft.config import Threshold, parse_threshold
from evalft.reporting.candidates import STAND_IN, Candidate, Table, base_name, shown, tagged, tags
from evalft.reporting.changes import Diff, diffs
from evalft.reporting.examples import Examples, read_examples
from evalft.reporting.judge import banner as judge_banner
from evalft.reporting.judge import sentences as judge_sentences
from evalft.reporting.sent_to import sent_to
from evalft.reporting.slices import Sliced, by_slice
from evalft.reporting.training import Expansion, Stages, Waiting, expansion, stages, trained, waiting
from evalft.store import RunFolder

SHOWN_ELSEWHERE = frozenset(
    {"stages", "complete", "finished", "judged", "trained", "choices", "settled", "prices", "runs_on", "answered_by"}
)
"""Of manifest.json: how far the run is (the banner says what is missing) and what each candidate's own part says."""
COSTS_SHOWN = 4
"""Candidates whose cost stands beside the verdict."""
SYMBOLS = {"pass": "✓", "fail": "✗", "undecided": "?"}
"""A status is never colour alone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    action: str | None
    sentence: str
    tagged_sentence: str
    """The same with the candidate's tags in it, where they cannot stand beside it."""
    tags: tuple[str, ...]
    reasons: tuple[str, ...]
    costs: tuple[str, ...]
    """What it costs, a line for each candidate: the verdict's first, then from cheap to dear."""
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
    waiting: Waiting | None
    verdict: Verdict
    story: tuple[tuple[str, str], ...]
    """What training changed, a sentence each: the verdict before, the rows made, the stages, the verdict after."""
    diffs: tuple[Diff, ...]
    stages: Stages | None
    expansion: Expansion | None
    columns: tuple[tuple[str, str], ...]
    """Name and requirement of each metric of the overview."""
    cost_require: str
    latency_require: str
    candidates: tuple[Candidate, ...]
    slices: Table | None
    """The row metric by slice: a row for each, a column for each candidate."""
    slices_note: str
    judge: tuple[str, ...]
    break_even: tuple[tuple[str, str], ...]
    spent: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    sent_to: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    examples: Examples


def read(run: Path, *, rows: bool = True) -> View:
    """`rows`: with what has to be read row by row, which the terminal does not show. Raises UserError where the folder holds no readable
    summary."""
    folder = RunFolder(run)
    summary = folder.read_summary()
    manifest = folder.manifest()
    entries: list[dict[str, Any]] = summary["candidates"]
    thresholds = thresholds_of(summary)
    columns = columns_of(summary, thresholds)
    confidence = numbers.confidence(summary.get("confidence") or _first_confidence(entries))
    base = base_name(summary)
    tags_of = {entry["name"]: tags(entry, base) for entry in entries}
    candidates = tuple(shown(i, entry, base, columns, thresholds) for i, entry in enumerate(entries, 1))
    verdict, sliced = _verdict(summary, tags_of), by_slice(summary)
    found_stages, found_expansion = stages(summary), expansion(summary, tags_of)
    task = summary["task"]
    return View(
        title=task["name"],
        task_type=task["type"],
        task_facts=_task_facts(task),
        confidence=confidence,
        created=_when(summary.get("created")),
        version=str(summary.get("evalft") or ""),
        banner=(*_banner(summary), *judge_banner(summary)),
        waiting=waiting(summary, manifest),
        verdict=verdict,
        story=_story(summary, verdict, tags_of, found_stages, found_expansion),
        diffs=diffs(summary, tags_of, confidence),
        stages=found_stages,
        expansion=found_expansion,
        columns=tuple((m, numbers.requirement(thresholds[m]) if m in thresholds else "") for m in columns),
        cost_require=numbers.requirement(thresholds["cost_per_query"]) if "cost_per_query" in thresholds else "",
        latency_require=", ".join(
            f"{m[8:]} {numbers.requirement(t)}" for m, t in thresholds.items() if m.startswith("latency_")
        ),
        candidates=candidates,
        slices=_slices(sliced) if sliced else None,
        slices_note=sliced.note if sliced else "",
        judge=judge_sentences(summary),
        break_even=tuple(_facts(summary.get("break_even") or {})),
        spent=_spent(summary["spent"]),
        warnings=tuple(summary.get("warnings") or ()),
        notes=tuple(summary.get("notes") or ()),
        sent_to=sent_to(folder, summary, manifest) if rows else (),
        provenance=tuple(
            _facts(
                {"test_sha256": task["test_sha256"]}
                | {key: value for key, value in manifest.items() if key not in SHOWN_ELSEWHERE}
                | {key: _in_a_line(manifest[key]) for key in ("versions", "seeds") if manifest.get(key)}
                | {f"{name} was": _with_adapter(found) for name, found in (manifest.get("answered_by") or {}).items()}
            )
        ),
        examples=read_examples(folder, summary) if rows else Examples((), "", ""),
    )


# ---------------------------------------------------------------- verdict


def verdict_sentence(
    action: str | None,
    candidate: str | None,
    rows_needed: int | None,
    has_thresholds: bool,
    after_training: bool = False,
) -> str:
    """The verdict in one sentence; the reasons carry the numbers."""
    whom = candidate or "a candidate"
    if action == "ship":
        return f"Ship {whom}: it meets every threshold, and no candidate that does is cheaper."
    if action == "tune" and after_training:
        return f"Fine-tune {whom} again: after training, too, no candidate is shown to meet every threshold."
    if action == "stop" and after_training:
        return "Stop: after training, too, no candidate is shown to meet every threshold."
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


def _verdict(summary: Mapping[str, Any], tags_of: Mapping[str, tuple[str, ...]]) -> Verdict:
    verdict = summary["verdict"] or {}
    candidate = verdict.get("candidate")
    action = verdict.get("action")
    reasons = tuple(verdict.get("reasons", ()))
    if not action and not _has_thresholds(summary):
        first = (summary["task"]["metrics"] or ["accuracy"])[0]
        reasons = (f"Set a threshold to get one, for example --threshold '{first} >= 0.9'.",)
    return Verdict(
        action=action,
        sentence=_sentence(summary, verdict, {}, after_training=trained(summary)),
        tagged_sentence=_sentence(summary, verdict, tags_of, after_training=trained(summary)),
        tags=tags_of.get(candidate, ()) if candidate else (),
        reasons=reasons,
        costs=_costs(summary, candidate, tags_of),
        flips_if=tuple(verdict.get("flips_if", ())),
        steps=tuple(summary.get("steps") or ()),
    )


def _costs(summary: Mapping[str, Any], chosen: str | None, tags_of: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    volume = summary.get("queries_per_month")
    known = [entry for entry in summary["candidates"] if entry["cost_per_query_usd"]["value"] is not None]
    known.sort(key=lambda entry: (entry["name"] != chosen, entry["cost_per_query_usd"]["value"]))
    lines = []
    for i, entry in enumerate(known[:COSTS_SHOWN]):
        cost = entry["cost_per_query_usd"]
        many, per = (volume, "a month") if volume else (1000, "per 1,000 queries")
        line = f"{tagged(entry['name'], tags_of[entry['name']])}: {numbers.usd(many * cost['value'])} {per}"
        if not i and volume:
            line += f" at {numbers.count(volume)} queries"
        lines.append(f"{line}, {numbers.usd(cost['value'])} each")
    if len(known) > COSTS_SHOWN:
        lines.append(f"{len(known) - COSTS_SHOWN} dearer candidates are below")
    unknown = [tagged(name, tags_of[name]) for name in _without_cost(summary)]
    lines += [f"not known: {', '.join(unknown)}"] if unknown else []
    pays = summary.get("break_even") or {}
    if pays.get("queries") and pays.get("one_off_usd") and not trained(summary):
        months = f", {numbers.count(pays['months'])} months at this volume" if pays.get("months") else ""
        lines.append(
            f"Fine-tuning: {numbers.usd(pays['one_off_usd'])} once (estimated), paid back after "
            f"{numbers.count(math.ceil(pays['queries']))} queries{months}"
        )
    if known and not volume:
        lines.append("decide.queries_per_month makes these a month's cost")
    return tuple(lines)


def _without_cost(summary: Mapping[str, Any]) -> list[str]:
    return [entry["name"] for entry in summary["candidates"] if entry["cost_per_query_usd"]["value"] is None]


def _sentence(
    summary: Mapping[str, Any],
    verdict: Mapping[str, Any],
    tags_of: Mapping[str, tuple[str, ...]],
    *,
    after_training: bool,
) -> str:
    candidate = verdict.get("candidate")
    return verdict_sentence(
        verdict.get("action"),
        tagged(candidate, tags_of.get(candidate, ())) if candidate else None,
        verdict.get("rows_needed"),
        _has_thresholds(summary),
        after_training,
    )


def _has_thresholds(summary: Mapping[str, Any]) -> bool:
    return bool(summary.get("thresholds")) or any(entry["thresholds"] for entry in summary["candidates"])


def _story(
    summary: Mapping[str, Any],
    verdict: Verdict,
    tags_of: Mapping[str, tuple[str, ...]],
    stages: Stages | None,
    expansion: Expansion | None,
) -> tuple[tuple[str, str], ...]:
    """Empty where nothing was trained: then there is no before and after."""
    if not trained(summary):
        return ()
    before = summary.get("verdict_before")
    sentences = {
        "Verdict before": _sentence(summary, before, tags_of, after_training=False) if before else "",
        "Training data": expansion.sentence if expansion else "",
        "Stages": stages.sentence if stages else "",
        "Verdict after": verdict.tagged_sentence,
    }
    return tuple((name, sentence) for name, sentence in sentences.items() if sentence)


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
            f"{name}{f' ({STAND_IN})' if name in stand_ins else ''}: {numbers.counted(rows, 'row')} missing"
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
            f"Only a sample was scored (--limit): {summary['task']['examples']:,} of {numbers.counted(of, 'row')} of the test set."
        )
    return tuple(lines)


# ---------------------------------------------------------------- candidates


def thresholds_of(summary: Mapping[str, Any]) -> dict[str, Threshold]:
    required = dict(summary.get("thresholds") or {})
    for entry in summary["candidates"]:
        required |= {metric: result["require"] for metric, result in (entry["thresholds"] or {}).items()}
    return {metric: parse_threshold(metric, text) for metric, text in required.items()}


def columns_of(summary: Mapping[str, Any], thresholds: Mapping[str, Threshold]) -> tuple[str, ...]:
    """The overview's metrics: those with a threshold and the primary one; without thresholds those of the task."""
    asked: list[str] = summary["task"]["metrics"]
    scores = [metric for metric in thresholds if numbers.unit_of(metric) == "score"]
    return tuple(dict.fromkeys([*asked[:1], *scores] if thresholds else asked[:4]))


def _first_confidence(entries: Sequence[Mapping[str, Any]]) -> float:
    return next((float(m["confidence"]) for entry in entries for m in entry["metrics"].values()), 0.95)


def _slices(found: Sliced) -> Table:
    names = tuple(dict.fromkeys(row["candidate"] for row in found.rows))
    cells: dict[str, dict[str, str]] = {}
    for row in found.rows:
        value = numbers.number(row["value"], "score")
        ends = numbers.interval(row["value"], row["low"], row["high"], "score")
        cells.setdefault(row["slice"], {"": f"{row['rows']:,}"})[row["candidate"]] = f"{value} ({ends})"
    return Table(
        columns=(f"{found.metric} by slice", "rows", *names),
        rows=tuple((name, of[""], *(of.get(who, "–") for who in names)) for name, of in cells.items()),
    )


# ---------------------------------------------------------------- facts


def _task_facts(task: Mapping[str, Any]) -> tuple[str, ...]:
    facts = [str(task["type"]), f"{task['examples']:,} test examples"]
    if task["labels"]:
        facts.append(f"{len(task['labels']):,} labels")
    return (*facts, f"primary metric {task['metrics'][0]}" if task["metrics"] else "no metric")


def _spent(spent: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    rows = [
        ("new money", numbers.usd(spent["usd"])),
        ("API requests", f"{spent['api_requests']:,}"),
        ("answers from the cache", f"{spent['cached_requests']:,}"),
        ("GPU hours", numbers.count(spent["gpu_hours"])),
    ]
    if spent.get("unresolved_usd"):
        lost = numbers.usd(spent["unresolved_usd"])
        rows.insert(1, ("lost with a process that died, and counted under the cap, up to", lost))
    if spent.get("training_usd"):
        rows.append(("training", numbers.usd(spent["training_usd"])))
    if spent.get("training_hours"):
        rows.append(("training hours", numbers.count(spent["training_hours"])))
    if spent.get("machine"):
        rows.append(("machine", str(spent["machine"])))
    return tuple(rows)


def _when(created: object) -> str:
    """An ISO time to the minute; anything else as it is."""
    try:
        return datetime.fromisoformat(str(created)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return str(created or "")


def _in_a_line(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _with_adapter(found: Sequence[Any]) -> str:
    """Of [model, adapter or null], as a hub model stood when it was asked."""
    model, adapter = found
    return f"{model}, adapter {adapter}" if adapter else str(model)


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
