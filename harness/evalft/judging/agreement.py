"""How well two raters of the same answers agree: quadratically weighted kappa, and who scores higher.

Cohen (1968), "Weighted kappa", Psychological Bulletin 70; with quadratic weights it is 1 - E(x - y)^2 over what that
would be if the raters were independent, which needs no rounding of the mean of several judges to a category. On whole
scores it equals scikit-learn's `cohen_kappa_score(weights="quadratic")` (tested); written as moments it is a statistic of
weighted rows like every metric here, so its interval is the same seeded BCa bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalft.stats import bootstrap
from evalft.stats.bootstrap import Floats
from evalft.stats.interval import Interval

LABELS_NEEDED = 50
"""Answers scored by people, under which a judge is not held to be measured at all."""


@dataclass(frozen=True)
class Agreement:
    """Of rater x with rater y, over the answers both scored (0..1)."""

    kappa: Interval
    """1: the same scores; 0: no better than chance."""
    bias: Interval
    """The mean of x - y, in the units of the scores."""

    @property
    def n(self) -> int:
        return self.kappa.n


def between(x: Sequence[float], y: Sequence[float], groups: Sequence[int], *, seed: int = 0) -> Agreement:
    """groups (n,): the row that each answer is to; several answers to one row are not independent."""
    pairs, cells = np.unique(np.column_stack([x, y]).reshape(-1, 2), axis=0, return_inverse=True)
    several = np.asarray(groups) if len(set(groups)) < len(groups) else None

    def kappa(weights: Floats) -> Floats:
        share = weights / weights.sum(axis=1, keepdims=True)
        one, other = pairs[:, 0], pairs[:, 1]
        observed = share @ (one - other) ** 2
        expected = share @ one**2 + share @ other**2 - 2 * (share @ one) * (share @ other)
        defined = expected > 1e-12  # both raters gave one and the same score throughout: nothing to agree on
        found = 1 - observed / np.where(defined, expected, 1.0)
        return np.where(defined, np.round(found, 12), np.nan)  # 0 is 0, in whatever order the sums are taken

    return Agreement(
        bootstrap.weighted(kappa, cells.reshape(-1), bounds=(-1.0, 1.0), groups=several, seed=seed),
        bootstrap.mean(np.asarray(x) - np.asarray(y), bounds=(-1.0, 1.0), groups=several, seed=seed),
    )


def why_uncalibrated(found: Agreement | None, confidence: float) -> str:
    """Why a judge's word may not decide a threshold; empty where it may: enough answers scored by people, and agreement
    with them shown to be better than chance."""
    n = found.n if found else 0
    if found is None or n < LABELS_NEEDED:
        return f"people scored {n} of the answers it scored, {LABELS_NEEDED} are needed (`evalft review RUN`)"
    low, _ = found.kappa.ends((1 - confidence) / 2)
    if found.kappa.value is None or not low > 0:
        return "its agreement with people is not shown to be better than chance"
    return ""
