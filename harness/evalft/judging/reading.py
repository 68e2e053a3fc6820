"""What a judge's reply says, read from where it was asked to say it: its last line, or JSON. Never from the middle.

A judge may quote the answer, which may hold "score: 10": only the last line that is not empty counts, or a reply that is
one JSON object. The strict reader takes the form that was asked for; the lenient one (`rescued`) the same statement
dressed up ("**Score: 8/10**", fenced JSON). Anything else is no statement. A reply is hostile text: every pattern runs
in linear time on a short line, and nothing in it makes these functions raise.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from evalft.answers import without_thinking

LONGEST_LINE = 200
_DRESS = " \t*_`\"'"
_IS = r"[ *_]{0,4}(?::|=|is)[ *_]{0,4}"
_NUMBER = r"[-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_SCORE = re.compile(rf"score: ?({_NUMBER})", re.IGNORECASE)
_DRESSED_SCORE = re.compile(
    rf"(?:(?:(?:my|the|final|overall|total) )*(?:score|rating|grade)(?:{_IS}| ))?"
    rf"({_NUMBER})(?: ?(?:/|out of) ?({_NUMBER}))?",
    re.IGNORECASE,
)
_BETTER = re.compile(r"better: ?(1|2|tie)", re.IGNORECASE)
_DRESSED_BETTER = re.compile(
    rf"(?:(?:the )?(?:better|winner|best)(?: answer)?(?:{_IS}| ))?(?:answer[ -]?)?(1|2|tie)(?: is better)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reading:
    value: float | str | None
    """A score on the judge's scale, or "1", "2", "tie"; None: `failure` says why there is none."""
    rescued: bool = False
    failure: str = ""
    """unparsable, or off_scale."""


UNPARSABLE = Reading(None, failure="unparsable")


def score(reply: str, scale: tuple[int, int]) -> Reading:
    """`score: N` on the last line, or {"score": N}; N from scale[0] to scale[1]."""
    said, rescued = _stated(reply, "score", _SCORE)
    if said is None:
        found = _DRESSED_SCORE.fullmatch(_undressed(reply))
        if found is None or (found[2] is not None and float(found[2]) != scale[1]):  # 8/10 is no score from 1 to 5
            return UNPARSABLE
        said, rescued = found[1], True
    if isinstance(said, str) and re.fullmatch(_NUMBER, said):
        value = float(said)
    elif isinstance(said, int | float) and not isinstance(said, bool):
        value = float(said) if abs(said) < 1e9 else float("inf")  # a whole number of any length is JSON
    else:
        return UNPARSABLE
    if not scale[0] <= value <= scale[1]:  # nan too
        return Reading(None, failure="off_scale")
    return Reading(value, rescued)


def preference(reply: str) -> Reading:
    """`better: 1`, `better: 2` or `better: tie` on the last line, or {"better": ...}."""
    said, rescued = _stated(reply, "better", _BETTER)
    if said is None:
        found = _DRESSED_BETTER.fullmatch(_undressed(reply))
        if found is None:
            return UNPARSABLE
        said, rescued = found[1], True
    text = str(said).lower() if isinstance(said, str | int) and not isinstance(said, bool) else ""
    return Reading(text, rescued) if text in ("1", "2", "tie") else UNPARSABLE


def _stated(reply: str, key: str, form: re.Pattern[str]) -> tuple[object, bool]:
    """(what the reply states in the form asked for, whether it took the lenient reader); None where it does not."""
    answer = without_thinking(reply).strip()
    found = form.fullmatch(_last_line(reply))
    if found:
        return found[1], False
    strict = _in_json(answer, key)
    if strict is not None:
        return strict, False
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n```", answer, re.DOTALL)
    return (_in_json(fenced[1].strip(), key) if fenced else _in_json(_last_line(reply), key)), True


def _last_line(reply: str) -> str:
    line = without_thinking(reply).strip().rpartition("\n")[2].strip()
    return line if len(line) <= LONGEST_LINE else ""


def _undressed(reply: str) -> str:
    return _last_line(reply).lstrip(_DRESS).rstrip(f"{_DRESS}.!")


def _in_json(text: str, key: str) -> object:
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return data.get(key) if isinstance(data, dict) else None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object that says the same key twice says nothing."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)
