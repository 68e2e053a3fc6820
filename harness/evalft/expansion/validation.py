"""Whether a teacher's answer can be the target of a row to train on.

Heuristics, and said to be: a refusal is known by how it opens, and an answer in another form than the train targets by
its shapes (letters as one, digits as one): LaTeX, JSON, code and numbers have shapes of their own, and an excuse in prose
has others. What the task itself demands of a target is the caller's to check (`gold_ok`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from evalft.config import TaskConfig
from evalft.expansion.drafts import exact_form
from evalft.expansion.self_instruct import is_clean
from evalft.records import Example

Target = str | tuple[str, ...]

LONGER = 3
MIN_TARGETS = 20
"""Train rows from which on the form of their targets tells anything."""
SHAPE = 5
MIN_SHAPES = 5
"""Under these few an answer's form is not judged: a short number may well have decimals for the first time."""
_UNABLE = r"(?:cannot|can ?not|can['’]?t|could not|couldn['’]t|am unable to|am not able to|['’]m unable to|['’]m not able to|won['’]t|will not)"
_TASKS = r"(?:translat|help|answer|assist|convert|provid|comply|fulfil|process|complet|do|generat|classif|write|creat|understand|determin)"
_REFUSAL = re.compile(
    rf"\W*(?:(?:i['’]m |i am )?(?:very |so )?sorry\b.{{0,40}}?\b(?:i|but)\b|i apologi[sz]e\b|as an ai\b|as a language model\b"
    rf"|i ?{_UNABLE}\s(?:\w+\s){{0,2}}?{_TASKS}|unfortunately,? i ?{_UNABLE})",
    re.IGNORECASE | re.DOTALL,
)


def checker(
    task: TaskConfig, train: Sequence[Example], gold_ok: Callable[[Target], bool]
) -> Callable[[str, Target], str | None]:
    """A function of (input, target) that says why the target cannot be used; None where it can.

    `gold_ok` says whether a target is right by the task's own metrics when compared with itself."""
    targets = [row.target for row in train if isinstance(row.target, str)]
    echoes = any(exact_form(str(row.target)) == exact_form(str(row.input)) for row in train)
    longest = max(map(len, targets), default=0)
    known = {shape for target in targets for shape in _shapes(target)} if len(targets) >= MIN_TARGETS else None
    refuses = any(map(is_refusal, targets))  # a task about refusals has them for targets

    def why_invalid(given: str, target: Target) -> str | None:
        if task.type != "generation":
            unknown = sorted({*((target,) if isinstance(target, str) else target)} - {*(task.labels or ())})
            return f"{unknown[0]!r} is no label of the task" if unknown else None
        text = str(target)
        if not text.strip():
            return "the answer is empty"
        if not is_clean(text):
            return "the answer holds control characters"
        if not refuses and is_refusal(text):
            return "the answer looks like a refusal"
        if longest and len(text) > LONGER * longest:
            return (
                f"the answer has {len(text):,} characters, over {LONGER} times the longest train target ({longest:,})"
            )
        if not echoes and exact_form(text) == exact_form(given):
            return "the answer repeats the input"
        if known is not None and _is_of_another_form(text, known):
            return "the answer is in another form than the train targets"
        return None if gold_ok(target) else "the answer is not right by the task's own metric when compared with itself"

    return why_invalid


def is_refusal(text: str) -> bool:
    """By its opening, in English; a heuristic."""
    return bool(_REFUSAL.match(text[:300]))


def _is_of_another_form(text: str, known: set[str]) -> bool:
    """More than half of its shapes are in no train target."""
    shapes = _shapes(text)
    return len(shapes) >= MIN_SHAPES and 2 * sum(shape not in known for shape in shapes) > len(shapes)


def _shapes(text: str) -> list[str]:
    """The 5-grams of the text in which each run of letters is one letter, of digits one digit, of spaces one space."""
    line = f"^{text.strip()}$"
    for run, one in ((r"[^\W\d_]+", "a"), (r"\d+", "0"), (r"\s+", " ")):
        line = re.sub(run, one, line)
    return [line[i : i + SHAPE] for i in range(len(line) - SHAPE + 1)]
