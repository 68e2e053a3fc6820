"""A run folder -> the verdict and a table per candidate on the terminal, readable at 80 columns.

Text from others is stripped of terminal escapes (`text.printable`) and never read as rich markup.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evalft.reporting import text, view
from evalft.reporting.candidates import tagged

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}


def show(run: Path, console: Console) -> None:
    """Prints; raises UserError where the folder has no readable summary."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    def plain(words: str, style: str = "") -> Text:
        words = text.printable(words)
        return Text(words.encode(console.encoding, "backslashreplace").decode(console.encoding), style=style)

    def status(word: str | None) -> Text:
        symbol = view.SYMBOLS[word].encode(console.encoding, "ignore").decode(console.encoding) if word else ""
        return Text(f"{symbol} {word}".strip(), style=COLOURS[word]) if word else Text()

    def item(words: str, style: str = "") -> None:
        console.print(Padding(plain(f"- {words}", style), (0, 0, 0, 2), expand=False))

    found = view.read(run, rows=False)
    for line in found.banner:
        console.print(plain(line, "bold yellow"))
    if found.waiting:
        console.print(plain(found.waiting.sentence, "bold yellow"))
        for command in found.waiting.commands:  # whole, to be copied: the terminal wraps it
            console.print(plain(command), soft_wrap=True)
    console.print(plain(f"Verdict: {(found.verdict.action or 'none').replace('_', ' ')}", "bold"))
    console.print(plain(found.verdict.tagged_sentence))
    for reason in found.verdict.reasons:
        item(reason)
    if found.verdict.flips_if:
        console.print("What would change it:")
        for line in found.verdict.flips_if:
            item(line)
    if found.story or found.diffs:
        console.print()
        console.print(plain("Before and after", "bold"))
        for name, sentence in (*found.story, *(("Change", diff.sentence) for diff in found.diffs)):
            item(f"{name}: {sentence}")
    elif found.expansion and found.expansion.sentence:
        console.print()
        console.print(plain(f"Training data: {found.expansion.sentence}"))
    for candidate in found.candidates:
        title = plain(tagged(candidate.name, candidate.tags), "bold")
        console.print()
        console.print(Text.assemble(title, "  ", status(candidate.status)))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("", min_width=26, overflow="fold")
        table.add_column("value", min_width=12, justify="right", no_wrap=True)
        table.add_column(f"{found.confidence} interval", min_width=27, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for measure in (*candidate.headline, candidate.cost, *candidate.latency):
            table.add_row(
                plain(f"  {measure.name} {measure.require}".rstrip()),
                plain(measure.value),
                plain(measure.interval),
                status(measure.status),
            )
        console.print(table)
        failures = ", ".join(f"{kind} {rows:,}" for kind, rows, _, _ in candidate.failures)
        scored = [f"  scored {candidate.coverage} ({candidate.coverage_percent})"]
        absent = f" ({candidate.absent:,} of them not in the file of answers)" if candidate.absent else ""
        scored += [f"failures: {failures}{absent}"] if failures else []
        scored += [f"{candidate.rescued:,} read leniently"] if candidate.rescued else []
        console.print(plain("; ".join(scored)))
        if candidate.cached:
            console.print(plain(f"  {candidate.cached}"))
    if found.judge:
        console.print()
        for line in found.judge:
            console.print(plain(f"Judge: {line}"))
    console.print()
    console.print(plain("Spent in this run folder: " + ", ".join(f"{name} {value}" for name, value in found.spent)))
    for line in found.notes:
        console.print(plain(f"Assumed: {line}"))
    for line in found.warnings:
        console.print(plain(f"Warning: {line}", "yellow"))
