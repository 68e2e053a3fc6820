"""What expansion passes on: a draft of a new row, why one was removed, and the example that one becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalft.config import TaskConfig
from evalft.records import Example
from evalft.testset import splits
from evalft.testset.columns import ALPACA

Method = Literal["recombine", "paraphrase", "generate"]
Why = Literal["exact", "near", "semantic", "contaminated", "invalid", "failed"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A new input, with its target where the method knows it; None: the teacher answers."""

    input: str
    target: str | tuple[str, ...] | None
    method: Method
    parents: tuple[str, ...]
    """Ids of the train rows it was made of, the one that gave the frame first."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A text that does not become a row."""

    text: str
    why: Why
    against: str = ""
    """Id of the row it repeats, where it does."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """Drafts, made as they are taken, and what the method chose, in plain sentences."""

    drafts: Iterator[Draft]
    said: tuple[str, ...] = ()


def can_expand(rows: Sequence[Example]) -> str | None:
    """Why no new inputs can be made of these train rows; None where they can."""
    if not rows:
        return "there are no train rows"
    chats = sum(not isinstance(row.input, str) for row in rows)
    if chats:
        return f"the input of {chats:,} of {len(rows):,} train rows is chat messages, of which no new ones are made"
    return None


def exact_form(text: str) -> int:
    """What two texts share that are the same but for case, spaces and Unicode form, as splits compare rows."""
    return splits.normal_form(Example(id="", input=text, target="", row={}))


def example_of(
    draft: Draft, target: str | tuple[str, ...], parent: Example, task: TaskConfig, number: int, prefix: str = "x"
) -> Example:
    """The row that a draft becomes: the parent's columns with the new input and target in them.

    `parent` is the train row of `draft.parents[0]`; its other columns stay, since a prompt may read them, and so does its
    group, so that no split tears relatives apart. `number` counts from 1.
    """
    row = dict(parent.row)
    if task.input == ALPACA:
        row |= {"instruction": draft.input, "input": ""}
    elif task.input:
        row[task.input] = draft.input
    if task.target:
        row[task.target] = target if isinstance(target, str) else list(target)
    name = f"{prefix}-{number:06d}"
    if task.id:
        row[task.id] = name
    source = f"expanded from {', '.join(draft.parents)}"
    return replace(parent, id=name, input=draft.input, target=target, row=row, source=source)
