"""A Gate in words: on the terminal, as markdown for a comment, as JSON. Every number from one formatter."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from evalft import errors, numbers
from evalft.gate_judgement import Judgement
from evalft.gating import Gate
from evalft.reporting import text

if TYPE_CHECKING:
    from rich.console import Console

HEADS = ("", "baseline", "run", "change", "tolerance", "p, Holm", "")
SYMBOLS = {"pass": "✓", "regression": "✗", "undecided": "?"}
SLICES_IN_COMMENT = 50
"""A comment of GitHub's holds 65,536 characters."""
NOT_JUDGED = "not judged"
LONGEST_NAME = 100
_CALLS = re.compile(r"\\([@#])(?=\w)")


def sentence(gate: Gate) -> str:
    if gate.status == errors.COVERAGE:
        return "No pass: fewer rows could be scored than limits.min_coverage asks for."
    bad = [_short(one.name) for one in (*gate.metrics, *gate.slices) if one.verdict == gate.verdict]
    if gate.verdict == "pass":
        return "Pass: no regression is shown, and one larger than the tolerance is ruled out."
    if gate.verdict == "regression":
        return f"Regression: {', '.join(bad)}."
    how = "the status is 4 (gate.undecided: fail)" if gate.status else "it counts as a pass (gate.undecided: pass)"
    return f"Undecided: these rows neither show a regression nor rule one out in {', '.join(bad)}; {how}."


def finding(gate: Gate, one: Judgement) -> str:
    """What was found of one metric or slice, in a sentence."""
    unit = numbers.unit_of(one.name)
    went = f"{_short(one.name)}: {numbers.number(one.before, unit)} in the baseline, {numbers.number(one.after, unit)} in the run"
    if one.change is None:
        return "; ".join(filter(None, (went if one.before is not None else _short(one.name), one.verdict, one.reason)))
    ends = numbers.at_confidence(gate.confidence, numbers.interval(one.change, one.low, one.high, unit))
    change = f"{went}, a change of {_signed(one.change, unit)} ({ends})"
    if unit != "score":
        what = str(one.verdict)
    elif one.verdict == "regression":
        what = f"shown to be below {_margin(gate)} (gate.margin; p {numbers.probability(one.p_regression)}, Holm)"
    elif one.verdict == "undecided":
        tolerance = "" if one.tolerance is None else f" -{numbers.number(one.tolerance, 'score')}"
        what = f"neither shown to be a regression nor to be above the tolerance{tolerance} (gate.tolerance)"
    else:
        what = "no regression is shown"
    return f"{change}, {what}" + (f"; {one.reason}" if one.reason else "")


def show(gate: Gate, console: Console) -> None:
    """Prints, readable at 80 columns. Names are others' text: nothing of theirs acts."""
    from rich.table import Table
    from rich.text import Text

    def plain(words: str, style: str = "") -> Text:
        words = text.one_line(text.printable(words))
        return Text(words.encode(console.encoding, "backslashreplace").decode(console.encoding), style=style)

    console.print(plain(f"baseline: {gate.baseline}"))
    console.print(plain(f"run:      {gate.run}"))
    console.print(plain(sentence(gate), "bold"))
    console.print()
    for what, judged in (("metric", gate.metrics), ("slice", gate.slices), (NOT_JUDGED, gate.beside)):
        if judged:
            table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
            table.add_column(what, overflow="fold")
            for head in HEADS[1:]:
                table.add_column(head, justify="right")
            for one in judged:
                table.add_row(*(plain(cell) for cell in cells(one)))
            console.print(table)
            console.print()
    for line in facts(gate):
        console.print(plain(line))


def markdown(gate: Gate) -> str:
    """For a comment of a pull request, or the summary of a step."""
    symbol = SYMBOLS["regression" if gate.status == errors.COVERAGE else gate.verdict]
    lines = [f"### {symbol} evalft gate", "", text.markdown(sentence(gate)), ""]
    worst_first = sorted(gate.slices, key=lambda one: one.p_regression)
    shown = (*gate.metrics, *worst_first[:SLICES_IN_COMMENT], *gate.beside)
    lines += ["| " + " | ".join(("metric or slice", *HEADS[1:])) + " |", "|---" * len(HEADS) + "|"]
    lines += ["| " + " | ".join(text.markdown(cell) for cell in cells(one)) + " |" for one in shown]
    more = len(gate.slices) - SLICES_IN_COMMENT
    left = [f"{more:,} more slices with larger p are not listed"] if more > 0 else []
    lines += ["", *(f"- {text.markdown(line)}" for line in (*left, *facts(gate))), ""]
    # a backslash keeps @ and # as they are, and GitHub then calls whom they name all the same: a word joiner does not
    return _CALLS.sub("\\g<1>\u2060", "\n".join(lines))


def as_json(gate: Gate) -> str:
    return json.dumps(asdict(gate), ensure_ascii=False)


def cells(one: Judgement) -> tuple[str, ...]:
    unit = numbers.unit_of(one.name)

    def value(number: float | None) -> str:
        return "" if number is None else numbers.number(number, unit)

    change = (
        ""
        if one.change is None
        else f"{_signed(one.change, unit)} ({numbers.interval(one.change, one.low, one.high, unit)})"
    )
    # a slice can only regress: that it has not is not shown by its few rows
    only_regresses = unit == "score" and one.tolerance is None and one.change is not None and one.verdict == "pass"
    is_tested = one.verdict is not None and one.change is not None and (unit == "score" or one.p_regression < 1)
    return (
        _short(one.name),
        value(one.before),
        value(one.after),
        change,
        "" if one.tolerance is None else numbers.number(one.tolerance, "score"),
        numbers.probability(one.p_regression) if is_tested else "",
        NOT_JUDGED
        if one.verdict is None
        else "none shown"
        if only_regresses
        else f"{SYMBOLS[one.verdict]} {one.verdict}",
    )


def facts(gate: Gate) -> Sequence[str]:
    """What was compared, what changed, what is to be known beside."""
    lines = [
        f"{gate.matched:,} rows matched by content; positive is better (of a cost: dearer); a regression is a change shown to be below {_margin(gate)} "
        f"(gate.margin) at {numbers.confidence(gate.confidence)}: p is of that side alone, and at most "
        f"{(1 - gate.confidence) / 2:.3g} shows one"
    ]
    if gate.only_baseline:
        lines.append(f"{gate.only_baseline:,} rows of the baseline are not in the run")
    if gate.only_run:
        shown = ", ".join(gate.only_run[:5]) + (" ..." if len(gate.only_run) > 5 else "")
        lines.append(f"{len(gate.only_run):,} rows of the run are not in the baseline and are not judged: {shown}")
    lines += [f"changed: {line}" for line in gate.changed] or ["the candidate's settings are the baseline's"]
    lines += [f"{_short(one.name)}: {one.reason}" for one in (*gate.metrics, *gate.slices) if one.reason]
    return [*lines, *gate.notes]


def _margin(gate: Gate) -> str:
    return f"-{gate.margin:g}" if gate.margin else "0"


def _signed(change: float, unit: numbers.Unit) -> str:
    return f"{change:+.3f}" if unit == "score" else ("+" if change > 0 else "") + numbers.number(change, unit)


def _short(name: str) -> str:
    """A slice is called by a value of the user's rows, which may be long."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
