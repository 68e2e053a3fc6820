"""What is on disk -> scores, verdict, summary.json, reports. Asks nothing: `decide` runs it again at other prices."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalft import comparison, deciding, errors, judging, planning, plugins, prices, scored_rows, scoring, summary
from evalft.candidates import recorded
from evalft.config import CandidateConfig, load
from evalft.decision.evidence import LOWER_IS_BETTER, Obstacle
from evalft.errors import UserError
from evalft.judging import people
from evalft.metrics.names import PROBABILISTIC
from evalft.preparing import Prepared
from evalft.prices import HourPrice, TokenPrice
from evalft.records import Example, Outcome, Prediction
from evalft.reporting import charts, html, markdown, view
from evalft.scoring import Scored
from evalft.sequences import chosen
from evalft.slices import Slices, by_slice
from evalft.spending import Ledger
from evalft.stats.interval import unbounded
from evalft.store import NAMES, RunFolder, kept, slug, write_atomically


@dataclass(frozen=True)
class Assessment:
    """A finished or partial run: its folder, what summary.json holds, and the exit status under --exit-code."""

    path: Path
    summary: Mapping[str, Any]
    status: int
    """0, or why it did not finish: 5 budget, 6 coverage, 130 interrupted."""
    verdict_status: int
    """0 ship, 3 tune, stop or fix_labels, 4 more_test_data; `status` where that is not 0."""

    @property
    def wants_training(self) -> bool:
        """The verdict is to tune, which it is not once that has been tried."""
        return bool(self.summary["verdict"] and self.summary["verdict"]["action"] == "tune")


def require_run(path: Path) -> None:
    """Raises UserError where `path` is no run folder."""
    if not RunFolder(path).exists():
        raise UserError(
            f"{path}: is not a run folder (it has no manifest.json); `evalft assess` makes one below reports/"
        )


def render(path: Path) -> None:
    """report.html and report.md of a run folder, and the figures of its charts as CSV."""
    require_run(path)
    found, drawn = view.read(path), charts.read(path)
    RunFolder(path).write_text("html", html.page(found, drawn))
    RunFolder(path).write_text("markdown", markdown.page(found))
    RunFolder(path).write_charts({chart.file: chart.csv for chart in drawn.all})
    also(path)


def also(path: Path) -> None:
    """What the reporters of `report.also` make of a run folder: each gives (file name, text). Raises UserError."""
    folder = RunFolder(path)
    for name in load(folder.file("config")).report.also if folder.file("config").is_file() else ():
        reporter = plugins.load("reporters", name)
        given = reporter(path)
        if not (isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, str) for one in given)):
            raise reporter.wrong(f"gave {given!r:.80}, not (file name, text)")
        file = path / given[0]
        if slug(given[0]) != given[0] or given[0] in NAMES.values():
            raise reporter.wrong(
                f"names the file {given[0]!r}; a plain name that is none of the run folder's own is needed"
            )
        write_atomically(file, given[1])


def conclude(
    prepared: Prepared,
    why_partial: str | None,
    *,
    unfinished: str | None = None,
    waiting: Mapping[str, Any] | None = None,
) -> Assessment:
    """Score what is on disk, decide, write the result. A run with missing rows has scores so far and no verdict.

    unfinished: why the training that the verdict led to ended early (the verdict stands); waiting: what for."""
    config, data, folder = prepared.config, prepared.data, prepared.folder
    manifest = folder.manifest()
    scored: dict[str, Scored] = {}
    missing: dict[str, int] = {}
    basis: dict[str, str] = {}
    given: dict[str, _Given] = {}
    absent: dict[str, int] = {}
    obstacles: dict[str, dict[str, Obstacle]] = {}
    slices: dict[str, Slices] = {}
    judged = judging.collect(config, data.test, folder, judging.given_scores(prepared.own_config))
    owed = judged.owed + judged.stopped if judged else 0
    for candidate, plan in zip(config.candidates, prepared.plans, strict=True):
        name = candidate.name
        outcomes, basis[name] = _priced(candidate, plan, folder.read_in_order(name), manifest)
        given[name] = _given(outcomes, len(data.test))
        whole = given[name].rows_with(candidate.samples)
        test = data.test if len(whole) == len(data.test) else chosen(data.test, whole)
        missing[name] = len(data.test) - len(whole)
        owed += missing[name] + given[name].not_asked
        scored[name] = scoring.score(
            test,
            _of_rows(outcomes, whole) if missing[name] else outcomes,
            config.task,
            extra_metrics=[threshold.metric for threshold in config.parsed_thresholds],
            words=judged.words.get(name) if judged else None,
        )
        if config.task.slices and config.report.examples != "none":  # their values are text of rows
            slices[name] = _slices(test, scored[name])
        if given[name].not_asked:
            scored[name] = _not_settled(scored[name], given[name].not_asked, len(outcomes))
        if judged:
            found = scored[name].intervals
            scored[name] = replace(scored[name], intervals={**found, "judge": judged.interval(found["judge"])})
        why_not = judged.why_not if judged else ""
        obstacles[name] = deciding.obstacles_of(config, name, scored[name], given[name].not_asked, why_not)
        absent[name] = recorded.absent(outcomes) if candidate.provider == "file" else 0
        folder.write_scores(name, scored[name].scores)
        if len(test) >= scored_rows.KEPT_FROM:
            scored_rows.write(folder, name, config.task)
    partial = why_partial or ("interrupted" if any(missing.values()) or (judged and judged.owed) else None)
    decision, before = (None, None) if partial else deciding.decisions(prepared, scored, obstacles)
    result = summary.build(
        config,
        data,
        scored,
        decision,
        manifest=manifest,
        missing={name: count for name, count in missing.items() if count},
        why_partial=partial or unfinished,
        roles=prepared.roles,
        before=before,
        trained=_trained(prepared, scored, whole=not partial) | ({"waiting": dict(waiting)} if waiting else {}),
        spent=_spent(prepared, scored, manifest),
        prices={plan.name: _price_data(plan, manifest) for plan in prepared.plans},
        basis=basis,
        billed={name: found.billed_usd for name, found in given.items()},
        cached={name: found.cached for name, found in given.items()},
        fastest_slowest={name: found.fastest_slowest for name, found in given.items()},
        absent=absent,
        slices=slices,
        judge=judged.facts if judged else None,
        notes=[*data.assumed, *_targets_reviewed(prepared), *_near_ties(given)],
        warnings=[
            *data.warnings,
            *_gold_faults(prepared),
            *_other_probabilities(scored),
            *(
                f"{name}: {reason}"
                for name, found in scored.items()
                if (reason := found.intervals["cost_per_query"].reason)
            ),
        ],
    )
    folder.write_json("summary", result)
    folder.update_manifest(finished=result["created"], scorer=result["scorer"])
    render(folder.path)
    folder.stage("assess", "incomplete" if owed else "done")
    least_judged = judged.least_judged if judged else 1.0
    status = _status(result, partial or unfinished, config.limits.min_coverage, least_judged)
    return Assessment(folder.path, result, status, status or _verdict_status(result["verdict"]))


@dataclass(frozen=True)
class _Given:
    """What is known of a candidate's answers beside their scores."""

    answers: array[int]
    """Of each row of the test set, how many there are."""
    not_asked: int
    near_ties: int
    billed_usd: float | None
    """None where the cost of some answer is not known."""
    fastest_slowest: tuple[float, float] | None
    """Seconds."""
    cached: Mapping[str, Any] | None
    """How many of the answers were given before this run, and when: the model behind a name may have changed since."""

    def rows_with(self, samples: int) -> Sequence[int]:
        """The rows that have all of their answers."""
        return array("Q", (index for index, count in enumerate(self.answers) if count == samples))


