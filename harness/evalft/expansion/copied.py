"""New rows without a teacher: what a row copies from its input into its target is exchanged in both.

A copied item is a number, a name (a capitalised word inside a sentence), an identifier or a single letter that stands as a
whole word in input and target. It is replaced everywhere by an item of the same kind that other rows copy. A heuristic, so
it is careful: all numbers of a row must be copied ones (else the target may be worked out from them) and keep their
order of size; a letter must stand as often in the target as in the input.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from evalft.expansion import words
from evalft.expansion.drafts import Draft
from evalft.records import Example

_ITEM = re.compile(r"(?<![\w.,'’])(?:\d+(?:\.\d+)?|[^\W\d_]\w*)(?![\w]|[.,]\d)")
MAX_DIGITS = 15


def tries(rows: Sequence[Example], seed: int) -> Iterator[Draft]:
    """Endless, some of them no change; empty where fewer than two rows copy something of a kind."""
    head, tail = words.frame([words.pieces(str(row.input)) for row in rows])
    framed = {piece.strip() for piece in (*head, *tail)}
    found = [(row, copied) for row in rows if (copied := _copied(row, framed))]
    pool: dict[str, dict[str, str]] = defaultdict(dict)
    for row, copied in found:
        for item, kind in copied.items():
            pool[kind].setdefault(item, row.id)
    known = {kind: sorted(items.items()) for kind, items in pool.items()}
    rng = random.Random(seed)
    while any(len(items) > 1 for items in known.values()):
        row, copied = rng.choice(found)
        source, target = str(row.input), str(row.target)
        parents = [row.id]
        for item in rng.sample(sorted(copied), rng.randint(1, len(copied))):
            new, donor = rng.choice(known[copied[item]])
            if _holds(new, source) or _holds(new, target) or not _keeps_order(source, item, new):
                continue
            source, target = _replaced(source, item, new), _replaced(target, item, new)
            parents.append(donor)
        yield Draft(source, target, "recombine", tuple(dict.fromkeys(parents)))


def _copied(row: Example, framed: set[str]) -> dict[str, str]:
    """Item -> kind, but for those that stand in what all inputs share."""
    source, target = str(row.input), str(row.target)
    in_target = set(_ITEM.findall(target))
    all_copied = set(re.findall(r"\d+", target)) <= set(re.findall(r"\d+", source))
    found = {}
    for place in _ITEM.finditer(source):
        item = place[0]
        if item not in in_target or item in framed:
            continue
        before = source[: place.start()].rstrip(" ")
        kind = _kind(item, starts=not before or before[-1] in ".!?:\n")
        if not kind:
            continue
        exact = len(_places(item, source)), len(_places(item, target))
        if kind == "letter" and exact[0] != exact[1]:
            continue
        if kind.endswith("number") and not all_copied:
            continue
        if kind != "letter" and exact != (_loosely(item, source), _loosely(item, target)):
            continue  # also inside another word, or in another case: exchanging the whole words would leave that behind
        found[item] = kind
    return found


def _kind(item: str, *, starts: bool) -> str | None:
    if item[0].isdigit():
        return ("number" if "." not in item else "decimal number") if len(item) <= MAX_DIGITS else None
    if len(item) == 1:
        return "letter" if item.isascii() and item not in "aAiI" else None  # words of their own
    if "_" in item or any(character.isdigit() for character in item) or re.search(r"[a-z][A-Z]", item):
        return "identifier"
    return "name" if item[0].isupper() and item[1:].islower() and not starts else None


def _pattern(item: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.,'’]){re.escape(item)}(?!\w|[.,]\d)")


def _places(item: str, text: str) -> list[str]:
    return _pattern(item).findall(text)


def _loosely(item: str, text: str) -> int:
    return text.casefold().count(item.casefold())


def _holds(item: str, text: str) -> bool:
    return item.casefold() in text.casefold() if len(item) > 1 else bool(_places(item, text))


def _replaced(text: str, item: str, new: str) -> str:
    return _pattern(item).sub(lambda _: new, text)


def _keeps_order(text: str, item: str, new: str) -> bool:
    """Whether the numbers of the text stay in the same order of size, so that "the larger of 3 and 8" stays the same one."""
    if not item[0].isdigit():
        return True
    numbers = {float(found) for found in _ITEM.findall(text) if found[0].isdigit() and len(found) <= MAX_DIGITS}
    old, after = float(item), float(new)
    return all((other < old) == (other < after) for other in numbers - {old})
