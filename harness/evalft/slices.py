"""A candidate's row scores by slice: each value of each slice column, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalft.records import Example
from evalft.stats import bootstrap
from evalft.stats.interval import Interval
from evalft.stats.proportion import proportion

LEAST_ROWS = 10
"""A slice with fewer shows nothing of its own."""
MOST = 20
"""Slices of one column; of more, those with the most rows."""


@dataclass(frozen=True)
class Slice:
    column: str
    value: str
    score: Interval


@dataclass(frozen=True)
class Slices:
    found: tuple[Slice, ...]
    """In the order of the test set: the same slices for every candidate."""
    small: int
    """How many slices have under LEAST_ROWS rows."""
    small_rows: int
    more: int
    """How many others were left out, having fewer rows than the MOST largest of their column."""


def by_slice(
    examples: Sequence[Example],
    scores: NDArray[np.float64],
    bounds: tuple[float, float] | None,
    groups: NDArray[np.int_] | None,
) -> Slices:
    """scores: (n,) of the rows; bounds: the least and largest that a score can be; groups: (n,) of rows that are not
    independent."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        for column, value in example.slices.items():
            rows[column, value].append(row)
    small = {name for name, members in rows.items() if len(members) < LEAST_ROWS}
    kept: list[tuple[str, str]] = []
    for column in dict.fromkeys(column for column, _ in rows):
        large = [name for name in rows if name[0] == column and name not in small]
        largest = sorted(large, key=lambda name: -len(rows[name]))[:MOST]
        kept += [name for name in large if name in largest]
    found = []
    for column, value in kept:
        members = rows[column, value]
        apart = None if groups is None else groups[members]
        found.append(Slice(column, value, _interval(scores[members], bounds, apart)))
    return Slices(
        found=tuple(found),
        small=len(small),
        small_rows=sum(len(rows[name]) for name in small),
        more=len(rows) - len(small) - len(kept),
    )


def _interval(
    scores: NDArray[np.float64], bounds: tuple[float, float] | None, groups: NDArray[np.int_] | None
) -> Interval:
    if np.isin(scores, (0.0, 1.0)).all():
        return proportion(scores == 1, groups)
    return bootstrap.mean(scores, bounds=bounds, groups=groups)
