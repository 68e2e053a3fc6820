"""The rows that differ between two candidates of any two runs, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from evalft.diffing import Diff
from evalft.reporting.examples import Change, Columns, ShownRow, lines, shown_row
from evalft.scored_run import Side, read
from evalft.store import RunFolder

MAX_SHOWN = 50
"""Of a kind."""


def side(run: RunFolder, candidate: str) -> Side:
    """As diffing takes it; without slices where report.examples is none: their names are what rows hold."""
    found = read(run, candidate)
    if found.summary.get("report_examples") != "none":
        return found
    return replace(found, rows=found.rows.without_slices())


def changed_rows(base: tuple[RunFolder, str], new: tuple[RunFolder, str], diff: Diff) -> tuple[list[ShownRow], str]:
    """(broken rows, then fixed ones, as `base` has them; which they are of how many)."""
    folders = [folder for folder, _ in (base, new)]
    summaries = [folder.read_summary() for folder in folders]
    if any(summary.get("report_examples") == "none" for summary in summaries):
        return [], "Rows are not shown: report.examples is none."
    found = diff.comparison
    kinds: dict[str, Change] = dict.fromkeys(found.ids("broken")[:MAX_SHOWN], "broken")
    kinds |= dict.fromkeys(found.ids("fixed")[:MAX_SHOWN], "fixed")
    wanted = {row: diff.twins[row] for row in kinds}
    entries = [
        next(entry for entry in summary["candidates"] if entry["name"] == name)
        | {"name": f"{folder.path.name}: {name}"}
        for (folder, name), summary in zip((base, new), summaries, strict=True)
    ]
    columns = Columns(tuple(entries), True, found.row_metric, bool(summaries[0]["task"]["labels"]))
    ids = (set(wanted), set(wanted.values()))
    sides = list(zip((base, new), ids, strict=True))
    answers = [_by_id(folder.predictions_file(name), its) for (folder, name), its in sides]
    scores = [_by_id(folder.scores_file(name), its) for (folder, name), its in sides]
    rows = []
    for line in lines(folders[0].file("test")):
        if line["id"] in wanted:
            twins = (line["id"], wanted[line["id"]])
            answered, scored = (
                [by_id.get(one, []) for by_id, one in zip(of, twins, strict=True)] for of in (answers, scores)
            )
            rows.append(shown_row(columns, line, answered, scored, kinds[line["id"]]))
    shown = sorted(rows, key=lambda row: (row.change, row.number))  # broken, then fixed
    left_out = found.count("broken") + found.count("fixed") - len(shown)
    return shown, f"{left_out:,} more are not shown." if left_out else ""


def _by_id(path: Path, ids: set[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines(path):
        if line.get("id") in ids:
            found.setdefault(line["id"], []).append(line)
    return found
