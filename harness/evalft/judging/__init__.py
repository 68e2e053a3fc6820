"""The metric `judge`: models that score answers, and how far they can be trusted.

    check(config, rows)      what is wrong with the section, before anything is spent
    trials(...), ask(...)    jobs for asking.py: each judge about every answer on disk, under the same cap, cache and kill rules
    collect(...)             what is on disk -> the words on each candidate's answers, people's in place of a judge's where
                             there are any, and the facts: agreement, what is unjudged, what it cost

An answer is scored by every judge; a failed prediction scores lowest without being asked about; a judge that fails, or
says nothing that can be read, leaves that answer without its word, which is no failure of the candidate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from evalft import asking, planning
from evalft.asking import Job
from evalft.config import CandidateConfig, Config, JudgeConfig, MetricSpec, TaskConfig
from evalft.errors import UserError
from evalft.judging import agreement, pairwise, people, rubric
from evalft.judging.agreement import Agreement
from evalft.judging.people import PersonScore, Place
from evalft.prices import HourPrice, TokenPrice, hour_price, token_price
from evalft.progress import Progress
from evalft.prompts import Request
from evalft.records import Example, Failure, Message, Outcome, Prediction
from evalft.store import RunFolder

MAX_TOKENS = 512
"""Of a judge's reply: two sentences and a score, with room to spare; reasoning models have their own default."""
REPLY_TOKENS = 60
"""Of a judge's reply, as the estimate of the cost assumes it."""
PREFERENCE_SCALE = (0.0, 1.0)
"""What people write where answers are compared: 1 this one is better, 0 the other, 0.5 neither."""

Answers = Mapping[str, Mapping[tuple[int, int], Outcome]]
"""Per candidate, by (index of the row, repeat)."""


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


# ---------------------------------------------------------------- before anything is spent


def check(config: Config) -> list[str]:
    """Choices made, in plain lines. Raises UserError where a price, the scale of a threshold or people's scores are wrong."""
    section = config.judge
    if section is None:
        return []
    for judge in section.model:
        _price(judge, config)
    bound = next((one.bound for one in config.parsed_thresholds if one.metric == "judge"), 0.0)
    low, high = section.scale
    if bound > 1 and low <= bound <= high and not is_pairwise(config):
        share = rubric.to_share(bound, (low, high))
        raise UserError(
            f"thresholds: judge: {bound:g} of a scale from {low} to {high} is written {share:.4g}: judge runs from 0 to 1"
        )
    if section.human is not None and not given_scores(config):
        raise UserError(f"{section.human}: judge.human: no row has a score yet")
    names = ", ".join(judge.name for judge in section.model)
    by = "each answer against the first candidate's" if is_pairwise(config) else f"scores from {low} to {high}"
    said = [f"judge: {names}: {by}" + ("" if section.rubric else ", by evalft's default rubric (judge.rubric)")]
    own = sorted({judge.model for judge in section.model} & {candidate.model for candidate in config.candidates})
    if own:
        said.append(f"judge: {', '.join(own)} is a candidate too; models tend to prefer their own answers")
    return said


def is_pairwise(config: Config) -> bool:
    return any(spec.name == "judge" and spec.options.get("pairwise") for spec in config.task.metrics or ())


def scale_of_people(config: Config) -> tuple[float, float]:
    low, high = _section(config).scale
    return PREFERENCE_SCALE if is_pairwise(config) else (float(low), float(high))


def given_scores(config: Config) -> list[PersonScore]:
    """The scores of `judge.human`. Raises UserError with every bad row."""
    if config.judge is None or config.judge.human is None:
        return []
    return people.read(config.judge.human, scale_of_people(config), [one.name for one in config.candidates])[0]


def keep_given(config: Config, folder: RunFolder) -> None:
    """people.jsonl of the run folder: the rows of `judge.human`, so that the folder can be moved."""
    if config.judge is not None and config.judge.human is not None:
        names = [one.name for one in config.candidates]
        folder.write_lines("people", people.read(config.judge.human, scale_of_people(config), names)[1])


