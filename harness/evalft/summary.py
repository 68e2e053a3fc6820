"""Scores and decision -> summary.json, the machine-readable result (evalft.summary/1), and what stands in manifest.json."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evalft import plugins, scoring
from evalft.candidates.api import openai_base_url
from evalft.config import CandidateConfig, Config, as_data, dump, shown_spec
from evalft.decision.statuses import CandidateStatus
from evalft.decision.verdict import Decision
from evalft.records import Role
from evalft.scoring import Scored
from evalft.slices import Slices
from evalft.stats.interval import Interval
from evalft.store import NAMES, SUMMARY_SCHEMA, slug
from evalft.testset import TestSet

SIDES = {"low": "below", "high": "above"}
RECORDED_PACKAGES = (
    "evalft",
    "openai",
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasketch",
    "numpy",
    "scipy",
    "scikit-learn",
    "genai-prices",
)


def manifest(config: Config, data: TestSet, digest: str, fresh: bool) -> dict[str, Any]:
    """What was run, on what, with which versions: everything needed to run it again."""
    return {
        "digest": digest,
        "created": _now(),
        "fresh": fresh,
        "test_sha256": data.sha256,
        "source": {name: getattr(config.task, name) for name in ("test", "dev", "train") if getattr(config.task, name)},
        "versions": {name: found for name in RECORDED_PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "git_revision": _git_revision(),
        "plugins": _plugins(config),
        "seeds": {"sample": 0, "shots": 0, "bootstrap": 0},
        "providers": {name: {"base_url": provider.base_url} for name, provider in config.providers.items()}
        | (
            {"openai": {"base_url": openai_base_url()}}
            if any(c.provider == "openai" for c in (*config.candidates, *(config.judge.model if config.judge else ())))
            else {}
        ),
    }


def _plugins(config: Config) -> dict[str, str]:
    """Version of each plug-in that the config names."""
    asked = [one.model_id for one in config.candidates if one.provider == "plugin"]
    found = {name: plugins.version("candidates", name) for name in asked}
    found |= {name: plugins.version("reporters", name) for name in config.report.also}
    return found | scoring.plugin_versions(config.task, config.thresholds)


def resolved_config(config: Config, rows: TestSet, folder: Path) -> str:
    """config.yaml: runnable again from the run folder, with the rows as used (a split and a dev set held out included)
    and every default written out."""
    data = as_data(config)
    for name in ("test", "dev", "train"):
        if getattr(rows, name):
            data["task"][name] = NAMES[name]

    def relative(path: str) -> str:
        return os.path.relpath(path, folder.absolute()) if os.path.isabs(path) else path

    judge = data.get("judge", {})
    if judge.get("human"):
        judge["human"] = NAMES["people"]
    for candidate in (*data["candidates"], *judge.get("model", ())):
        kind, _, where = candidate["model"].partition(":")
        if kind in ("hf", "file"):
            candidate["model"] = f"{kind}:{relative(where)}"
        if candidate.get("adapter"):
            candidate["adapter"] = relative(candidate["adapter"])
    for section, key in (("tune", "base"), ("expand", "teacher"), ("expand", "embedder")):
        spec = data.get(section, {}).get(key)
        if spec and spec.startswith("hf:"):
            data[section][key] = f"hf:{relative(spec[3:])}"
    return (
        f"# evalft {_version('evalft')}: this run's config with every default; `evalft assess` runs it again\n"
        + dump(data)
    )


def build(
    config: Config,
    data: TestSet,
    scored: Mapping[str, Scored],
    decision: Decision | None,
    *,
    manifest: Mapping[str, Any],
    missing: Mapping[str, int],
    why_partial: str | None,
    spent: Mapping[str, float],
    prices: Mapping[str, Mapping[str, Any]],
    judge: Mapping[str, Any] | None,
    basis: Mapping[str, str],
    billed: Mapping[str, float | None],
    cached: Mapping[str, Mapping[str, Any] | None],
    fastest_slowest: Mapping[str, tuple[float, float] | None],
    absent: Mapping[str, int],
    notes: Sequence[str],
    warnings: Sequence[str],
    roles: Mapping[str, Role],
    before: Decision | None,
    trained: Mapping[str, Any],
    slices: Mapping[str, Slices],
) -> dict[str, Any]:
    """summary.json as data; numbers are finite or None. `before`: the decision without the tuned candidate; `trained`:
    what a training run adds (stages, expansion, diffs, what it waits for), keys as they stand in summary.json."""
    statuses = {status.name: status for status in decision.statuses} if decision else {}
    task = config.task
    entries = [
        _candidate(
            candidate,
            config,
            scored[candidate.name],
            statuses.get(candidate.name),
            price=prices[candidate.name],
            basis=basis[candidate.name],
            billed_usd=billed[candidate.name],
            cached=cached[candidate.name],
            seen_s=fastest_slowest[candidate.name],
            absent=absent[candidate.name],
            total=len(data.test),
            choices=manifest.get("choices", {}).get(candidate.name, []),
        )
        | _curves(scored[candidate.name], config.decide.confidence)
        | _slices(slices.get(candidate.name), scored[candidate.name].row_metric, config.decide.confidence)
        | {"role": roles[candidate.name]}
        | ({"stage": trained["stage"]} if roles[candidate.name] == "tuned" else {})
        for candidate in config.candidates
    ]
    return {
        "schema": SUMMARY_SCHEMA,
        "evalft": _version("evalft"),
        "scorer": scoring.version(),
        "created": _now(),
        "confidence": config.decide.confidence,
        "task": {
            "name": task.name,
            "type": task.type,
            "examples": len(data.test),
            "sampled_from": data.sampled_from,
            "test_sha256": data.sha256,
            "labels": task.labels if task.type != "generation" else None,
            "metrics": [spec.name for spec in task.metrics or ()],
        },
        "candidates": entries,
        "thresholds": {threshold.metric: threshold.require for threshold in config.parsed_thresholds},
        "verdict": _verdict(decision),
        "verdict_before": _verdict(before),
        "stages": trained.get("stages"),
        "stage_notes": trained.get("notes", []),
        "expansion": trained.get("expansion"),
        "waiting": trained.get("waiting"),
        "forecast": None,
        "break_even": dict(decision.break_even) if decision and decision.break_even else None,
        "diff": trained.get("diff"),
        "diff_best": trained.get("diff_best"),
        "judge": dict(judge) if judge else None,
        "spent": dict(spent),
        "queries_per_month": config.decide.queries_per_month,
        "partial": {"why": why_partial, "missing": dict(missing)} if why_partial else None,
        "notes": [*notes, *(decision.notes if decision else ())],
        "warnings": list(warnings),
        "steps": list(decision.steps) if decision else [],
        "min_coverage": config.limits.min_coverage,
        "report_examples": config.report.examples,
    }


def _verdict(decision: Decision | None) -> dict[str, Any] | None:
    verdict = decision.verdict if decision else None
    if verdict is None:
        return None
    return asdict(verdict) | {"reasons": list(verdict.reasons), "flips_if": list(verdict.flips_if)}


def _candidate(
    candidate: CandidateConfig,
    config: Config,
    scored: Scored,
    status: CandidateStatus | None,
    *,
    price: Mapping[str, Any],
    basis: str,
    billed_usd: float | None,
    cached: Mapping[str, Any] | None,
    seen_s: tuple[float, float] | None,
    absent: int,
    total: int,
    choices: Sequence[str],
) -> dict[str, Any]:
    confidence = config.decide.confidence
    quality = {
        name: asdict(interval.estimate(confidence))
        for name, interval in scored.intervals.items()
        if name != "cost_per_query" and not name.startswith("latency_")
    }
    cost = scored.intervals["cost_per_query"].estimate(confidence)
    provider = config.providers.get(candidate.provider)
    covered = scored.coverage
    return {
        "name": candidate.name,
        "model": shown_spec(candidate.model),
        "stand_in": bool(provider and provider.stand_in),
        "file": slug(candidate.name),
        "metrics": quality,
        "cost_per_query_usd": {
            "value": cost.value,
            "low": cost.low,
            "high": cost.high,
            "basis": basis,
            "method": cost.method,
            "n": cost.n,
            "reason": cost.reason,
        },
        "cost_total_usd": billed_usd,
        "latency_s": _latency(scored, seen_s, confidence),
        "coverage": {
            "total": total,
            "scored": covered.scored,
            "rescued": covered.rescued,
            "failures": dict(covered.failures),
        }
        | ({"absent": absent} if absent else {}),
        "thresholds": {metric: _threshold(asdict(result)) for metric, result in status.thresholds.items()}
        if status
        else None,
        "status": status.status if status else None,
        "cache": dict(cached) if cached else None,
        "choices": list(choices),
        "price": dict(price),
        "per_label": [asdict(row) for row in scored.per_label] if scored.per_label else None,
        "confusion": asdict(scored.confusion) if scored.confusion else None,
    }


def _curves(scored: Scored, confidence: float) -> dict[str, Any]:
    """Of a candidate with probabilities: its ROC curve, and how often what it states is right."""
    bins = [
        {"above": one.above, "up_to": one.up_to, "stated": one.stated, "right": asdict(one.right.estimate(confidence))}
        for one in scored.calibration
    ]
    return ({"probs_method": scored.probs_method, "roc": asdict(scored.roc)} if scored.roc else {}) | (
        {"calibration": bins} if bins else {}
    )


def _slices(found: Slices | None, metric: str, confidence: float) -> dict[str, Any]:
    if found is None:
        return {}
    rows = [
        {"column": one.column, "value": one.value, "score": asdict(one.score.estimate(confidence))}
        for one in found.found
    ]
    return {
        "slices": {"metric": metric, "rows": rows}
        | {"small": found.small, "small_rows": found.small_rows, "more": found.more}
    }


def _threshold(result: dict[str, Any]) -> dict[str, Any]:
    result.pop("metric")
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in result.items()
    }


def _latency(scored: Scored, seen_s: tuple[float, float] | None, confidence: float) -> dict[str, Any] | None:
    """p50 and p95 in s. An end that the rows cannot bound is the extreme seen, with the reason beside it."""
    found = {name: scored.intervals.get(f"latency_{name}") for name in ("p50", "p95")}
    if seen_s is None or any(interval is None or interval.value is None for interval in found.values()):
        return None
    return {name: _range(interval, seen_s, confidence) for name, interval in found.items() if interval}


def _range(interval: Interval, seen_s: tuple[float, float], confidence: float) -> dict[str, Any]:
    estimate = interval.estimate(confidence)
    unbounded = [side for side in ("low", "high") if getattr(estimate, side) is None]
    reasons = [estimate.reason] if estimate.reason else []
    if unbounded:
        reasons.append(f"not bounded {' or '.join(SIDES[side] for side in unbounded)} by these answers")
    return {
        "value": estimate.value,
        "low": seen_s[0] if estimate.low is None else estimate.low,
        "high": seen_s[1] if estimate.high is None else estimate.high,
        "method": estimate.method,
        "n": estimate.n,
        "unbounded": unbounded,
        "reason": "; ".join(reasons) or None,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Of the folder the command runs in, where that is a git checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
