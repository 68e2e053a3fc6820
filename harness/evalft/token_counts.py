"""How many tokens a text will be billed as, before it is sent: no tokenizer of a closed model is at hand offline.

A linear model of what the text consists of (words and their length, digits, marks, line breaks, characters per script),
fitted to OpenAI's o200k encoding by `benchmarks/tokens/fit.py`, which prints the error per set of texts. On texts that
were not fitted, the tokens of a set were predicted within 5 % for 13 sets in English (questions, comments, instructions,
answers, prose, a prompt of 150 labels), Python, JSON and LaTeX, where 4 bytes a token are off by -28 to +25 %; and for
interface texts in 16 other languages within 7 %, but for Polish (-12 %), Russian (+11 %) and Ukrainian (-10 %). Other
encodings count otherwise, so tokens billed by the same model before correct the prediction (`usage_seen`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from evalft.prompts import Request
from evalft.sequences import Computed

SAMPLE = 200
"""Requests that are read; the others are taken to have as many tokens per byte."""
PER_MESSAGE, PER_REQUEST = 4, 3
"""Tokens around a chat message and before the answer, as OpenAI's cookbook counts them for its models."""

WEIGHTS = {
    "word": 1.0,
    "letters over 6": 0.12,
    "capitals within": 0.31,
    "digits by 3": 1.5,
    "marks": 0.57,
    "more marks": 0.74,
    "line breaks": 0.54,
    "spaces": 2.1,
    "letters in mixed words": 0.41,
    "Latin": 0.41,
    "Greek": 0.43,
    "Cyrillic": 0.32,
    "Hebrew": 0.47,
    "Arabic": 0.34,
    "Indic": 0.4,
    "Thai": 0.41,
    "kana": 0.68,
    "Han": 0.75,
    "Hangul": 0.69,
    "other": 1.0,
}
"""Tokens per piece or character; "other" (emoji, rare scripts, signs) is not fitted."""
SCRIPTS = (
    (0x0080, "letters in mixed words"),
    (0x0250, "Latin"),
    (0x0370, "other"),
    (0x0400, "Greek"),
    (0x0530, "Cyrillic"),
    (0x0590, "other"),
    (0x0600, "Hebrew"),
    (0x0780, "Arabic"),
    (0x0900, "other"),
    (0x0E00, "Indic"),
    (0x0E80, "Thai"),
    (0x1E00, "other"),
    (0x1F00, "Latin"),
    (0x2000, "Greek"),
    (0x3040, "other"),
    (0x3100, "kana"),
    (0x3400, "other"),
    (0xA000, "Han"),
    (0xAC00, "other"),
    (0xD7B0, "Hangul"),
)
"""(first code point beyond, script)."""

_PIECE = re.compile(r"[^\W\d_]+|\d+|_+|[^\w\s]+|\s+")


@lru_cache(maxsize=4096)  # shots and system texts recur
def estimate(text: str) -> float:
    """Tokens of a text; 0 for the empty one."""
    return sum(WEIGHTS[name] * count for name, count in features(text).items())


def features(text: str) -> dict[str, float]:
    """What of `WEIGHTS` a text holds, and how often."""
    found = dict.fromkeys(WEIGHTS, 0.0)
    for match in _PIECE.finditer(text):
        piece = match[0]
        if not piece.isascii():
            for char in piece:
                found[_script(ord(char))] += 1
        elif piece[0].isalpha():
            found["word"] += 1
            found["letters over 6"] += max(0, len(piece) - 6)
            if not piece.islower():
                found["capitals within"] += sum(char.isupper() for char in piece[1:])
        elif piece[0].isdigit():
            found["digits by 3"] += -(-len(piece) // 3)
        elif not piece.isspace():
            found["marks"] += 1
            found["more marks"] += len(piece) - 1
        elif "\n" in piece:
            found["line breaks"] += 1
        elif len(piece) > 1:
            found["spaces"] += 1
    return found


def _script(code: int) -> str:
    return next((script for beyond, script in SCRIPTS if code < beyond), "other")


def of_requests(requests: Sequence[Request]) -> int:
    """Input tokens of chat requests, those around the messages included."""
    around = sum(PER_MESSAGE * len(request.messages) + PER_REQUEST for request in requests)
    contents = Computed(len(requests), lambda i: [turn["content"] for turn in requests[i].messages])
    return round(of_texts(contents)) + around


def of_texts(texts: Sequence[Sequence[str]]) -> float:
    """Tokens of texts that come several together. `SAMPLE` are read, the others are taken to have as many per byte."""
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    seen_bytes = _bytes(sample)
    return (
        sum(estimate(text) for together in sample for text in together) / seen_bytes * _bytes(texts)
        if seen_bytes
        else 0.0
    )


def _bytes(texts: Sequence[Sequence[str]]) -> int:
    return sum(len(text.encode()) for together in texts for text in together)
