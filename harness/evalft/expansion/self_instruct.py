"""The prompt by which a teacher writes new inputs, and the reader of what it answers.

After Self-Instruct (Wang et al. 2022, arXiv 2212.10560): a few train inputs are shown and new ones asked for. Only inputs:
their targets come from the teacher through the prompt that it was scored with. An answer is hostile text.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from evalft.answers import without_thinking
from evalft.config import TaskConfig
from evalft.records import Example, Message

SHOWN = 6
MAX_LABELS_SHOWN = 50
MAX_SHOWN_CHARS = 4_000
"""Of one input."""
MAX_READ = 100
MAX_INPUT_CHARS = 20_000
_ITEM = re.compile(r"[ \t]*(?:\d{1,3}[.):]|[-*•])[ \t]+(\S.*)")


def plan(
    rows: Sequence[Example], task: TaskConfig, *, count: int, per_request: int = 10, seed: int
) -> list[tuple[tuple[Message, ...], tuple[str, ...]]]:
    """(messages, ids of the rows shown) of the requests that ask for `count` new inputs in all."""
    rng = random.Random(seed)
    requests = []
    for start in range(0, count, per_request):
        shown = rng.sample(rows, min(SHOWN, len(rows)))
        asked = min(per_request, count - start)
        requests.append((messages(shown, task, asked), tuple(row.id for row in shown)))
    return requests


def messages(rows: Sequence[Example], task: TaskConfig, count: int) -> tuple[Message, ...]:
    """What asks for `count` inputs like those of `rows`."""
    shown = json.dumps([str(row.input)[:MAX_SHOWN_CHARS] for row in rows], ensure_ascii=False, indent=1)
    labels = task.labels or []
    covering = ""
    if 0 < len(labels) <= MAX_LABELS_SHOWN:
        kind = "each belongs to one of" if task.type == "classification" else "each has some of"
        covering = f"They are used for a task in which {kind} these labels: {', '.join(labels)}. Cover different ones. "
    text = (
        f"Here are inputs of one task, as a JSON list of strings:\n\n{shown}\n\n"
        f"Write {count} new inputs of the same kind: in the same language, form and style and of about the same length, "
        f"but about other things and not mere rewordings. {covering}"
        "Do not answer them. Reply with a JSON list of strings only."
    )
    return ({"role": "user", "content": text},)


def read(text: str | None) -> list[str]:
    """The inputs in a teacher's answer, each once: a JSON list (fenced, cut off or not), else a numbered or bulleted list."""
    answer = without_thinking(text or "")
    found = _json_strings(answer) or [match[1] for match in map(_ITEM.fullmatch, answer.splitlines()) if match]
    clean = (item.strip().strip('"').strip() if item.count('"') == 2 else item.strip() for item in found)
    return list(dict.fromkeys(item for item in clean if _is_usable(item)))[:MAX_READ]


def _json_strings(text: str) -> list[str]:
    """The strings of the first list, or of the objects in it that hold one string."""
    decoder = json.JSONDecoder()
    place = text.find("[") + 1
    found: list[str] = []
    while place and len(found) < MAX_READ:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        if isinstance(value, dict) and len(value) == 1:
            (value,) = value.values()
        if isinstance(value, str):
            found.append(value)
    return found


def _is_usable(item: str) -> bool:
    return 0 < len(item) <= MAX_INPUT_CHARS and is_clean(item)


def is_clean(text: str) -> bool:
    """No control characters (terminal escapes, NUL) but tabs and line ends, and no half of a surrogate pair."""
    return not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", text)
