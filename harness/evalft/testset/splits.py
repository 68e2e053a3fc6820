"""Which rows may be used for what: a dev share of train, a lone file cut in two, no test row among the others.

Rows are cut by a hash of their group, else of their normalised input, so that neither the order of the file nor
duplicates matter: rows that belong together land on one side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from evalft.records import Example
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


def cut(rows: Sequence[T], units: Sequence[Hashable], share: float, seed: int = 0) -> tuple[list[T], list[T]]:
    """(about `share` of the rows, the others), each in file order, by whole units in the order of their seeded hashes.

    A unit is taken while it brings the count nearer to the share. Neither side is empty where there are two units."""
    sizes = Counter(units)
    if len(sizes) < 2:
        return [], list(rows)
    order = sorted(sizes, key=lambda unit: (hashlib.sha256(f"{seed}:{unit}".encode()).digest(), str(unit)))
    taken: set[Hashable] = set()
    count = 0
    for unit in order:
        if count + sizes[unit] / 2 <= share * len(rows) and count + sizes[unit] < len(rows):
            taken.add(unit)
            count += sizes[unit]
    if not taken:
        taken.add(min(order, key=lambda unit: sizes[unit]))
    sides: tuple[list[T], list[T]] = ([], [])
    for row, unit in zip(rows, units, strict=True):
        sides[unit not in taken].append(row)
    return sides


def hold_out(train: Sequence[Example], seed: int) -> tuple[list[Example], list[Example], str]:
    """(dev, train, what was done) for a train set without dev rows."""
    if len(train) < MIN_TRAIN_ROWS_FOR_DEV:
        return [], list(train), f"dev: none, since {len(train)} train rows are too few to hold some out"
    by = "input" if train[0].group is None else "group"
    dev, rest = cut(train, units(train), DEV_SHARE, seed)
    if not dev:
        return dev, rest, f"dev: none, since all train rows have the same {by}"
    return dev, rest, f"dev: {len(dev):,} of {len(train):,} train rows are held out, by {by}; {len(rest):,} stay"


def without(
    rows: Sequence[Example], role: str, held: Mapping[str, Sequence[Example]]
) -> tuple[list[Example], list[str], list[str]]:
    """(`rows` whose input is in none of the `held` roles, the place of each removed row, a warning per held role)."""
    first: dict[int, tuple[str, str]] = {}
    for name, examples in held.items():
        for example in examples:
            first.setdefault(normal_form(example), (name, example.source))
    kept: list[Example] = []
    removed: dict[str, list[str]] = {}
    for example in rows:
        name, source = first.get(normal_form(example), ("", ""))
        if name:
            removed.setdefault(name, []).append(twin(example.source, source))
        else:
            kept.append(example)
    warnings = [
        f"{role}: removed, since the input is also in {name}: {len(found):,}: {places(found, 20)}"
        for name, found in removed.items()
    ]
    return kept, [place for found in removed.values() for place in found], warnings
