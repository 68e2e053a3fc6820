"""Whether a teacher's answer can be the target of a row to train on.

Heuristics, and said to be: a refusal is known by how it opens; where train targets are no prose (LaTeX, code, numbers,
names), an answer with a long run of plain words is prose about the task, not an answer. What the task itself demands of
a target is the caller's to check (`gold_ok`).
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
_RUN_OF_WORDS = re.compile(r"(?<!\S)[^\W\d_]+[,:]?(?: [^\W\d_]+[,:]?)*(?![^\s.!?])")
_UNABLE = r"(?:cannot|can ?not|can['’]?t|could not|couldn['’]t|am unable to|am not able to|['’]m unable to|['’]m not able to|won['’]t|will not)"
_TASKS = r"(?:translat|help|answer|assist|convert|provid|comply|fulfil|process|complet|do|generat|classif|write|creat|understand|determin)"
_REFUSAL = re.compile(
    rf"\W*(?:(?:i['’]m |i am )?(?:very |so )?sorry\b.{{0,60}}?\b{_UNABLE}|i apologi[sz]e\b.{{0,60}}?\b{_UNABLE}"
    rf"|as an? (?:ai|(?:large )?language model)\b|i ?{_UNABLE}\s(?:\w+\s){{0,2}}?{_TASKS}|unfortunately,? i ?{_UNABLE})",
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
    longest_run = max(map(_longest_run, targets)) if len(targets) >= MIN_TARGETS else None
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
        if longest_run is not None and (run := _longest_run(text)) > 2 * longest_run + 2:
            return f"the answer has {run} plain words in a row, the train targets at most {longest_run}: it is prose"
        return None if gold_ok(target) else "the answer is not right by the task's own metric when compared with itself"

    return why_invalid


def is_refusal(text: str) -> bool:
    """By its opening, in English; a heuristic."""
    return bool(_REFUSAL.match(text[:300]))


def _longest_run(text: str) -> int:
    """How many words of letters only follow each other, one space between them."""
    return max((len(run.split()) for run in _RUN_OF_WORDS.findall(text)), default=0)
