"""A Gate in words: on the terminal, as markdown for a comment, as JSON. Every number from one formatter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from evalft import numbers
from evalft.gating import Gate, Judgement
from evalft.reporting import text

if TYPE_CHECKING:
    from rich.console import Console

HEADS = ("", "baseline", "run", "change", "tolerance", "p, Holm", "")
SYMBOLS = {"pass": "✓", "regression": "✗", "undecided": "?"}


def sentence(gate: Gate) -> str:
    bad = [one.name for one in (*gate.metrics, *gate.slices) if one.verdict == gate.verdict]
    if gate.verdict == "pass":
        return "Pass: no regression is shown, and one larger than the tolerance is ruled out."
    if gate.verdict == "regression":
        return f"Regression: {', '.join(bad)}."
    how = "the status is 4 (gate.undecided: fail)" if gate.status else "it counts as a pass (gate.undecided: pass)"
    return f"Undecided: these rows neither show a regression nor rule one out in {', '.join(bad)}; {how}."


def show(gate: Gate, console: Console) -> None:
    """Prints, readable at 80 columns. Names are others' text: nothing of theirs acts."""
    from rich.table import Table
    from rich.text import Text

    def plain(words: str, style: str = "") -> Text:
        words = text.printable(words)
        return Text(words.encode(console.encoding, "backslashreplace").decode(console.encoding), style=style)

    console.print(plain(f"baseline: {gate.baseline}"))
    console.print(plain(f"run:      {gate.run}"))
    console.print(plain(sentence(gate), "bold"))
    console.print()
    for what, judged in (("metric", gate.metrics), ("slice", gate.slices)):
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
    lines = [f"### {SYMBOLS[gate.verdict]} evalft gate", "", text.markdown(sentence(gate)), ""]
    judged = (*gate.metrics, *gate.slices)
    lines += ["| " + " | ".join(("metric or slice", *HEADS[1:])) + " |", "|---" * len(HEADS) + "|"]
    lines += ["| " + " | ".join(text.markdown(cell) for cell in cells(one)) + " |" for one in judged]
    return "\n".join([*lines, "", *(f"- {text.markdown(line)}" for line in facts(gate)), ""])


def as_json(gate: Gate) -> str:
    return json.dumps(asdict(gate), ensure_ascii=False)


def cells(one: Judgement) -> tuple[str, ...]:
    unit = numbers.unit_of(one.name)

    def value(number: float | None) -> str:
        return "" if number is None else numbers.usd(number) if unit == "usd" else numbers.number(number, "score")

    change = (
        "" if one.change is None else f"{one.change:+.3f} ({numbers.interval(one.change, one.low, one.high, 'score')})"
    )
    # a slice can only regress: that it has not is not shown by its few rows
    only_regresses = one.tolerance is None and one.change is not None and one.verdict == "pass"
    return (
        one.name,
        value(one.before),
        value(one.after),
        change,
        "" if one.tolerance is None else numbers.number(one.tolerance, "score"),
        "" if one.change is None else numbers.probability(one.p_regression),
        "none shown" if only_regresses else f"{SYMBOLS[one.verdict]} {one.verdict}",
    )


def facts(gate: Gate) -> Sequence[str]:
    """What was compared, what changed, what is to be known beside."""
    below = f"-{gate.margin:g}" if gate.margin else "0"
    lines = [
        f"{gate.matched:,} rows matched by content; positive is better; a regression is a change shown to be below {below} "
        f"(gate.margin) at {numbers.confidence(gate.confidence)}"
    ]
    if gate.only_baseline:
        lines.append(f"{gate.only_baseline:,} rows of the baseline are not in the run")
    if gate.only_run:
        shown = ", ".join(gate.only_run[:5]) + (" ..." if len(gate.only_run) > 5 else "")
        lines.append(f"{len(gate.only_run):,} rows of the run are not in the baseline and are not judged: {shown}")
    lines += [f"changed: {line}" for line in gate.changed] or ["the candidate's settings are the baseline's"]
    lines += [f"{one.name}: {one.reason}" for one in (*gate.metrics, *gate.slices) if one.reason]
    return [*lines, *gate.notes]
