"""`slices` of summary.json: the row metric by slice, worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalft.metrics.names import lower_is_better
from evalft.reporting.candidates import ends_of, estimate_of


@dataclass(frozen=True, slots=True)
class Sliced:
    metric: str
    leading: str
    """The candidate by which slices are sorted, its worst first."""
    rows: tuple[Mapping[str, Any], ...]
    """slice, candidate, rows, value, low, high"""
    note: str
    """Which slices are left out; empty where none is."""


def by_slice(summary: Mapping[str, Any]) -> Sliced | None:
    """None where no slice has enough rows."""
    entries = [entry for entry in summary["candidates"] if (entry.get("slices") or {}).get("rows")]
    if not entries:
        return None
    rows = []
    for entry in entries:
        for one in entry["slices"]["rows"]:
            value, low, high = ends_of(one["score"])
            named = {"slice": f"{one['column']}: {one['value']}", "candidate": entry["name"], "rows": one["score"]["n"]}
            rows.append(named | {"value": value, "low": low, "high": high})
    leading = _leading(summary)
    worst = {row["slice"]: row["value"] for row in rows if row["candidate"] == leading}
    rows.sort(key=lambda row: (worst.get(row["slice"], math.inf), row["slice"]))
    found = entries[0]["slices"]
    left_out = [f"{found['small']:,} with under 10 rows ({found['small_rows']:,} rows)"] if found["small"] else []
    left_out += [f"{found['more']:,} with fewer rows than those shown"] if found["more"] else []
    note = f"Slices not shown: {'; '.join(left_out)}." if left_out else ""
    return Sliced(found["metric"], leading, tuple(rows), note)


def _leading(summary: Mapping[str, Any]) -> str:
    """The candidate that matters most: the verdict's, else the one that is best by the primary metric."""
    chosen = (summary["verdict"] or {}).get("candidate")
    if any(entry["name"] == chosen for entry in summary["candidates"]):
        return str(chosen)
    metric = next(iter(summary["task"]["metrics"]), "")
    sign = -1.0 if lower_is_better(metric) else 1.0

    def quality(entry: Mapping[str, Any]) -> float:
        value = ends_of(estimate_of(entry, metric))[0]
        return -math.inf if value is None else sign * value

    return str(max(summary["candidates"], key=quality)["name"])
