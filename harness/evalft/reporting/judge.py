"""`judge` of summary.json -> sentences: who judged, how well it agrees with people, what it gave no score for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalft import numbers

IDS_SHOWN = 3


def sentences(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Empty where nothing was judged."""
    found = summary.get("judge")
    if not found:
        return ()
    confidence = float(summary["confidence"])
    lines = [_who(found), _calibration(found, confidence)]
    lines += [line for model in found["models"] for line in _trouble(model, found["answers"])]
    if position := found["position_decided"]:
        pairs, won = position["pairs"], position["by_position"]
        lines.append(
            f"In {won:,} of {pairs:,} pairs ({numbers.percent(won, pairs)}) the same place won in both orders: the place "
            "decided, not the answer, and the pair is a tie."
        )
    for pair in found["between"]:
        if pair["n"]:
            lines.append(
                f"{' and '.join(pair['judges'])} agree with {_kappa(pair, confidence)} over {pair['n']:,} answers."
            )
    return tuple(lines)


def banner(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Where too many answers have no score."""
    least, floor = (summary.get("judge") or {}).get("least_judged", 1.0), summary.get("min_coverage") or 0
    if summary.get("partial") or least >= floor:
        return ()
    return (
        f"Only {numbers.percent(least, 1)} of a candidate's answers have a score by a judge, under limits.min_coverage "
        f"({100 * floor:g} %): the exit status is 6.",
    )


def _who(found: Mapping[str, Any]) -> str:
    names = ", ".join(model["name"] for model in found["models"])
    usd = numbers.usd(sum(model["cost_usd"] for model in found["models"]))
    low, high = found["scale"]
    how = (
        f"compared {found['answers']:,} answers with those of {found['compared_with']}, each pair in both orders"
        if found["compared_with"]
        else f"scored {found['answers']:,} answers from {low:g} to {high:g} (0 to 1 in this report)"
    )
    mean = ", the mean of their scores counting" if len(found["models"]) > 1 else ""
    return f"{names} {how}{mean}; judging cost {usd}, which is in no candidate's cost per query."


def _calibration(found: Mapping[str, Any], confidence: float) -> str:
    people, width = found["people"], found["scale"][1] - found["scale"][0]
    why, measured = found["uncalibrated"], ""
    if people["n"]:
        bias = people["bias"]
        side = "higher" if bias["value"] >= 0 else "lower"
        unit = "" if width == 1 else " points"
        measured = (
            f"; {_kappa(people, confidence)} with people's scores of {people['n']:,} answers, "
            f"{numbers.number(abs(bias['value']), 'score')}{unit} {side} on average"
            + ("" if why else ", which the ends of intervals allow for")
        )
    counted = f"; people's {people['scores']:,} scores stand in place of its own" if people["scores"] else ""
    strange = people["not_of_this_run"]
    left_out = f"; {strange:,} scores by people are of no answer in this run and left out" if strange else ""
    if people["scores"] == found["answers"]:
        head = "Nothing rests on it: every answer that could be judged has a person's score"
    else:
        head = f"Uncalibrated, so it decides no threshold: {why}" if why else "Calibrated"
    return f"{head}{measured}{counted}{left_out}."


def _kappa(found: Mapping[str, Any], confidence: float) -> str:
    kappa = found["kappa"]
    if kappa["value"] is None:
        return f"no kappa ({kappa['reason']})"
    value = numbers.number(kappa["value"], "score")
    ends = numbers.interval(kappa["value"], kappa["low"], kappa["high"], "score")
    return f"kappa {value} ({numbers.at_confidence(confidence, ends)})"


def _trouble(model: Mapping[str, Any], answers: int) -> list[str]:
    lines = []
    if model["unjudged"]:
        kinds = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in model["unjudged"].items())
        ids = model["unjudged_rows"]
        rows = ", ".join(ids[:IDS_SHOWN]) + (f" and {len(ids) - IDS_SHOWN:,} more" if len(ids) > IDS_SHOWN else "")
        lines.append(
            f"{model['name']} gave no score for {sum(model['unjudged'].values()):,} of {answers:,} answers ({kinds}; rows "
            f"{rows}): each end of an interval takes a score that is missing at its worst."
        )
    if model["rescued"]:
        lines.append(f"{model['name']}: {model['rescued']:,} scores were read by the lenient reader only.")
    return lines