def _not_settled(scored: Scored, not_asked: int, of: int) -> Scored:
    """Of a candidate that stopped: rows that were not asked count as misses and cost nothing, which says nothing of the
    model. So no threshold is decided by them, and what a query costs is not known."""
    why = f"{not_asked:,} of {of:,} answers were not asked for, since the candidate stopped; the same command goes on"
    found = {name: replace(one, ends=unbounded, reason=why) for name, one in scored.intervals.items()}
    return replace(scored, intervals={**found, "cost_per_query": replace(found["cost_per_query"], value=None)})


def _slices(examples: Sequence[Example], scored: Scored) -> Slices:
    bounds = scored.measures[scored.row_metric].bounds
    return by_slice(examples, scored.row_scores, bounds, scoring.group_numbers(examples))


def _given(outcomes: Sequence[Outcome], rows: int) -> _Given:
    answers = array("H", bytes(2 * rows))
    not_asked = near_ties = unknown = cached = 0
    billed_usd, fastest_s, slowest_s = 0.0, math.inf, 0.0
    first, last = "9", ""
    for one in outcomes:
        answers[one.index] += 1
        not_asked += not (one.tries or one.cached)
        near_ties += one.near_tie
        unknown += one.cost_usd is None
        billed_usd += one.cost_usd or 0.0
        if isinstance(one, Prediction) and one.latency_s is not None:
            fastest_s, slowest_s = min(fastest_s, one.latency_s), max(slowest_s, one.latency_s)
        if one.cached and one.made:
            cached, first, last = cached + 1, min(first, one.made), max(last, one.made)
    return _Given(
        answers,
        not_asked,
        near_ties,
        None if unknown else billed_usd,
        (fastest_s, slowest_s) if fastest_s <= slowest_s else None,
        {"answers": cached, "of": len(outcomes), "first": first, "last": last} if cached else None,
    )