def plans(config: Config, rows: Sequence[Example]) -> list[planning.CandidatePlan]:
    """What judging will take, as if every answer were its row's target; one plan per judge."""
    if config.judge is None:
        return []
    answers = {
        candidate.name: {
            (index, repeat): Prediction(row.id, index, repeat, f"{row.target}{' ' * (number > 0)}", None)
            for index, row in enumerate(rows)
            for repeat in range(candidate.samples)
        }
        for number, candidate in enumerate(config.candidates)  # a space apart: equal answers are not compared
    }
    requests = list(_questions(config, rows, answers))
    tokens = sum(planning.estimated_tokens(turn["content"]) + 4 for each in requests for turn in each.messages)
    found = []
    for judge in config.judge.model:
        price, most = _price(judge, config), _max_tokens(judge)
        reply = most // 4 if planning.is_reasoning(judge) else REPLY_TOKENS
        usd = worst = 0.0
        if isinstance(price, TokenPrice):
            usd = (tokens * price.input + reply * len(requests) * price.output) / 1e6
            worst = (planning.BYTES_PER_TOKEN * tokens * price.input + most * len(requests) * price.output) / 1e6
        remote = judge.provider not in ("hf", "fake")
        minutes = len(requests) * planning.SECONDS_PER_ANSWER / config.limits.concurrency / 60 if remote else None
        said = f"judges answers as long as the targets; {reply} tokens a reply"
        found.append(
            planning.CandidatePlan(
                f"judge {judge.name}", len(requests), tokens, reply * len(requests), most, usd, worst, minutes, None,
                price, said,
            )
        )  # fmt: skip
    return found


# ---------------------------------------------------------------- asking


def trials(config: Config, rows: Sequence[Example], folder: RunFolder) -> list[Job]:
    """One real question to each judge over a network, to be asked before any candidate: a judge that cannot start ends
    the command before answers are paid for that nothing could score. It judges the first row's own target."""
    if config.judge is None or folder.manifest().get("judged"):
        return []
    gold = Prediction(rows[0].id, 0, 0, str(rows[0].target), None)
    other = Prediction(rows[0].id, 0, 0, "?", None)
    asked = _item(config, rows[0], gold, other if is_pairwise(config) else None)
    if isinstance(asked, float):
        return []
    request = Request(rows[0].id, 0, 0, asked[0])
    return [
        _job(judge, [request], config, folder.part("judge/trial"), f"judge {judge.name}, trial")
        for judge in config.judge.model
        if judge.provider not in ("hf", "fake")
    ]


def ask(config: Config, rows: Sequence[Example], folder: RunFolder, *, fresh: bool, progress: Progress) -> None:
    """Ask every judge about every answer on disk. Raises Unfinished, CannotStart."""
    if config.judge is None:
        return
    requests = list(_questions(config, rows, read_answers(config, folder)))
    for judge in config.judge.model:  # one after the other: a local judge has the machine's memory to itself
        job = _job(judge, requests, config, folder.part("judge"), f"judge {judge.name}")
        asking.ask([job], config, folder, fresh=fresh, progress=progress)
    folder.update_manifest(judged=True)


def read_answers(config: Config, folder: RunFolder) -> dict[str, dict[tuple[int, int], Outcome]]:
    return {
        candidate.name: {(one.index, one.repeat): one for one in folder.read_predictions(candidate.name)}
        for candidate in config.candidates
    }


def _job(judge: CandidateConfig, requests: Sequence[Request], config: Config, part: RunFolder, title: str) -> Job:
    price = _price(judge, config)
    return Job(judge, requests, None, price, _max_tokens(judge), part, _as_text_task(config.task), title)


def _as_text_task(task: TaskConfig) -> TaskConfig:
    return task.model_copy(
        update={"type": "generation", "labels": None, "positive": None, "metrics": [MetricSpec(name="exact_match")]}
    )


def _max_tokens(judge: CandidateConfig) -> int:
    if judge.max_tokens is not None:
        return judge.max_tokens
    return planning.REASONING_MAX_TOKENS if planning.is_reasoning(judge) else MAX_TOKENS


