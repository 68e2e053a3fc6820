"""One answer, a rubric, a scale: the question to a judge, and its reply as a score."""

from __future__ import annotations

from evalft.judging import quoting, reading
from evalft.judging.reading import Reading
from evalft.records import Example, Message

DEFAULT = (
    "How well the answer does what the input asks for: correct, complete, and nothing that was not asked for. Where a "
    "reference answer is given, an answer that says the same in other words is as good as it."
)


def question(rubric: str | None, scale: tuple[int, int], example: Example, answer: str) -> tuple[Message, ...]:
    material = {"input": quoting.input_text(example), **quoting.reference(example), "answer": answer}
    text = (
        f"Score one answer by a rubric, from {scale[0]} (worst) to {scale[1]} (best).\n\n"
        f"Rubric: {rubric or DEFAULT}\n\n"
        f"{quoting.quoted(material)}\n\n"
        "Say in one or two sentences how well the answer meets the rubric. Then write your score, a number from "
        f"{scale[0]} to {scale[1]}, on a last line of its own, in this form:\nscore: NUMBER"
    )
    return ({"role": "user", "content": text},)


def read(reply: str, scale: tuple[int, int]) -> Reading:
    return reading.score(reply, scale)


def to_share(score: float, scale: tuple[int, int]) -> float:
    return (score - scale[0]) / (scale[1] - scale[0])
