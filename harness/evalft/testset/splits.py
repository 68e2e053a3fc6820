"""Which rows may be used for what: a dev share of train, a lone file cut in two, no test row among the others.

Rows are cut by a hash of their group, else of their normalised input, so that neither the order of the file nor
duplicates matter: rows that belong together land on one side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from evalft.records import Example
from evalft.sequences import chosen
from evalft.testset.rows import places, twin

DEV_SHARE = 0.2
MIN_TRAIN_ROWS_FOR_DEV = 5

T = TypeVar("T")


def normal_form(example: Example) -> int:
    """64 bits of the input without differences of case, spaces and Unicode form: equal for inputs that are the same."""
    given = example.input
    text = given if isinstance(given, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in given)
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "big")


def units(examples: Sequence[Example]) -> list[Hashable]:
    """Per example what must not be torn apart: its group, else all rows with the same input."""
    return [normal_form(example) if example.group is None else example.group for example in examples]


def cut(rows: Sequence[T], units: Sequence[Hashable], share: float, seed: int = 0) -> tuple[Sequence[T], Sequence[T]]:
    """(about `share` of the rows, the others), each in file order, by whole units in the order of their seeded hashes.

    A unit is taken while it brings the count nearer to the share. Neither side is empty where there are two units."""
    sizes = Counter(units)
    if len(sizes) < 2:
        return [], rows
    order = sorted(sizes, key=lambda unit: (hashlib.sha256(f"{seed}:{unit}".encode()).digest(), str(unit)))
    taken: set[Hashable] = set()
    count = 0
    for unit in order:
        if count + sizes[unit] / 2 <= share * len(rows) and count + sizes[unit] < len(rows):
            taken.add(unit)
            count += sizes[unit]
    if not taken:
        taken.add(min(order, key=lambda unit: sizes[unit]))
    sides = array("Q"), array("Q")
    for place, unit in enumerate(units):
        sides[unit not in taken].append(place)
    return chosen(rows, sides[0]), chosen(rows, sides[1])


def hold_out(train: Sequence[Example], seed: int) -> tuple[Sequence[Example], Sequence[Example], str]:
    """(dev, train, what was done) for a train set without dev rows."""
    if len(train) < MIN_TRAIN_ROWS_FOR_DEV:
        return [], train, f"dev: none, since {len(train)} train rows are too few to hold some out"
    by = "input" if train[0].group is None else "group"
    dev, rest = cut(train, units(train), DEV_SHARE, seed)
    if not dev:
        return dev, rest, f"dev: none, since all train rows have the same {by}"
    return dev, rest, f"dev: {len(dev):,} of {len(train):,} train rows are held out, by {by}; {len(rest):,} stay"


def without(
    rows: Sequence[Example], role: str, held: Mapping[str, Sequence[Example]]
) -> tuple[Sequence[Example], list[str], list[str]]:
    """(`rows` whose input is in none of the `held` roles, the place of each removed row, a warning per held role)."""
    first: dict[str, dict[int, int]] = {name: {} for name in held}
    for name, examples in held.items():
        for place, example in enumerate(examples):
            first[name].setdefault(normal_form(example), place)
    kept = array("Q")
    removed: dict[str, list[str]] = {}
    for place, example in enumerate(rows):
        form = normal_form(example)
        name = next((name for name, places_of in first.items() if form in places_of), "")
        if name:
            removed.setdefault(name, []).append(twin(example.source, held[name][first[name][form]].source))
        else:
            kept.append(place)
    warnings = [
        f"{role}: removed, since the input is also in {name}: {len(found):,}: {places(found, 20)}"
        for name, found in removed.items()
    ]
    return chosen(rows, kept), [where for found in removed.values() for where in found], warnings