def _price(judge: CandidateConfig, config: Config) -> TokenPrice | HourPrice | None:
    """Its own, else that of a candidate with the same model, else the table's."""
    if judge.provider == "fake":
        return None
    same = next((one for one in config.candidates if one.model == judge.model and one.price), None)
    priced = judge if judge.price or same is None else judge.model_copy(update={"price": same.price})
    if judge.provider == "hf":
        return hour_price(priced, config)
    try:
        return token_price(priced)
    except UserError:
        raise UserError(
            f"judge.model: the price of {judge.model} is not known; give it in USD per million tokens: "
            f"model: {{model: {judge.model}, price: {{input: 0.20, output: 0.60}}}}"
        ) from None


# ---------------------------------------------------------------- what is asked about an answer


def _questions(config: Config, rows: Sequence[Example], answers: Answers) -> Iterator[Request]:
    """One request per answer (two where answers are compared, one for each order)."""
    for place, items in _items(config, rows, answers):
        if not isinstance(items, float):
            for order, messages in enumerate(items):
                yield _request(config, rows, place, order, messages)


def _request(
    config: Config, rows: Sequence[Example], place: Place, order: int, messages: tuple[Message, ...]
) -> Request:
    number = [one.name for one in config.candidates].index(place[0])
    return Request(rows[place[1]].id, *_numbers(number, place, order, rows, config), messages)


def _numbers(candidate: int, place: Place, order: int, rows: Sequence[Example], config: Config) -> tuple[int, int]:
    """(index, repeat) of a judge's answer in its file: all candidates' answers stand in one, so that a judge is loaded
    and paced once. Candidates that a training adds come after the others, whose numbers stay."""
    return candidate * len(rows) + place[1], 2 * place[2] + order if is_pairwise(config) else place[2]


def _items(
    config: Config, rows: Sequence[Example], answers: Answers
) -> Iterator[tuple[Place, float | tuple[tuple[Message, ...], ...]]]:
    """Each answer, with its score where that is settled without a judge, else with the questions to ask."""
    first = config.candidates[0]
    for candidate in config.candidates:
        for (index, repeat), answer in answers[candidate.name].items():
            other = None
            if is_pairwise(config):
                other = answers[first.name].get((index, repeat % first.samples))
                if other is None:
                    continue  # not asked yet: nothing to compare with
            yield (candidate.name, index, repeat), _item(config, rows[index], answer, other)


def _item(
    config: Config, row: Example, answer: Outcome, other: Outcome | None
) -> float | tuple[tuple[Message, ...], ...]:
    section = _section(config)
    if other is None:
        if isinstance(answer, Failure):
            return 0.0
        return (rubric.question(section.rubric, _scale(section), row, answer.text or ""),)
    if isinstance(answer, Failure) or isinstance(other, Failure):
        return 0.5 + 0.5 * isinstance(other, Failure) - 0.5 * isinstance(answer, Failure)
    if answer.text == other.text:
        return 0.5  # the first candidate's own answers among them: as good as themselves
    return pairwise.questions(section.rubric, row, answer.text or "", other.text or "")


