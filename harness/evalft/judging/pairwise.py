"""Two answers to one row, asked about in both orders: which is better?

A judge that prefers what stands first prefers it in both orders, and so prefers neither answer: a preference counts only
where both orders name the same answer (Zheng et al. 2023, "Judging LLM-as-a-Judge", section 3.4). Else it is a tie.
"""

from __future__ import annotations

from evalft.judging import quoting, reading
from evalft.judging.reading import Reading
from evalft.records import Example, Message

DEFAULT = (
    "The better answer does more fully and more correctly what the input asks for. Where a reference answer is given, "
    "closeness to what it says counts, not to how it says it. Length and politeness alone make no answer better."
)


def questions(
    rubric: str | None, example: Example, answer: str, other: str
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """`answer` standing first, and standing second."""
    return _question(rubric, example, answer, other), _question(rubric, example, other, answer)


def _question(rubric: str | None, example: Example, first: str, second: str) -> tuple[Message, ...]:
    material = {"input": quoting.input_text(example), **quoting.reference(example)}
    text = (
        "Compare two answers to one input by a rubric. The order in which they stand means nothing.\n\n"
        f"Rubric: {rubric or DEFAULT}\n\n"
        f"{quoting.quoted({**material, 'answer-1': first, 'answer-2': second})}\n\n"
        "Say in one or two sentences what sets them apart. Then write on a last line of its own which one is better, "
        "in one of these forms:\nbetter: 1\nbetter: 2\nbetter: tie"
    )
    return ({"role": "user", "content": text},)


def read(reply: str) -> Reading:
    return reading.preference(reply)


def preferred(first_order: Reading, second_order: Reading) -> float | None:
    """1 where `answer` is preferred in both orders, 0 where the other is, 0.5 else; None where a reply says nothing."""
    if first_order.value is None or second_order.value is None:
        return None
    return {("1", "2"): 1.0, ("2", "1"): 0.0}.get((str(first_order.value), str(second_order.value)), 0.5)


def by_position(first_order: Reading, second_order: Reading) -> bool:
    """Whether the same place won both times, so that the place decided and not the answer."""
    return first_order.value == second_order.value and first_order.value in ("1", "2")
