"""What judges and people said of the answers on disk -> the words that are scored, and how far they can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from evalft.config import Config
from evalft.judging import agreement, pairwise, people, rubric
from evalft.judging.agreement import Agreement
from evalft.judging.people import PersonScore, Place
from evalft.judging.questions import (
    digest,
    is_pairwise,
    items,
    numbers,
    read_answers,
    scale,
    scale_of_people,
    section_of,
)
from evalft.judging.reading import Reading
from evalft.records import Example, Failure, Outcome, Prediction
from evalft.stats.interval import Interval, unbounded
from evalft.store import RunFolder


@dataclass(frozen=True)
class Judged:
    """What judges and people said of the answers on disk."""

    words: Mapping[str, Mapping[tuple[int, int], tuple[float | None, ...]]]
    """Per candidate, by (index, repeat): the scores of the answer, 0..1; None: that judge gave none."""
    owed: int
    """Questions that were never answered: the same command goes on with them."""
    stopped: int
    """Questions that a judge was not asked, because it stopped: failures for now, owed again by the next run."""
    why_not: str
    """Why the judge may not decide a threshold; empty where it may."""
    least_judged: float
    """The share of its answers that have a score, of the candidate with the least."""
    facts: Mapping[str, Any]
    """`judge` of summary.json."""
    by_judges: Mapping[Place, tuple[float | None, ...]]
    """The judges' own scores of each answer that they were asked about, 0..1."""
    by_people: Mapping[Place, float]
    """People's, 0..1."""
    bias: Interval | None
    """How much higher than people the judge scores, where it may decide."""

    def interval(self, found: Interval) -> Interval:
        """That of the metric, its ends moved out by as much as the judge may be too kind, or too strict: what people would
        have said of the answers that only judges scored is known no better than that."""
        if self.why_not:
            return replace(found, reason="; ".join(filter(None, (found.reason, "the judge is uncalibrated"))))
        bias, share = self.bias, 1 - len(self.by_people) / max(1, len(self.by_judges))
        if bias is None or not share or found.ends is unbounded:
            return found

        def ends(alpha: float) -> tuple[float, float]:
            (low, high), (strict, kind) = found.ends(alpha), bias.ends(alpha)
            return max(0.0, low - share * max(0.0, kind)), min(1.0, high - share * min(0.0, strict))

        return replace(found, ends=ends)


def collect(
    config: Config, rows: Sequence[Example], folder: RunFolder, given: Sequence[PersonScore] = ()
) -> Judged | None:
    """None where nothing is judged. Asks nothing. `given` are the scores of `judge.human`."""
    if config.judge is None:
        return None
    return _Collected(config, rows, folder, given).judged()