def _of_rows(outcomes: Sequence[Outcome], rows: Sequence[int]) -> Sequence[Outcome]:
    wanted = set(rows)
    return chosen(outcomes, array("Q", (place for place, one in enumerate(outcomes) if one.index in wanted)))


def _gold_faults(prepared: Prepared) -> list[str]:
    """Targets that the task's own metrics call wrong; without their text where the report may hold none."""
    found = scoring.check_gold(prepared.data.test, prepared.config.task)
    if not found or prepared.config.report.examples != "none":
        return found
    return [
        f"test: targets that are not right by the task's own metrics: {len(found):,}; `evalft check` shows them, a report "
        "does not, since report.examples is none"
    ]


def _near_ties(given: Mapping[str, _Given]) -> list[str]:
    return [
        f"{name}: {found.near_ties} answers hold a token whose logit another equals to 0.0001; in another batch or on another "
        "machine they may go on differently there"
        for name, found in given.items()
        if found.near_ties
    ]


def _priced(
    candidate: CandidateConfig, plan: planning.CandidatePlan, outcomes: Sequence[Outcome], manifest: Mapping[str, Any]
) -> tuple[Sequence[Outcome], str]:
    """The outcomes at this config's price, and the basis of their cost: stored costs are at the price of the day they
    were asked (also for cached answers); another price in the config since then prices tokens or hours anew."""
    device = manifest.get("runs_on", {}).get(candidate.name, "cpu")
    basis = "usage" if candidate.provider not in ("hf", "fake") else "cpu_time" if device == "cpu" else "gpu_time"
    then, now = price_then(candidate.name, manifest), plan.price
    if candidate.provider == "file" and now != then and isinstance(now, TokenPrice):
        return kept(replace(o, cost_usd=now.cost_usd(o.usage)) if o.usage else o for o in outcomes), "override"
    if isinstance(now, TokenPrice) and isinstance(then, TokenPrice) and _is_another(now, then):
        return kept(replace(o, cost_usd=now.cost_usd(o.usage) if o.usage else 0.0) for o in outcomes), "override"
    if isinstance(now, HourPrice) and isinstance(then, HourPrice) and now.per_hour(device) != then.per_hour(device):
        if not then.per_hour(device):
            raise UserError(
                f"candidate {candidate.name}: it ran at 0 USD per hour, so its hours are not known; use --fresh"
            )
        factor = now.per_hour(device) / then.per_hour(device)
        return kept(replace(o, cost_usd=(o.cost_usd or 0.0) * factor) for o in outcomes), "override"
    return outcomes, basis


def _other_probabilities(scored: Mapping[str, Scored]) -> list[str]:
    """A line where candidates' metrics of probabilities rest on different kinds of them."""
    methods = {name: found.probs_method for name, found in scored.items() if found.probs_method}
    metrics = [name for name in next(iter(scored.values())).intervals if name.startswith(PROBABILISTIC)]
    if not metrics or len(set(methods.values())) < 2:
        return []
    said = ", ".join(f"{name}: {method.replace('_', ' ')}" for name, method in methods.items())
    return [f"{', '.join(metrics)}: the candidates' probabilities are not of one kind ({said})"]


def price_then(name: str, manifest: Mapping[str, Any]) -> TokenPrice | HourPrice | None:
    """The price this run folder's answers were asked at."""
    data = manifest.get("prices", {}).get(name)
    return prices.from_data(data) if data else None


def _is_another(now: TokenPrice, then: TokenPrice) -> bool:
    """Whether the config gives another price than the answers were asked at. That the price list has changed since does
    not change what they cost."""
    from_config = "config" in (now.source, then.source)
    return from_config and replace(now, source=then.source) != then


