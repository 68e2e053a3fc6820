"""The filters that a prompt may use, bounded: a template is data, and data must not take hours or all memory.

Jinja's filters are safe to call and not to feed: `replace` in a row of itself grows a text without end, `tojson`
doubles every backslash, `round` raises ten to any power. So what a filter is about to make, and all that the filters
of one rendering have read and made, is counted in characters and cut short with an error. A loop has as many turns as
it has items, and no more than `MAX_TURNS`. Counting, not a clock: what renders once renders always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from itertools import islice
from typing import Any

MAX_CHARS = 2_000_000
"""Of what one filter makes."""
MAX_WORK = 10_000_000
"""Characters that the filters of one rendering may read and make."""
WEIGHT = {"sort": 20, "unique": 20, "max": 20, "min": 20}
"""Filters that call Python for every item take so many times as long for it."""
MAX_TURNS = 10_000
MAX_DIGITS = 100

NAMES = (
    "abs capitalize count d default e escape first float int join last length list lower max min replace reverse round "
    "sort string striptags sum title tojson trim truncate unique upper wordcount"
).split()
LOOP = "_turns"
"""Put around what a loop goes through; no template can name it."""


class TooMuch(ValueError):
    """A template asks for more than a prompt could need."""


class Work:
    """What the filters of one rendering have done so far."""

    def __init__(self) -> None:
        self.chars = 0

    def count(self, value: object, weight: int = 1) -> None:
        self.chars += weight * (len(value) if hasattr(value, "__len__") else 1)
        if self.chars > MAX_WORK:
            raise TooMuch(f"its filters have worked through over {MAX_WORK:,} characters")


def bounded(given: Mapping[str, Callable[..., Any]], work: Work) -> dict[str, Callable[..., Any]]:
    """Jinja's own filters `given`, by name, those of NAMES alone."""
    return {name: _bounded(name, given[name], work) for name in NAMES} | {LOOP: _turns}


def _bounded(name: str, given: Callable[..., Any], work: Work) -> Callable[..., Any]:
    before = _BEFORE.get(name)

    @wraps(given)  # keeps the mark by which jinja knows what to hand over first
    def run(*args: Any, **options: Any) -> Any:
        value, *rest = args[1:] if hasattr(given, "jinja_pass_arg") else args
        work.count(value, WEIGHT.get(name, 1))
        if before:
            before(value, *rest, **options)
        made = given(*args, **options)
        work.count(made)
        if isinstance(made, str) and len(made) > MAX_CHARS:
            raise TooMuch(f"{name} makes over {MAX_CHARS:,} characters")
        return made

    return run


def _before_replace(value: Any, old: Any = "", new: Any = "", count: int | None = None) -> None:
    text, old, new = str(value), str(old), str(new)
    times = text.count(old) if count is None else min(text.count(old), count)
    if len(text) + times * len(new) > MAX_CHARS:
        raise TooMuch(f"replace makes over {MAX_CHARS:,} characters")


def _before_join(value: Any, d: Any = "", attribute: Any = None) -> None:
    if hasattr(value, "__len__") and len(value) * len(str(d)) > MAX_CHARS:
        raise TooMuch(f"join makes over {MAX_CHARS:,} characters")


def _before_round(value: Any, precision: int = 0, method: str = "common") -> None:
    if abs(precision) > MAX_DIGITS:
        raise TooMuch(f"round to {precision} digits")


def _before_tojson(value: Any, indent: int | None = None) -> None:
    if indent is not None and not 0 <= indent <= MAX_DIGITS:
        raise TooMuch(f"tojson with an indent of {indent}")


_BEFORE: Mapping[str, Callable[..., None]] = {
    "replace": _before_replace,
    "join": _before_join,
    "round": _before_round,
    "tojson": _before_tojson,
}


def _turns(items: Iterable[Any]) -> list[Any]:
    found = list(islice(items, MAX_TURNS + 1))
    if len(found) > MAX_TURNS:
        raise TooMuch(f"a loop goes through over {MAX_TURNS:,} items")
    return found