class _Collected:
    """The words of each judge on each answer, counted on the way."""

    def __init__(
        self, config: Config, rows: Sequence[Example], folder: RunFolder, given: Sequence[PersonScore]
    ) -> None:
        self.config, self.rows, self.section = config, rows, section_of(config)
        self.names = [judge.name for judge in self.section.model]
        answers = read_answers(config, folder)
        self.people, self.strange = people.placed([*given, *people.reviewed(folder)], answers)
        self.settled: dict[Place, tuple[float | None, ...]] = {}
        self.questions: dict[Place, list[bytes]] = {}
        for place, item in items(config, rows, answers):
            if isinstance(item, float):
                self.settled[place] = (item,)
            else:
                self.questions[place] = [digest(messages) for messages in item]
        part = RunFolder(folder.path / "parts" / "judge")
        on_disk = [{(one.index, one.repeat): one for one in part.read_predictions(name)} for name in self.names]
        self.replies = [self._by_question(of_judge) for of_judge in on_disk]
        self.cost_usd = [sum(reply.cost_usd or 0.0 for reply in of_judge.values()) for of_judge in on_disk]
        self.unjudged: list[Counter[str]] = [Counter() for _ in self.names]
        self.unjudged_rows: list[dict[str, None]] = [{} for _ in self.names]
        self.rescued = [0 for _ in self.names]
        self.both_orders = self.position_won = self.owed = self.stopped = 0

    def _by_question(self, replies: Mapping[tuple[int, int], Outcome]) -> dict[bytes, Outcome]:
        """One judge's reply to each question; one that answers it, where there are several."""
        found: dict[bytes, Outcome] = {}
        for place, questions in self.questions.items():
            for order, question in enumerate(questions):
                reply = replies.get(numbers(place, order, self.rows, self.config))
                if reply is not None and not isinstance(found.get(question), Prediction):
                    found[question] = reply
        return found

    def judged(self) -> Judged:
        judges = range(len(self.names))
        by_judges = {place: tuple(self._word(j, place) for j in judges) for place in self.questions}
        by_people = {place: self._share(score) for place, score in self.people.items() if place in by_judges}
        words: dict[str, dict[tuple[int, int], tuple[float | None, ...]]] = {}
        for place, given in {**by_judges, **self.settled}.items():
            words.setdefault(place[0], {})[place[1:]] = (by_people[place],) if place in by_people else given
        against = _agreement({place: _mean(by_judges[place]) for place in by_people}, by_people)
        least_judged, why_not = _least_judged(words), ""
        if len(by_people) < len(by_judges):  # where people scored everything, nothing rests on a judge
            why_not = agreement.why_uncalibrated(against, self.config.decide.confidence)
        return Judged(
            words,
            self.owed,
            self.stopped,
            f"the judge is uncalibrated: {why_not}" if why_not else "",
            least_judged=least_judged,
            facts=self._facts(against, by_judges, len(by_people), why_not) | {"least_judged": least_judged},
            by_judges=by_judges,
            by_people=by_people,
            bias=against.bias if against and not why_not else None,
        )

    def _word(self, judge: int, place: Place) -> float | None:
        """One judge's score of one answer, 0..1; why there is none is counted."""
        readings = []
        for question in self.questions[place]:
            reply = self.replies[judge].get(question)
            if reply is None:
                self.owed += 1
                return None
            if isinstance(reply, Failure):
                self.stopped += not (reply.tries or reply.cached)
                reading = Reading(None, failure=reply.failure)
            elif is_pairwise(self.config):
                reading = pairwise.read(reply.text or "")
            else:
                reading = rubric.read(reply.text or "", scale(self.section))
            if reading.value is None:
                self.unjudged[judge][reading.failure] += 1
                self.unjudged_rows[judge][self.rows[place[1]].id] = None
                return None
            readings.append(reading)
        self.rescued[judge] += any(reading.rescued for reading in readings)
        if not is_pairwise(self.config):
            return rubric.to_share(float(readings[0].value or 0), scale(self.section))
        self.both_orders += 1
        self.position_won += pairwise.by_position(*readings)
        return pairwise.preferred(*readings)

    def _share(self, score: float) -> float:
        low, high = scale_of_people(self.config)
        return (score - low) / (high - low)

    def _facts(
        self,
        against: Agreement | None,
        by_judges: Mapping[Place, tuple[float | None, ...]],
        by_people: int,
        why_not: str,
    ) -> dict[str, Any]:
        confidence = self.config.decide.confidence
        low, high = scale_of_people(self.config)
        each = [{place: words[j] for place, words in by_judges.items()} for j in range(len(self.names))]
        return {
            "models": [
                {
                    "name": name,
                    "unjudged": dict(sorted(self.unjudged[j].items())),
                    "unjudged_rows": list(self.unjudged_rows[j]),
                    "rescued": self.rescued[j],
                    "cost_usd": self.cost_usd[j],
                }
                for j, name in enumerate(self.names)
            ],
            "rubric": self.section.rubric,
            "scale": [low, high],
            "compared_with": self.config.candidates[0].name if is_pairwise(self.config) else None,
            "position_decided": {"pairs": self.both_orders, "by_position": self.position_won}
            if is_pairwise(self.config)
            else None,
            "answers": len(by_judges),
            "uncalibrated": why_not or None,
            "people": {
                "scores": by_people,
                "not_of_this_run": self.strange,
                **_agreement_data(against, confidence, high - low),
            },
            "between": [
                {"judges": [self.names[a], self.names[b]]}
                | _agreement_data(_agreement(each[a], each[b]), confidence, high - low)
                for a, b in combinations(range(len(self.names)), 2)
            ],
        }


def _agreement(x: Mapping[Place, float | None], y: Mapping[Place, float | None]) -> Agreement | None:
    """Over the answers that both scored; None where there are none."""
    both = [(place[1], one, other) for place, one in x.items() if one is not None and (other := y[place]) is not None]
    if not both:
        return None
    rows, ones, others = zip(*both, strict=True)
    return agreement.between(ones, others, rows)


def _least_judged(words: Mapping[str, Mapping[tuple[int, int], tuple[float | None, ...]]]) -> float:
    """The share of answers with a score, of the candidate with the least."""
    shares = [
        sum(any(word is not None for word in one) for one in of_candidate.values()) / len(of_candidate)
        for of_candidate in words.values()
    ]
    return min(shares, default=1.0)


def _agreement_data(found: Agreement | None, confidence: float, width: float) -> dict[str, Any]:
    """`bias` is in points of the scale."""
    if found is None:
        return {"n": 0, "kappa": None, "bias": None}
    kappa, bias = found.kappa.estimate(confidence), found.bias.estimate(confidence)
    return {
        "n": found.n,
        "kappa": {"value": kappa.value, "low": kappa.low, "high": kappa.high, "reason": kappa.reason},
        "bias": {
            side: None if end is None else end * width
            for side, end in (("value", bias.value), ("low", bias.low), ("high", bias.high))
        },
    }


def _mean(words: Sequence[float | None]) -> float | None:
    given = [word for word in words if word is not None]
    return sum(given) / len(given) if given else None