def _price_data(plan: planning.CandidatePlan, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The price that the costs are at: the day's, or the config's where it gives another."""
    then, now = price_then(plan.name, manifest), plan.price
    if isinstance(now, TokenPrice) and isinstance(then, TokenPrice) and not _is_another(now, then):
        now = then
    return {} if now is None else now.as_data() | {"date": str(manifest.get("created", ""))[:10]}


def _trained(prepared: Prepared, scored: Mapping[str, Scored], *, whole: bool) -> dict[str, Any]:
    """What a training run adds to summary.json, of what there is so far."""
    folder, config = prepared.folder, prepared.config
    found: dict[str, Any] = {}
    if folder.file("expansion").is_file():
        found["expansion"] = folder.read_json("expansion")
    trained = folder.manifest().get("trained")
    if not trained:
        return found
    found |= folder.read_json("stages") | {"stage": trained["stage"]}
    named = {role: name for name, role in prepared.roles.items() if role != "candidate"}
    if not whole or "tuned" not in named:
        return found
    primary = scoring.primary(config.task)
    others = [name for name, role in prepared.roles.items() if role == "candidate"]
    sign = -1.0 if primary in LOWER_IS_BETTER else 1.0
    best = max(others, key=lambda name: sign * (scored[name].intervals[primary].value or 0.0), default=None)
    for key, other in (("diff", named["baseline"]), ("diff_best", best)):
        if other is not None:
            found[key] = _difference(prepared, scored, other, named["tuned"])
    return found


def _difference(prepared: Prepared, scored: Mapping[str, Scored], before: str, after: str) -> dict[str, Any]:
    """Two candidates on the same rows, paired."""
    old, new = scored[before], scored[after]
    found = comparison.compare(
        old.scores,
        new.scores,
        primary=old.row_metric,
        confidence=prepared.config.decide.confidence,
        groups=comparison.groups_of(prepared.data.test),
        measures=(old.measures, new.measures),
    )
    return comparison.as_summary(found, before, after, scoring.primary(prepared.config.task))


def _targets_reviewed(prepared: Prepared) -> list[str]:
    looked_at, wrong = people.targets_reviewed(prepared.data.test, prepared.folder)
    return (
        [f"targets looked at by a person (evalft review): {looked_at:,}, of them wrong: {wrong:,}"] if looked_at else []
    )


def _spent(prepared: Prepared, scored: Mapping[str, Scored], manifest: Mapping[str, Any]) -> dict[str, float]:
    """New money and machine time of this run folder; cached answers cost nothing again."""
    ledger = Ledger(prepared.folder.file("spending"), prepared.config.limits.max_cost_usd)
    ledger.close()
    gpu_hours = sum(_gpu_hours(plan.name, plan.name, prepared.folder, manifest) for plan in prepared.plans)
    for judge in prepared.config.judge.model if prepared.config.judge else ():
        gpu_hours += _gpu_hours(f"judge {judge.name}", judge.name, prepared.folder.part("judge"), manifest)
    hours = {"cpu": 0.0, "gpu": 0.0}
    for stage in _stages(prepared.folder):
        if report := stage["training"]:
            hours["cpu" if report["device"] == "cpu" else "gpu"] += report["seconds"] / 3600
    rates = prepared.config.prices
    return {
        "training_hours": sum(hours.values()),
        "training_usd": hours["cpu"] * rates.cpu_hour_usd + hours["gpu"] * rates.gpu_hour_usd,
        "usd": ledger.settled_usd,
        "gpu_hours": gpu_hours + hours["gpu"],
        "api_requests": ledger.requests,
        "cached_requests": ledger.cached_requests,
        "unresolved_usd": ledger.lost_usd,
    }


def _gpu_hours(title: str, name: str, folder: RunFolder, manifest: Mapping[str, Any]) -> float:
    """Of the answers of one local model in `folder`, those from the cache not counted; 0 where it ran on no GPU."""
    then = price_then(title, manifest)
    if not isinstance(then, HourPrice) or not then.gpu or manifest.get("runs_on", {}).get(title, "cpu") == "cpu":
        return 0.0
    return sum(one.cost_usd or 0.0 for one in folder.read_predictions(name) if not one.cached) / then.gpu


def _stages(folder: RunFolder) -> list[dict[str, Any]]:
    return list(folder.read_json("stages")["stages"]) if folder.file("stages").is_file() else []


def _status(result: Mapping[str, Any], partial: str | None, min_coverage: float, least_judged: float) -> int:
    if partial:
        return errors.BUDGET if partial == "budget" else errors.INTERRUPTED
    shares = [entry["coverage"]["scored"] / entry["coverage"]["total"] for entry in result["candidates"]]
    return errors.COVERAGE if min(*shares, least_judged) < min_coverage else errors.DONE


def _verdict_status(verdict: Mapping[str, Any] | None) -> int:
    if verdict is None or verdict["action"] == "ship":
        return errors.DONE
    return errors.UNDECIDED if verdict["action"] == "more_test_data" else errors.FAILED
