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
from evalft.reporting.candidates import STAND_IN, Candidate, base_name, estimate_of, shown, tagged, tags
from evalft.reporting.changes import ChangedRows, Diff, changed_rows, diffs
from evalft.reporting.drawing import Drawing, Row, draw
from evalft.reporting.examples import Examples, read_examples
from evalft.reporting.judge import banner as judge_banner
from evalft.reporting.judge import sentences as judge_sentences
from evalft.reporting.training import Expansion, Stages, Waiting, expansion, stages, trained, waiting
from evalft.store import RunFolder

SCHEMA = "evalft.summary/1"

SHOWN_ELSEWHERE = frozenset(
    {"stages", "complete", "finished", "judged", "trained", "choices", "settled", "prices", "runs_on", "answered_by"}
)
"""Of manifest.json: how far the run is (the banner says what is missing) and what each candidate's own part says."""
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
    changed: ChangedRows | None
    columns: tuple[tuple[str, str], ...]
    """Name and requirement of each metric of the overview."""
    cost_require: str
    latency_require: str
    candidates: tuple[Candidate, ...]
    drawings: tuple[Drawing, ...]
    judge: tuple[str, ...]
    break_even: tuple[tuple[str, str], ...]
    spent: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    sent_to: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    examples: Examples


def read(run: Path, *, rows: bool = True) -> View:
    """`rows`: with the examples, which the terminal does not show. Raises UserError where the folder holds no readable
    summary."""
    folder = RunFolder(run)
    summary = folder.read_json("summary")
    if summary.get("schema") != SCHEMA:
        found = summary.get("schema")
        raise UserError(f"{run}: its summary is {found!r}, this version reads {SCHEMA!r}; run `evalft assess` again")
    manifest = folder.manifest()
    entries: list[dict[str, Any]] = summary["candidates"]
    thresholds = _thresholds(summary)
    columns = _columns(summary, thresholds)
    confidence = numbers.confidence(summary.get("confidence") or _first_confidence(entries))
    base = base_name(summary)
    tags_of = {entry["name"]: tags(entry, base) for entry in entries}
    candidates = tuple(shown(i, entry, base, columns, thresholds) for i, entry in enumerate(entries, 1))
    verdict = _verdict(summary, tags_of)
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
        changed=changed_rows(folder, summary) if rows else None,
        columns=tuple((m, numbers.requirement(thresholds[m]) if m in thresholds else "") for m in columns),
        cost_require=numbers.requirement(thresholds["cost_per_query"]) if "cost_per_query" in thresholds else "",
        latency_require=", ".join(
            f"{m[8:]} {numbers.requirement(t)}" for m, t in thresholds.items() if m.startswith("latency_")
        ),
        candidates=candidates,
        drawings=_drawings(entries, thresholds, tags_of),
        judge=judge_sentences(summary),
        break_even=tuple(_facts(summary.get("break_even") or {})),
        spent=_spent(summary["spent"]),
        warnings=tuple(summary.get("warnings") or ()),
        notes=tuple(summary.get("notes") or ()),
        sent_to=_sent_to(summary, manifest),
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
        flips_if=tuple(verdict.get("flips_if", ())),
        steps=tuple(summary.get("steps") or ()),
    )


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


def _drawings(
    entries: Sequence[Mapping[str, Any]],
    thresholds: Mapping[str, Threshold],
    tags_of: Mapping[str, tuple[str, ...]],
) -> tuple[Drawing, ...]:
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
                        note=", ".join(tags_of[entry["name"]]),
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
        if provider == "plugin":
            lines.append(
                f"{entry['name']}: rows were given to the plug-in {model}; what it did with them is not known here"
            )
            continue
        if provider == "file":
            lines.append(f"{entry['name']}: its answers were read from a file; evalft sent no row anywhere")
            continue
        where = providers.get(provider) if isinstance(providers, Mapping) else None
        url = where.get("base_url") if isinstance(where, Mapping) else where
        rows = entry["coverage"]["total"] - missing.get(entry["name"], 0)
        lines.append(
            f"{entry['name']}: {rows:,} rows were sent to {provider}{f' ({url})' if url else ''}, model {model}"
            + (f" — a {STAND_IN}" if entry.get("stand_in") else "")
        )
    for judge in (summary.get("judge") or {}).get("models", ()):
        if not judge["name"].startswith(("hf:", "fake:")):
            asked = summary["judge"]["answers"]
            lines.append(
                f"{judge['name']}, as a judge: inputs, targets and answers were sent to it, for {asked:,} answers"
            )
    return tuple([*lines, *_sent_to_teacher(summary)])


def _sent_to_teacher(summary: Mapping[str, Any]) -> list[str]:
    """What left this machine to make training rows: nothing where the teacher ran here."""
    expansion = summary.get("expansion") or {}
    teacher, asked = str(expansion.get("teacher") or ""), expansion.get("asked")
    models = {entry["name"]: str(entry["model"]) for entry in summary["candidates"]}
    model = models.get(teacher, teacher)
    if not teacher or not asked or model.startswith(("hf:", "fake:")):
        return []
    checked = (expansion.get("teacher_agrees") or {}).get("rows")
    and_train = f", and {checked:,} train rows to see how well it answers them" if checked else ""
    return [f"{teacher}, as the teacher: {asked:,} inputs made of train rows were sent to it{and_train}"]


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
