"""Where the probabilities behind an AUC come from: the best there is, always named, and bounded by what is not seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from api_server import completion, error, serving
from evalft import config, pipeline, scoring
from evalft.concluding import Assessment
from evalft.config import TaskConfig
from evalft.records import Example, Failure, Outcome, Prediction

LABELS = ["ham", "spam", "eggs"]


def examples(targets: list[str]) -> list[Example]:
    return [Example(f"e{i}", f"row {i}", target, {}) for i, target in enumerate(targets)]


def said(i: int, probs: dict[str, float] | None, repeat: int = 0, label: str = "ham", **more: Any) -> Prediction:
    best = max(probs, key=probs.__getitem__) if probs else label
    method = "top_logprobs" if probs else None
    return Prediction(f"e{i}", i, repeat, best, (best,), probs=probs, probs_method=method, **more)  # type: ignore[arg-type]


def task(labels: list[str], metric: str = "roc_auc", **more: Any) -> TaskConfig:
    return TaskConfig.model_validate({"type": "classification", "labels": labels, "metrics": [metric]} | more)


def guesses(n: int, labels: list[str], seed: int, least_unseen: float = 0.0) -> tuple[list[str], list[Prediction]]:
    """n rows with probabilities that lean towards the target, and some mass that no label accounts for."""
    draw = np.random.default_rng(seed)
    targets = [labels[i % len(labels)] for i in range(n)]
    found = []
    for i, target in enumerate(targets):
        probs = draw.dirichlet([3.0 if label == target else 1.0 for label in labels])
        unseen = least_unseen + (1 - least_unseen) * 0.5 * draw.random()
        found.append(said(i, dict(zip(labels, probs.tolist(), strict=True)), unseen_mass=unseen))
    return targets, found


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]), st.data())
def test_wherever_the_unseen_probability_belongs_the_auc_is_within_the_interval(
    seed: int, classes: int, data: st.DataObject
) -> None:
    labels = LABELS[:classes]
    targets, outcomes = guesses(24, labels, seed)
    interval = scoring.score(examples(targets), outcomes, task(labels)).intervals["roc_auc"]
    draw = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    kind = data.draw(st.sampled_from(["for the target", "against it", "anywhere"]))
    true = []
    for target, outcome in zip(targets, outcomes, strict=True):
        assert outcome.probs and outcome.unseen_mass
        right = np.array([label == target for label in labels], dtype=float)
        anywhere = draw.dirichlet(np.ones(classes + 1))[:classes]  # the last share is of no label at all
        to = {"for the target": right, "against it": (1 - right) / (classes - 1), "anywhere": anywhere}[kind]
        seen = np.array([outcome.probs[label] for label in labels])
        true.append(seen * (1 - outcome.unseen_mass) + outcome.unseen_mass * to)
    table = np.array(true)
    member = np.array([[label == target for label in labels] for target in targets])
    columns = [1] if classes == 2 else range(classes)
    auc = float(np.mean([roc_auc_score(member[:, c], table[:, c]) for c in columns]))
    low, high = interval.ends(0.49)  # a level at which sampling alone adds next to nothing
    assert low - 1e-9 <= auc <= high + 1e-9


def test_the_interval_is_wider_by_what_is_unseen_and_says_so() -> None:
    targets, outcomes = guesses(60, LABELS[:2], seed=1)
    seen = [said(o.index, dict(o.probs or {})) for o in outcomes]
    with_unseen, without = (
        scoring.score(examples(targets), some, task(LABELS[:2])).intervals["roc_auc"] for some in (outcomes, seen)
    )
    assert with_unseen.value == without.value
    (low, high), (own_low, own_high) = with_unseen.ends(0.025), without.ends(0.025)
    assert low < own_low and high > own_high
    assert with_unseen.reason and "unseen" in with_unseen.reason and without.reason is None


def test_unseen_probability_that_changes_no_order_changes_no_interval() -> None:
    targets = [LABELS[i % 2] for i in range(40)]
    outcomes = [said(i, {t: 0.9, LABELS[1 - i % 2]: 0.1}, unseen_mass=1e-6) for i, t in enumerate(targets)]
    exact = [said(i, {t: 0.9, LABELS[1 - i % 2]: 0.1}) for i, t in enumerate(targets)]
    found = [
        scoring.score(examples(targets), some, task(LABELS[:2])).intervals["roc_auc"] for some in (outcomes, exact)
    ]
    assert found[0].ends(0.025) == found[1].ends(0.025) and found[0].reason is None


@pytest.mark.parametrize("metric", ["roc_auc", "roc_auc_weighted", "roc_auc_micro", "pr_auc"])
def test_a_row_without_probabilities_among_others_could_stand_anywhere(metric: str) -> None:
    targets, outcomes = guesses(60, LABELS, seed=2)
    some_missing: list[Outcome] = [said(o.index, None, label=o.labels[0]) if o.index % 6 == 0 else o for o in outcomes]  # type: ignore[index,union-attr]
    placed = [
        [o if o.index % 6 else said(o.index, {label: float((label == targets[o.index]) == right) for label in LABELS})
         for o in outcomes]
        for right in (False, True)
    ]  # fmt: skip
    holed, worst, best = (
        scoring.score(examples(targets), some, task(LABELS, metric)).intervals[metric]
        for some in (some_missing, *placed)
    )
    assert holed.probs_method == "hard" and holed.reason and "10 answers came without" in holed.reason
    low, high = holed.ends(0.49)
    assert worst.value is not None and best.value is not None
    assert low <= worst.value + 1e-9 and high >= best.value - 1e-9


def test_where_no_row_has_probabilities_they_are_hard_and_nothing_is_unseen() -> None:
    targets = [LABELS[i % 2] for i in range(40)]
    outcomes = [said(i, None, label=LABELS[i % 3 == 0]) for i in range(40)]
    found = scoring.score(examples(targets), outcomes, task(LABELS[:2])).intervals["roc_auc"]
    assert (found.probs_method, found.reason) == ("hard", None)


def test_several_answers_with_probabilities_are_averaged_and_others_are_counted() -> None:
    targets = [LABELS[i % 2] for i in range(30)]
    given = [{"ham": 0.9, "spam": 0.1}, {"ham": 0.6, "spam": 0.4}, {"ham": 0.2, "spam": 0.8}]
    with_probs: list[Outcome] = [said(i, given[(i + r) % 3], r) for i in range(30) for r in range(3)]
    plain: list[Outcome] = [said(i, None, r, label=LABELS[(i + r) % 2]) for i in range(30) for r in range(3)]
    mixed: list[Outcome] = [*with_probs[:-1], said(29, None, 2)]
    failing: list[Outcome] = [Failure("e0", 0, 0, "refused", "no"), *with_probs[1:]]
    methods = [
        scoring.score(examples(targets), some, task(LABELS[:2])).intervals["roc_auc"].probs_method
        for some in (with_probs, plain, mixed, failing)
    ]
    assert methods == ["top_logprobs", "vote", "vote", "top_logprobs"]
    brier = scoring.score(examples(targets), with_probs, task(LABELS[:2], "brier")).intervals["brier"].value
    mean = sum(one["ham"] for one in given) / 3
    assert brier == pytest.approx(np.mean([(mean - (target == "ham")) ** 2 for target in targets]))


# ---------------------------------------------------------------- through assess


def asked(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


def with_logprobs(body: dict[str, Any]) -> Any:
    label = LABELS[asked(body) % 2]
    tops = [{"token": label, "logprob": -0.1}, {"token": LABELS[1 - asked(body) % 2], "logprob": -3.0}]
    return completion(label, logprobs={"content": [{"token": label, "logprob": -0.1, "top_logprobs": tops}]})


def assess(folder: Path, scripts: list[Any], kind: str = "classification", n: int = 24, **candidate: Any) -> Assessment:
    """One candidate per script, on the same rows."""
    from contextlib import ExitStack

    rows = [
        {"id": f"r{i}", "text": f"message {i} .", "label": [LABELS[i % 2]] if kind == "multilabel" else LABELS[i % 2]}
        for i in range(n)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(script)) for script in scripts]
        made = config.build(
            {
                "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": kind, "labels": LABELS[:2]},
                "providers": {f"p{i}": {"base_url": server.base_url} for i, server in enumerate(servers)},
                "candidates": [
                    {"name": f"c{i}", "model": f"p{i}:m", "price": {"input": 1.0, "output": 2.0}} | candidate
                    for i in range(len(servers))
                ],
            },
            source="test",
            folder=folder,
        )
        return pipeline.assess(made, out=folder / "run")


def methods(result: Assessment) -> list[str]:
    return [entry["metrics"]["roc_auc"]["probs_method"] for entry in result.summary["candidates"]]


def test_a_server_that_returns_logprobs_for_some_rows_only_is_noticed(tmp_path: Path) -> None:
    def sometimes(body: dict[str, Any], number: int) -> Any:
        return LABELS[asked(body) % 2] if asked(body) in (5, 9) else with_logprobs(body)

    result = assess(tmp_path, [sometimes])
    (entry,) = result.summary["candidates"]
    assert methods(result) == ["hard"]
    assert "2 answers came without probabilities" in entry["metrics"]["roc_auc"]["reason"]


def test_candidates_whose_probabilities_differ_in_kind_are_marked(tmp_path: Path) -> None:
    result = assess(tmp_path, [lambda body, _: with_logprobs(body), lambda body, _: LABELS[asked(body) % 2]])
    assert methods(result) == ["top_logprobs", "hard"]
    (line,) = [line for line in result.summary["warnings"] if "not of one kind" in line]
    assert "roc_auc" in line and "c0: top logprobs" in line and "c1: hard" in line


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_without_logprobs_the_share_of_several_answers_is_the_probability(tmp_path: Path, kind: str) -> None:
    def wavers(body: dict[str, Any], number: int) -> str:
        return LABELS[asked(body) % 2] if number % 4 else LABELS[1 - asked(body) % 2]

    assert methods(assess(tmp_path, [wavers], kind, samples=4, temperature=1.0)) == ["vote"]


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_with_one_answer_and_no_logprobs_probabilities_are_hard(tmp_path: Path, kind: str) -> None:
    assert methods(assess(tmp_path, [lambda body, _: LABELS[asked(body) % 2]], kind)) == ["hard"]


@pytest.mark.parametrize(("most", "expected"), [(20, "top_logprobs"), (5, "top_logprobs"), (0, "hard")])
def test_an_endpoint_that_lists_fewer_alternatives_is_asked_for_fewer(tmp_path: Path, most: int, expected: str) -> None:
    counts: list[int] = []

    def lists_few(body: dict[str, Any], number: int) -> Any:
        if body.get("top_logprobs", 0) > most:
            return error(400, f"top_logprobs must be at most {most}", param="top_logprobs")
        counts.append(body.get("top_logprobs", 0))
        return with_logprobs(body) if most else LABELS[asked(body) % 2]

    result = assess(tmp_path, [lists_few])
    assert methods(result) == [expected] and counts == [most] * 24
