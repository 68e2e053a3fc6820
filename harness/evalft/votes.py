"""The answers to each row of a task of labels -> what they come to, as arrays: all that metrics of labels are made from.

Where a row has several answers (`samples`), those that could be read vote for the label (ties: the first in the task's
order) and their shares are the probabilities, where the answers bring none of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalft.metrics import labels as label_metrics
from evalft.metrics import probability
from evalft.metrics.labels import LabelArrays
from evalft.metrics.measure import Bools, Ints
from evalft.metrics.probability import Given
from evalft.records import Outcome, Prediction, ProbsMethod, TaskType


@dataclass(frozen=True)
class Vote:
    """What a candidate's answers to one example come to; None where none can be read (strictly)."""

    labels: tuple[str, ...] | None
    strict: tuple[str, ...] | None
    probs: Mapping[str, float] | None = None
    method: ProbsMethod | None = None
    unseen: float | None = None


def vote(several: Sequence[Outcome], labels: Sequence[str], task_type: TaskType) -> Vote:
    read = [one for one in several if isinstance(one, Prediction)]
    strict = [one for one in read if not one.rescued]
    if len(several) == 1:
        (one,) = read or (None,)
        if one is None:
            return Vote(None, None)
        said = one.labels or ()
        return Vote(said, None if one.rescued else said, one.probs, one.probs_method, one.unseen_mass)
    if not read:
        return Vote(None, None)
    shares = _shares(read, labels)
    elected = _elected(shares, task_type)
    strictly = _elected(_shares(strict, labels), task_type) if strict else None
    if len({one.probs_method for one in read}) == 1 and all(one.probs for one in read):  # better than counting votes
        probs = {label: _mean(one.probs.get(label, 0.0) for one in read if one.probs) for label in labels}
        return Vote(elected, strictly, probs, read[0].probs_method, _mean(one.unseen_mass or 0.0 for one in read))
    return Vote(elected, strictly, shares, "vote")


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _shares(read: Sequence[Prediction], labels: Sequence[str]) -> dict[str, float]:
    votes = Counter(label for one in read for label in set(one.labels or ()))
    return {label: votes[label] / len(read) for label in labels}


def _elected(shares: Mapping[str, float], task_type: TaskType) -> tuple[str, ...]:
    if task_type == "multilabel":
        return tuple(label for label, share in shares.items() if share > 0.5)
    winner = max(shares, key=shares.__getitem__)  # the first of equals
    return (winner,) if shares[winner] > 0 else ()


@dataclass(frozen=True)
class Votes:
    """Of n rows, over M labels."""

    rows: LabelArrays
    strictly_right: Bools
    """(n,) right by what the strict parser understood."""
    given: Given

    def at(self, rows: Ints) -> Votes:
        """Of these rows (m,), in their order."""
        return Votes(self.rows.at(rows), self.strictly_right[rows], self.given.at(rows))

    def ordered_as(self, labels: Sequence[str]) -> Votes:
        """The same with the labels in another order."""
        if self.rows.labels == tuple(labels):
            return self
        order = [self.rows.labels.index(label) for label in labels]
        rows, table = self.rows, self.given.table
        rows = replace(rows, labels=tuple(labels), target=rows.target[:, order], predicted=rows.predicted[:, order])
        return replace(self, rows=rows, given=replace(self.given, table=None if table is None else table[:, order]))


class Gathering:
    """Votes in the making, row by row in a few bytes each."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._rows, self._given = label_metrics.Gathering(labels), probability.Gathering(labels)
        self._strictly_right = bytearray()

    def append(self, wanted: Sequence[str], vote: Vote) -> None:
        self._rows.append(wanted, vote.labels)
        self._given.append(vote.probs, vote.method, vote.unseen)
        self._strictly_right.append(vote.strict is not None and set(vote.strict) == set(wanted))

    def votes(self) -> Votes:
        return Votes(self._rows.arrays(), np.array(self._strictly_right, dtype=bool), self._given.given())
