"""Writes run folders for the tests of the reports: like a finished run, with hostile text wherever others write text.

Scores and estimates are computed from the predictions that are written; only the corrected levels are made up.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalft.comparison import compare
from evalft.records import Score
from evalft.store import RunFolder, slug

HOSTILE = (
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "</style></script><svg onload=document.title='pwned'>",
    "<iframe srcdoc='<script>parent.document.title=1</script>'></iframe><a href='javascript:alert(1)'>go</a>",
    "<meta http-equiv=refresh content='0;url=https://example.invalid'><base href=//example.invalid>",
    "{{ 7*7 }} {% raw %} ${7*7} {{ view.__class__ }}",
    "a | b | c\n| --- | --- |\n**bold** `tick` ``two`` [x](javascript:alert(1)) ![i](https://example.invalid/i.png)",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;https://example.invalid\x1b\\link\x1b]8;;\x1b\\ \x9b2J",
    "[bold red]rich[/bold red] [link=https://example.invalid]x[/link] \\",
    "user\u202etxt.exe \u2066hidden\u2069 \u200b\ufeff \x00 \x08 \ud800",
    "]]> --> <!-- <![CDATA[ ' \" & &lt; &#60;script&#62;",
)
PLAIN = (
    "When will my card arrive?",
    "카드를 언제 받을 수 있나요?",
    "متى ستصل بطاقتي؟",
    r"The integral of $x^2$ from 0 to 1: \int_{0}^{1} x^{2} \, dx = \frac{1}{3}",
    "I was charged twice for the same coffee, and the second payment is still pending. " * 3,
)
BASE, TUNED = "hf:Qwen/Qwen3-0.6B", "Qwen3-0.6B-tuned"
LABELS = ("card arrival", "카드 분실", "بطاقة", "exchange|rate", "<b>top up</b>")
FAILURES = (
    "refused", "filtered", "truncated", "empty", "unparsable", "wrong_schema",
    "bad_response", "timeout", "connection", "api_error", "out_of_memory",
)  # fmt: skip


def write(
    folder: Path,
    *,
    kind: str = "classification",
    rows: int = 60,
    thresholds: bool = True,
    partial: dict[str, Any] | None = None,
    examples: str = "all",
    hostile: Sequence[str] = HOSTILE,
    training: str | None = None,
) -> dict[str, Any]:
    """Returns the summary, as written to folder/summary.json.

    training: "tuned" (a stage was chosen and scored on test), "base" (the untuned base was), "waiting" (not done here).
    """
    draw = random.Random(7)
    test = [_example(i, kind, draw, hostile) for i in range(rows)]
    _write_lines(folder / "data" / "test.jsonl", test)
    skills = {"openai:gpt-5-mini": 0.97, "together:Qwen/Qwen3-8B-Instruct-2507-k4": 0.86, BASE: 0.35}
    skills |= {TUNED: 0.9} if training == "tuned" else {}
    candidates = [
        _candidate(folder, position, name, skill, test, kind, draw, hostile, thresholds)
        for position, (name, skill) in enumerate(skills.items())
    ]
    metric = candidates[0]["metrics"]
    summary = {
        "schema": "evalft.summary/1",
        "evalft": "0.1.0",
        "created": "2026-11-22T13:31:00+00:00",
        "confidence": 0.95,
        "task": {
            "name": "banking <intents>",
            "type": kind,
            "examples": rows,
            "sampled_from": None,
            "test_sha256": "3f" * 32,
            "labels": list(LABELS) if kind != "generation" else None,
            "metrics": list(metric),
        },
        "thresholds": _requirements(kind) if thresholds else {},
        "candidates": candidates,
        "verdict": {
            "action": "tune",
            "candidate": "hf:Qwen/Qwen3-0.6B",
            "reasons": [
                "openai:gpt-5-mini meets the quality threshold but costs more per query than $0.0005.",
                "hf:Qwen/Qwen3-0.6B is cheap enough and far below the quality threshold.",
                f"hostile reason {hostile[0] if hostile else ''}",
            ],
            "flips_if": ["openai:gpt-5-mini would pass if its cost per query fell to $0.0005 or below."],
            "rows_needed": None,
        }
        if thresholds and not partial
        else None,
        "verdict_before": None,
        "stages": None,
        "forecast": None,
        "break_even": {"queries": 184000, "months": 0.37, "saving_per_query_usd": 0.00087, "training_usd": 12.5},
        "diff": None,
        "diff_best": None,
        "spent": {"usd": 0.0712, "gpu_hours": 0, "api_requests": 2 * rows, "cached_requests": 3},
        "notes": ["GPU price: 2.50 USD per hour (assumed)."],
        "warnings": [f"test.jsonl:7: same input as test.jsonl:3 {hostile[1] if len(hostile) > 1 else ''}"],
        "steps": ["1. Does a candidate pass? None does.", "4. Training fits the limits."],
        "queries_per_month": 500000,
        "partial": partial,
        "report_examples": examples,
    }
    if training:
        summary |= _training(folder, summary, training, hostile)
    (folder / "summary.json").write_text(json.dumps(summary))
    manifest = {
        "digest": "ab12cd34",
        "evalft": "0.1.0",
        "python": "3.11.9",
        "packages": {"openai": "3.50.0", "scikit-learn": "1.7.2"},
        "seeds": {"bootstrap": 0},
        "git_revision": "0" * 40,
        "providers": {"together": {"base_url": "https://api.together.xyz/v1"}},
        "stages": {"assess": "done"}
        | ({"expand": "done", "tune": "waiting" if training == "waiting" else "done"} if training else {}),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return summary


def _example(i: int, kind: str, draw: random.Random, hostile: Sequence[str]) -> dict[str, Any]:
    words = (*PLAIN, *hostile)[i % (len(PLAIN) + len(hostile))]
    target: Any = {
        "classification": LABELS[i % len(LABELS)],
        "multilabel": [label for label in LABELS if draw.random() < 0.4],
        "generation": rf"\frac{{{i}}}{{2}}",
    }[kind]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": words}]
    return {
        "id": f"row-{i}" if i % 9 or not hostile else f"{i}{hostile[i % len(hostile)]}",
        "index": i,
        "input": chat if i % 10 == 9 else words,
        "target": target,
        "group": f"customer {i // 4}" if i % 2 else None,
        "slices": {"language": ("en", "ko", "ar")[i % 3]},
        "source": f"test.jsonl:{i + 1}",
    }


def _candidate(
    folder: Path,
    position: int,
    name: str,
    skill: float,
    test: Sequence[dict[str, Any]],
    kind: str,
    draw: random.Random,
    hostile: Sequence[str],
    thresholds: bool,
) -> dict[str, Any]:
    file = slug(name)
    outcomes, scores = [], []
    for row in test:
        i, right = row["index"], draw.random() < skill
        failure = FAILURES[(i // 3) % len(FAILURES)] if position == 1 and i % 3 == 0 and i < 33 else None
        line: dict[str, Any] = {
            "id": row["id"],
            "index": i,
            "repeat": 0,
            "cost_usd": 0.001,
            "latency_s": 0.4,
            "tries": 1,
        }
        if failure:
            line |= {
                "failure": failure,
                "message": f"HTTP 400 {hostile[i % len(hostile)] if hostile else ''}",
                "text": None,
            }
        else:
            line |= {"text": _words(row["target"], right, kind, i, hostile), "cached": i == 1}
            line["labels"] = _labels(row["target"], right, kind)
            line["rescued"] = right and i % 8 == 0
        outcomes.append(line)
        value = float(right and not failure)
        values = {metric: value for metric in _metrics(kind)}
        if kind == "multilabel" and not right and not failure:
            values["jaccard"] = 0.5
        scores.append(
            {"id": row["id"], "index": i, "values": values, "failure": failure, "rescued": bool(line.get("rescued"))}
        )
    _write_lines(folder / "predictions" / f"{file}.jsonl", outcomes)
    _write_lines(folder / "scores" / f"{file}.jsonl", scores)
    failures = Counter(line["failure"] for line in scores if line["failure"])
    metrics = {metric: _estimate([line["values"][metric] for line in scores]) for metric in _metrics(kind)}
    if kind != "generation":
        metrics["roc_auc"] = {
            "value": None, "low": None, "high": None, "confidence": 0.95, "method": "delong", "n": len(test),
            "probs_method": "top_logprobs", "reason": "label 카드 분실 has under 2 rows",
        }  # fmt: skip
    cost = (0.0011, 0.00021, 0.0000031, 0.0000032)[position]
    results = None
    if thresholds:
        estimates = {**metrics, "cost_per_query": {"value": cost, "low": cost * 0.9, "high": cost * 1.2}}
        results = {metric: _result(require, estimates[metric]) for metric, require in _requirements(kind).items()}
    statuses = {result["status"] for result in (results or {}).values()}
    local = position >= 2
    return {
        "name": name,
        "model": BASE if local else name,
        "role": "candidate",
        "stand_in": position == 0,
        "file": file,
        "metrics": metrics,
        "cost_per_query_usd": {
            "value": cost, "low": cost * 0.9, "high": cost * 1.2,
            "basis": "cpu_time" if local else "usage", "method": "bca", "n": len(test),
        },
        "cost_total_usd": cost * len(test),
        "latency_s": {
            "p50": {"value": 0.41, "low": 0.39, "high": 0.44},
            "p95": {"value": 1.9, "low": 1.5, "high": 2.75, "reason": "high is the largest seen, not a bound"},
        } if not local else None,
        "coverage": {
            "total": len(test),
            "scored": len(test) - sum(failures.values()),
            "rescued": sum(line["rescued"] for line in scores),
            "failures": dict(failures),
        },
        "thresholds": results,
        "status": None if not results else "fail" if "fail" in statuses else "undecided" if "undecided" in statuses else "pass",
        "choices": ["temperature was refused by the endpoint and dropped"] if position == 0 else ["dtype float32, device cpu"],
        "per_label": [
            {"label": label, "support": len(test) // 5, "precision": 0.9, "recall": 0.8, "f1": 0.847, "roc_auc": None}
            for label in LABELS
        ] if kind != "generation" else None,
        "confusion": {
            "labels": list(LABELS),
            "columns": [*LABELS, "(failed or unknown)"],
            "counts": [[9 if i == j else (i * j) % 3 for j in range(len(LABELS) + 1)] for i in range(len(LABELS))],
        } if kind == "classification" else None,
        "price": {"hour": 0.1, "source": "prices.cpu_hour_usd", "date": "2026-11-22"}
        if local else {"input": 0.25, "output": 2.0, "cached": 0.025, "source": "genai-prices", "date": "2026-11-20"},
    }  # fmt: skip


def _training(folder: Path, summary: dict[str, Any], training: str, hostile: Sequence[str]) -> dict[str, Any]:
    """What a run that goes on to training adds to its summary."""
    said = hostile[0] if hostile else "nothing"
    base = next(entry for entry in summary["candidates"] if entry["name"] == BASE)
    base["role"] = "baseline"
    expansion = {
        "methods": ["recombine"], "teacher": "openai:gpt-5-mini", "train_rows": 50, "generated": 250, "total": 300,
        "drafted": 410, "asked": 400, "train_removed": 0,
        "removed": {"exact": 3, "near": 1, "semantic": 0, "contaminated": 4, "invalid": 142, "failed": 0},
        "embedder": "lexical", "cost_usd": 0.03, "notes": [f"hostile note {said}"],
        "teacher_agrees": {"right": 49, "rows": 50, "metric": summary["task"]["metrics"][0]},
        "samples": [{"input": f"new input {i} {words}", "target": [words, "b"] if i % 2 else words}
                    for i, words in enumerate((hostile or PLAIN)[:5])],
    }  # fmt: skip
    if training == "waiting":
        why = f"it would take 14 h here {said}"
        return {"expansion": expansion, "waiting": {"why": why, "commands": ["evalft tune .", f"evalft run . {said}"]}}
    step = 0.25 if training == "tuned" else -0.05
    stages = [_stage(summary, name, 0.3 + step * i, said) for i, name in enumerate(("base", "sft", "dpo"))]
    stages[-1 if training == "tuned" else 0]["chosen"] = True
    found = {
        "expansion": expansion,
        "stages": stages,
        "stage_notes": [f"dpo: 212 pairs of 300 rows {said}"],
        "verdict_before": summary["verdict"],
        "spent": summary["spent"] | {"training_usd": 0.0113, "training_hours": 0.113, "machine": "cpu"},
    }
    if training == "base":
        return found | {"verdict": summary["verdict"] | {"action": "stop", "candidate": None}}
    tuned = next(entry for entry in summary["candidates"] if entry["name"] == TUNED)
    tuned |= {"role": "tuned", "adapter": "adapters/dpo", "stage": "dpo"}
    verdict = {
        "action": "ship", "candidate": TUNED, "rows_needed": None, "flips_if": [],
        "reasons": [f"{TUNED} passes every threshold."],
    }  # fmt: skip
    primary = summary["task"]["metrics"][0]
    best = summary["candidates"][0]["name"]
    return found | {
        "verdict": verdict if summary["verdict"] else None,
        "diff": _diff(folder, BASE, primary, said),
        "diff_best": _diff(folder, best, primary, said),
    }


def _stage(summary: dict[str, Any], name: str, value: float, said: str) -> dict[str, Any]:
    training = {
        "rows": 300, "left_out": 1, "epochs": 5, "steps": 95, "learning_rate": 0.0009, "batch_size": 16,
        "lora": {"r": 16, "alpha": 32, "dropout": 0.05, "targets": "all-linear"}, "precision": "float32",
        "device": "cpu", "seconds": 203.4, "trainable_parameters": 312000, "loss_first": 3.2, "loss_last": 0.12,
        "choices": [f"learning rate 0.0009, scaled to the model's width {said}"],
    }  # fmt: skip
    if name == "dpo":
        training |= {"pairs": 212, "reference_gap": 0.0000012}
    method = "none" if name == "base" else name
    return {
        "name": name, "method": method, "round": 0 if name == "base" else 1, "chosen": False,
        "dev": {metric: {"value": value, "low": value - 0.1, "high": value + 0.1, "method": "bca", "n": 61}
                for metric in summary["task"]["metrics"] if metric != "roc_auc"},
        "training": training if method != "none" else None,
        "loss": [[step, 3.2 / step] for step in range(1, 96, 2)] if method != "none" else [],
    }  # fmt: skip


def _diff(folder: Path, before: str, primary: str, said: str) -> dict[str, Any]:
    found = compare(_scores(folder, before), _scores(folder, TUNED), primary=primary)
    measured = {
        metric: {"delta": one.delta, "low": one.low, "high": one.high, "p_value": one.p_value, "test": one.test}
        for metric, one in found.metrics.items()
    }
    return {
        "baseline": before, "tuned": TUNED, "metrics": measured, "unmeasured": {"roc_auc": f"no row score {said}"},
        "primary": primary, **{kind: found.count(kind) for kind in ("fixed", "broken", "same")},
        **{f"{kind}_ids": [c.id for c in found.changes if c.kind == kind] for kind in ("fixed", "broken")},
    }  # fmt: skip


def _scores(folder: Path, candidate: str) -> list[Score]:
    file = RunFolder(folder).scores_file(candidate)
    return [Score(**json.loads(line)) for line in file.read_text().splitlines()]


def _metrics(kind: str) -> tuple[str, ...]:
    return {
        "classification": ("accuracy", "strict_accuracy"),
        "multilabel": ("jaccard", "accuracy"),
        "generation": ("exact_match", "token_f1"),
    }[kind]


def _requirements(kind: str) -> dict[str, str]:
    return {_metrics(kind)[0]: ">= 0.9", "cost_per_query": "<= 0.0005"}


def _words(target: Any, right: bool, kind: str, i: int, hostile: Sequence[str]) -> str:
    if right:
        return ", ".join(target) if isinstance(target, list) else target
    return hostile[i % len(hostile)] if hostile else "something else"


def _labels(target: Any, right: bool, kind: str) -> list[str] | None:
    if kind == "generation":
        return None
    return ([target] if kind == "classification" else target) if right else [LABELS[0]]


def _estimate(values: Sequence[float]) -> dict[str, Any]:
    from scipy.stats import binomtest

    exact = binomtest(round(sum(values)), len(values)).proportion_ci(0.95)
    return {
        "value": sum(values) / len(values), "low": float(exact.low), "high": float(exact.high),
        "confidence": 0.95, "method": "clopper_pearson", "n": len(values),
    }  # fmt: skip


def _result(require: str, estimate: dict[str, Any]) -> dict[str, Any]:
    op, bound = require.split()[0], float(require.split()[1])
    low, high = estimate["low"], estimate["high"]
    worst, best = (low - bound, high - bound) if op == ">=" else (bound - high, bound - low)
    return {
        "require": require,
        "status": "pass" if worst >= 0 else "fail" if best < 0 else "undecided",
        "pass_level": 0.025 / 3, "pass_end": (low if op == ">=" else high) * (0.99 if op == ">=" else 1.01),
        "fail_level": 0.0125, "fail_end": (high if op == ">=" else low) * (1.005 if op == ">=" else 0.995),
        "p_value": 0.00314 if worst >= 0 else 0.42, "reason": None,
    }  # fmt: skip


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
