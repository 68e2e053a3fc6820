"""What a decision rests on: one Evidence per candidate, and the Setting they share.

All of it is measured or estimated elsewhere and handed in, so that the same decision can be made again from stored
scores, under other thresholds, prices or volumes, without a model or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalft.config import DecideConfig, Threshold
from evalft.records import Role
from evalft.stats.interval import Interval

COST = "cost_per_query"
LATENCY_QUANTILES = {"latency_p50": 0.5, "latency_p95": 0.95}
"""Threshold names that are latencies, and which quantile (in s) each one is."""

LOWER_IS_BETTER = frozenset({COST, *LATENCY_QUANTILES, "brier", "ece", "hamming"})

Resample = Callable[[NDArray[np.intp]], Mapping[str, float]]
"""Row numbers (m,), each 0 <= row < n, repeats allowed -> value per metric over those rows; nan where undefined."""


@dataclass(frozen=True)
class Obstacle:
    """Something other than too few test rows that keeps a threshold undecided: more of them do not mend it."""

    why: str
    sentence: str
    """The same, with whom it concerns."""
    remedy: str
    """What would mend it."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured of one candidate on the n test rows."""

    name: str
    model: str
    role: Role
    intervals: Mapping[str, Interval]
    """Per metric, and for cost_per_query (USD), latency_p50 and latency_p95 (s)."""
    n: int
    resample: Resample
    """Answers for the metrics of the thresholds; what it leaves out (cost, latency) is taken to stay as observed."""
    cannot_pass: Mapping[str, str] = field(default_factory=dict)
    """Metric -> reason: a macro metric while a class has under 10 rows."""
    smallest_class: int | None = None
    """Rows of the rarest class; more rows of it lift `cannot_pass`."""
    obstacles: Mapping[str, Obstacle] = field(default_factory=dict)
    """Metric -> what keeps its threshold undecided, whatever its interval."""
    trainable: bool = False
    """An `hf:` causal model, which can be the base of a training."""
    stand_in: bool = False
    """A local stand-in for a closed API."""
    scores: NDArray[np.float64] | None = None
    """Row scores (n,), higher is better: the primary metric's, or of `scores_of` where rows have none of it."""
    scores_of: str = ""
    """The metric that `scores` are of; empty: the primary one."""

    @property
    def cost_usd(self) -> float | None:
        interval = self.intervals.get(COST)
        return None if interval is None else interval.value

    @property
    def label(self) -> str:
        """The name as a reader sees it."""
        return f"{self.name} (stand-in for a closed API)" if self.stand_in else self.name


@dataclass(frozen=True)
class TrainingPlan:
    """What training would take, estimated before anything is spent."""

    base: str | None
    """Model spec of what would be trained, e.g. `hf:Qwen/Qwen3-0.6B`; None: there is nothing to train."""
    hours: float
    usd: float
    """The training runs themselves."""
    data_usd: float
    """Making the training rows."""
    evaluation_usd: float
    """Scoring the stages and the tuned candidate."""
    memory_gb: float
    fits: bool
    """Time, memory and dollars are within `limits`."""
    why_not: tuple[str, ...] = ()
    """Each limit that it does not fit, with both numbers."""
    assumptions: tuple[str, ...] = ()
    cost_per_query_after_usd: float | None = None
    """Of the tuned model; None: taken to be that of its base, where the base is a candidate."""

    @property
    def one_off_usd(self) -> float:
        return self.usd + self.data_usd + self.evaluation_usd


@dataclass(frozen=True, eq=False)
class Setting:
    """What the candidates share: what is required, what is at stake, what training could use."""

    thresholds: tuple[Threshold, ...]
    """At most one per metric."""
    decide: DecideConfig
    primary: str
    groups: NDArray[np.intp] | None = None
    """Group of each test row (n,)."""
    training: TrainingPlan | None = None
    train_rows: int = 0
    """Rows there are."""
    train_rows_possible: int = 0
    """Rows that can be made on top of those (generated, or half of a lone test file)."""
    tried: str = ""
    """What a training in this run came to, as a sentence; empty before any. It is not advised a second time."""
    lone_file: bool = False
    """There is no train file: the rows that can be made include half of the test file."""
    seed: int = 0

    @property
    def alpha(self) -> float:
        """The error of each side of the two-sided interval at `confidence`."""
        return (1 - self.decide.confidence) / 2