# ---------------------------------------------------------------- what is on disk


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
        self.config, self.rows, self.section = config, rows, _section(config)
        self.answers = read_answers(config, folder)
        self.names = [judge.name for judge in self.section.model]
        part = RunFolder(folder.path / "parts" / "judge")
        self.replies = [{(one.index, one.repeat): one for one in part.read_predictions(name)} for name in self.names]
        self.unjudged: list[Counter[str]] = [Counter() for _ in self.names]
        self.unjudged_rows: list[dict[str, None]] = [{} for _ in self.names]
        self.rescued = [0 for _ in self.names]
        self.both_orders = self.position_won = self.owed = self.stopped = self.asked = 0
        self.people, self.strange = people.placed([*given, *people.reviewed(folder)], self.answers)

    def judged(self) -> Judged:
        by_judges: dict[Place, tuple[float | None, ...]] = {}
        settled: dict[Place, tuple[float | None, ...]] = {}
        for place, item in _items(self.config, self.rows, self.answers):
            if isinstance(item, float):
                settled[place] = (item,)
            else:
                self.asked += 1
                by_judges[place] = tuple(self._word(j, place, len(item)) for j in range(len(self.names)))
        shares = {place: self._share(score) for place, score in self.people.items() if place in by_judges}
        words: dict[str, dict[tuple[int, int], tuple[float | None, ...]]] = {}
        for place, given in {**by_judges, **settled}.items():
            words.setdefault(place[0], {})[place[1:]] = (shares[place],) if place in shares else given
        against = self._agreement({place: _mean(by_judges[place]) for place in shares}, shares)
        confidence = self.config.decide.confidence
        why_not, least_judged = "", self._least_judged(words)
        if len(shares) < len(by_judges):  # where people scored everything, nothing rests on a judge
            why_not = agreement.why_uncalibrated(against, confidence)
        return Judged(
            words,
            self.owed,
            self.stopped,
            f"the judge is uncalibrated: {why_not}" if why_not else "",
            least_judged,
            self._facts(against, by_judges, shares, why_not, least_judged),
            by_judges,
            shares,
        )

    def _word(self, judge: int, place: Place, orders: int) -> float | None:
        """One judge's score of one answer, 0..1."""
        number = [one.name for one in self.config.candidates].index(place[0])
        readings = []
        for order in range(orders):
            reply = self.replies[judge].get(_numbers(number, place, order, self.rows, self.config))
            if reply is None:
                self.owed += 1
                return None
            if isinstance(reply, Failure):
                self.stopped += not (reply.tries or reply.cached)
                self._without(judge, place, reply.failure)
                return None
            if orders == 1:
                word, reading = rubric.read(reply.text or "", _scale(self.section))
            else:
                word, reading = None, pairwise.read(reply.text or "")
            if reading.value is None:
                self._without(judge, place, reading.failure)
                return None
            readings.append(reading)
        self.rescued[judge] += any(reading.rescued for reading in readings)
        if orders == 1:
            return word
        self.both_orders += 1
        self.position_won += pairwise.by_position(*readings)
        return pairwise.preferred(*readings)

    def _without(self, judge: int, place: Place, why: str) -> None:
        self.unjudged[judge][why] += 1
        self.unjudged_rows[judge][self.rows[place[1]].id] = None

    def _share(self, score: float) -> float:
        low, high = scale_of_people(self.config)
        return (score - low) / (high - low)

    def _agreement(self, x: Mapping[Place, float | None], y: Mapping[Place, float | None]) -> Agreement | None:
        both = [(place, one, y[place]) for place, one in x.items() if one is not None and y.get(place) is not None]
        if not both:
            return None
        places, ones, others = zip(*both, strict=True)
        return agreement.between(ones, others, [place[1] for place in places])

    def _least_judged(self, words: Mapping[str, Mapping[tuple[int, int], tuple[float | None, ...]]]) -> float:
        shares = [
            sum(any(word is not None for word in one) for one in of_candidate.values()) / len(of_candidate)
            for of_candidate in words.values()
            if of_candidate
        ]
        return min(shares, default=1.0)

    def _facts(
        self,
        against: Agreement | None,
        by_judges: Mapping[Place, tuple[float | None, ...]],
        shares: Mapping[Place, float],
        why_not: str,
        least_judged: float,
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
                    "cost_usd": sum(reply.cost_usd for reply in self.replies[j].values()),
                }
                for j, name in enumerate(self.names)
            ],
            "rubric": self.section.rubric,
            "scale": [low, high],
            "compared_with": self.config.candidates[0].name if is_pairwise(self.config) else None,
            "position_decided": {"pairs": self.both_orders, "by_position": self.position_won}
            if is_pairwise(self.config)
            else None,
            "answers": self.asked,
            "least_judged": least_judged,
            "uncalibrated": why_not or None,
            "people": {
                "scores": len(shares),
                "not_of_this_run": self.strange,
                **_agreement_data(against, confidence, high - low),
            },
            "between": [
                {"judges": [self.names[a], self.names[b]]}
                | _agreement_data(self._agreement(each[a], each[b]), confidence, high - low)
                for a, b in combinations(range(len(self.names)), 2)
            ],
        }


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


def _section(config: Config) -> JudgeConfig:
    assert config.judge is not None, "asked only where there is a judge"
    return config.judge


def _scale(section: JudgeConfig) -> tuple[int, int]:
    return section.scale[0], section.scale[1]
