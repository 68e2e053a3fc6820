"""What a judge is asked about the answers on disk, and under which number its replies stand in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from evalft.config import Config, JudgeConfig
from evalft.judging import pairwise, quoting, rubric
from evalft.judging.people import Place
from evalft.prompts import Request
from evalft.records import Example, Failure, Message, Outcome
from evalft.store import RunFolder

PREFERENCE_SCALE = (0.0, 1.0)
"""What people write where answers are compared: 1 this one is better, 0 the other, 0.5 neither."""

Answers = Mapping[str, Mapping[tuple[int, int], Outcome]]
"""Per candidate, by (index of the row, repeat)."""


def is_pairwise(config: Config) -> bool:
    return any(spec.name == "judge" and spec.options.get("pairwise") for spec in config.task.metrics or ())


def scale_of_people(config: Config) -> tuple[float, float]:
    low, high = section_of(config).scale
    return PREFERENCE_SCALE if is_pairwise(config) else (float(low), float(high))


def read_answers(config: Config, folder: RunFolder) -> dict[str, dict[tuple[int, int], Outcome]]:
    return {
        candidate.name: {(one.index, one.repeat): one for one in folder.read_predictions(candidate.name)}
        for candidate in config.candidates
    }


def questions(config: Config, rows: Sequence[Example], answers: Answers) -> Iterator[Request]:
    """One request per answer (two where answers are compared, one for each order). The same answer to the same row is
    asked about once, whoever gave it: it cannot get two scores."""
    asked = set()
    for place, item in items(config, rows, answers):
        for order, messages in enumerate(() if isinstance(item, float) else item):
            if (question := digest(messages)) not in asked:
                asked.add(question)
                yield Request(rows[place[1]].id, *numbers(place, order, rows, config), messages)


def digest(messages: tuple[Message, ...]) -> bytes:
    return sha256(messages[-1]["content"].encode()).digest()


def numbers(place: Place, order: int, rows: Sequence[Example], config: Config) -> tuple[int, int]:
    """(index, repeat) of a judge's reply in its file: those about all candidates stand in one, so that a judge is loaded
    and paced once. Candidates that a training adds come after the others, whose numbers stay."""
    candidate = [one.name for one in config.candidates].index(place[0])
    return candidate * len(rows) + place[1], 2 * place[2] + order if is_pairwise(config) else place[2]


def items(
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
            yield (candidate.name, index, repeat), about(config, rows[index], answer, other)


def about(
    config: Config, row: Example, answer: Outcome, other: Outcome | None
) -> float | tuple[tuple[Message, ...], ...]:
    section = section_of(config)
    if other is None:
        if isinstance(answer, Failure):
            return 0.0
        return (rubric.question(section.rubric, scale(section), row, quoting.answer_text(answer)),)
    if isinstance(answer, Failure) or isinstance(other, Failure):
        return 0.5 + 0.5 * isinstance(other, Failure) - 0.5 * isinstance(answer, Failure)
    one, another = quoting.answer_text(answer), quoting.answer_text(other)
    if one == another:
        return 0.5  # the first candidate's own answers among them: as good as themselves
    return pairwise.questions(section.rubric, row, one, another)


def section_of(config: Config) -> JudgeConfig:
    assert config.judge is not None, "asked only where there is a judge"
    return config.judge


def scale(section: JudgeConfig) -> tuple[int, int]:
    return section.scale[0], section.scale[1]
