"""The metric `judge`: models that score answers, and how far they can be trusted.

    check(config)            what is wrong with the section, before anything is spent
    trials(...), ask(...)    jobs for asking.py: each judge about every answer on disk, under the same cap, cache, kill rules
    collect(...)             what is on disk -> the words on each candidate's answers, people's in place of a judge's where
                             there are any, and the facts: agreement, what is unjudged, what it cost

An answer is scored by every judge; a failed prediction scores lowest without being asked about; a judge that fails, or
says nothing that can be read, leaves that answer without its word, which is no failure of the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalft import asking, planning
from evalft.asking import Job
from evalft.config import CandidateConfig, Config, MetricSpec, TaskConfig
from evalft.errors import UserError
from evalft.judging import people, rubric
from evalft.judging.agreement import LABELS_NEEDED
from evalft.judging.people import PersonScore
from evalft.judging.questions import about, is_pairwise, questions, read_answers, scale_of_people
from evalft.judging.words import Judged, collect
from evalft.prices import HourPrice, TokenPrice, hour_price, token_price
from evalft.progress import Progress
from evalft.prompts import Request
from evalft.records import Example, Prediction
from evalft.store import RunFolder
from evalft.testset.files import shown

__all__ = [
    "Judged", "ask", "check", "collect", "given_scores", "is_pairwise", "keep_given", "plans", "read_answers",
    "scale_of_people", "trials", "uncalibrated_so_far",
]  # fmt: skip

MAX_TOKENS = 512
"""Of a judge's reply: two sentences and a score, with room to spare; reasoning models have their own default."""
REPLY_TOKENS = 60
"""Of a judge's reply, as the estimate of the cost assumes it."""

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
        raise UserError(f"{shown(section.human)}: judge.human: no row has a score yet")
    names = ", ".join(f"{judge.name} (max_tokens {_max_tokens(judge)})" for judge in section.model)
    by = "each answer against the first candidate's" if is_pairwise(config) else f"scores from {low} to {high}"
    said = [f"judge: {names}: {by}" + ("" if section.rubric else ", by evalft's default rubric (judge.rubric)")]
    own = sorted({judge.model for judge in section.model} & {candidate.model for candidate in config.candidates})
    if own:
        said.append(f"judge: {', '.join(own)} is a candidate too; models tend to prefer their own answers")
    return said


def uncalibrated_so_far(config: Config, rows: Sequence[Example]) -> list[str]:
    """A warning where people have scored too few answers for the judge to decide anything, before it is paid for."""
    if config.judge is None:
        return []
    answers = len(rows) * sum(candidate.samples for candidate in config.candidates)
    given = len(given_scores(config))
    if given >= min(LABELS_NEEDED, answers):
        return []
    section = "no judge.human" if config.judge.human is None else f"{given} in judge.human"
    decides = " a threshold on it stays undecided" if "judge" in config.thresholds else " nothing rests on it"
    return [
        f"judge: uncalibrated until people have scored {LABELS_NEEDED} of its answers ({section}):{decides}; "
        "`evalft review RUN` writes answers to score once there are some"
    ]


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
            (index, repeat): Prediction(
                row.id, index, repeat, f"{row.target}{' ' * (number * candidate.samples + repeat)}", None
            )
            for index, row in enumerate(rows)
            for repeat in range(candidate.samples)
        }
        for number, candidate in enumerate(config.candidates)  # spaces apart: equal answers are asked about once
    }
    requests = list(questions(config, rows, answers))
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
    asked = about(config, rows[0], gold, other if is_pairwise(config) else None)
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
    requests = list(questions(config, rows, read_answers(config, folder)))
    for judge in config.judge.model:  # one after the other: a local judge has the machine's memory to itself
        job = _job(judge, requests, config, folder.part("judge"), f"judge {judge.name}")
        if (
            job.price is not None
        ):  # what its hours cost is known as long as the folder is, whatever the config says then
            folder.update_manifest(prices={job.title: job.price.as_data()} | folder.manifest().get("prices", {}))
        asking.ask([job], config, folder, fresh=fresh, progress=progress)
    folder.update_manifest(judged=True)


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
