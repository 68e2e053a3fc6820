"""New inputs from pieces of train inputs: a span may stand where it was seen to be interchangeable with another.

After GECA (Andreas 2020, "Good-Enough Compositional Data Augmentation", arXiv 1904.09545): two spans that occur in the
same environment may be exchanged. One shared environment is weak evidence in few rows, so more is asked for here:

- an environment is the word before and the word after, where words of one class count as the same (a class: words that
  share environments themselves, and rarer words that are seen only where such a class is);
- two spans are interchangeable when they share two environments (one, when that is used up), and a quarter of the rarer
  one's; an environment of two classes ("x _ y") tells nothing and does not count;
- words that come in pairs in every row (both "root" of "the root of x end root", a tag, a quotation mark) are exchanged
  in pairs only, so that what is nested stays well-formed.

Spans are exchanged up to three times in a draft, so phrases nest in ways that no row shows. Rows longer than 60 words
exchange whole sentences instead. What all inputs share at their ends ("Convert to LaTeX:") stays as it is.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations

from evalft.config import TaskConfig
from evalft.expansion import copied, words
from evalft.expansion.drafts import Draft, Stream, exact_form
from evalft.expansion.words import Words
from evalft.records import Example

SHARED_ENVIRONMENTS = (2, 1)
MAX_EXCHANGES = 3
MAX_SPAN_WORDS = 12
LONG_WORDS = 60
"""Words (and marks) of a row, the frame not counted, from which sentences are exchanged instead of spans."""
MAX_WORDS = 20_000
"""Words of train inputs to learn from: what bounds time and memory."""
MAX_MISSES = 300
"""Tries in succession that bring nothing new before a stream counts as used up."""
MAX_FILLERS_TRIED = 30
MAX_WORDS_PER_ENVIRONMENT = 50
"""Words of one environment that are compared with each other: an environment that takes anything says little."""
MIN_CLASS_WORDS = 3
MIN_SHARE = 1 / 4
"""Of their environments, what words of a class (of the commoner one) and spans (of the rarer one) have in common."""

START, END = "<start>", "<end>"  # no piece of a text: it would be three
CLASS = "\0"
"""Begins the name of a class: no word does."""
Environment = tuple[str, str]


def inputs(rows: Sequence[Example], *, seed: int) -> Stream:
    """New inputs for a teacher to answer, those with the best evidence first; no two alike, none a train input."""
    sampled, said = _sampled(rows, seed)
    pieces = _Pieces(sampled, [None] * len(sampled))
    tiers = [_tries(pieces, shared, seed, keep_target=False) for shared in SHARED_ENVIRONMENTS]
    return Stream(_new_only(tiers, rows), said)


def rows(rows: Sequence[Example], task: TaskConfig, *, seed: int) -> Stream:
    """New inputs with their targets, where no teacher answers.

    Labels: pieces are exchanged between rows of the same labels only, which the new row keeps. Generation: what rows
    copy from input to target is exchanged in both (`copied`); the stream is empty where no row copies anything."""
    if task.type == "generation":
        return Stream(_new_only([copied.tries(rows, seed)], rows))
    sampled, said = _sampled(rows, seed)
    pieces = _Pieces(
        sampled, [frozenset([row.target] if isinstance(row.target, str) else row.target) for row in sampled]
    )
    return Stream(_new_only([_tries(pieces, SHARED_ENVIRONMENTS[0], seed, keep_target=True)], rows), said)


def _sampled(rows: Sequence[Example], seed: int) -> tuple[list[Example], tuple[str, ...]]:
    """As many rows, drawn by the seed, as `MAX_WORDS` allow."""
    taken: list[int] = []
    count = 0
    for index in random.Random(seed).sample(range(len(rows)), len(rows)):
        count += len(words.pieces(str(rows[index].input)))
        if taken and count > MAX_WORDS:
            break
        taken.append(index)
    if len(taken) == len(rows):
        return list(rows), ()
    said = f"recombination uses a seeded sample of {len(taken):,} of {len(rows):,} train rows ({MAX_WORDS:,} words)"
    return [rows[index] for index in sorted(taken)], (said,)


def _new_only(tiers: Sequence[Iterator[Draft]], rows: Sequence[Example]) -> Iterator[Draft]:
    seen = {exact_form(str(row.input)) for row in rows}
    for tries in tiers:
        misses = 0
        for draft in tries:
            form = exact_form(draft.input)
            if draft.input and form not in seen:
                seen.add(form)
                misses = 0
                yield draft
            elif (misses := misses + 1) >= MAX_MISSES:
                break


def _tries(pieces: _Pieces, shared: int, seed: int, *, keep_target: bool) -> Iterator[Draft]:
    """Endless; many of them are no change or were seen before."""
    rng = random.Random(seed)
    while pieces.rows:
        base = rng.randrange(len(pieces.rows))
        text, donors = pieces.varied(base, shared, rng)
        row = pieces.rows[base]
        parents = tuple(dict.fromkeys([row.id, *(pieces.rows[donor].id for donor in donors)]))
        yield Draft(text, row.target if keep_target else None, "recombine", parents)


class _Pieces:
    """The rows taken apart, and what was learned about which spans are interchangeable.

    `groups[i]` is what rows must have in common to give each other pieces."""

    def __init__(self, rows: Sequence[Example], groups: Sequence[Hashable]) -> None:
        self.rows, self.groups = rows, groups
        whole = [words.pieces(str(row.input)) for row in rows]
        self.frame = words.frame(whole)
        self.bodies = [(START, *words.inside(text, self.frame), END) for text in whole]
        self.longest = max(map(len, self.bodies), default=0)
        short = [body for number, body in enumerate(self.bodies) if not self._is_long(number)]
        self.paired = _paired(short)
        self.classes = _classes(short, self.paired)
        self.environments: dict[Words, set[Environment]] = defaultdict(set)
        """Of each span, words replaced by their class."""
        self.fillers: dict[tuple[Hashable, Environment], list[tuple[Words, int]]] = {}
        """What stood in an environment, each span once, with a row of the group that has it."""
        self.sentences: dict[tuple[Hashable, str], list[tuple[str, int]]] = defaultdict(list)
        """What stood first, last or between in long rows, and in which."""
        self._learn_spans()
        self._learn_sentences()

    def varied(self, base: int, shared: int, rng: random.Random) -> tuple[str, list[int]]:
        """The row's input after some exchanges, and the rows that gave the pieces."""
        if self._is_long(base):
            return self._with_other_sentence(base, rng)
        body, donors = self.bodies[base], []
        for _ in range(rng.randint(1, MAX_EXCHANGES)):
            found = self._exchange(body, self.groups[base], shared, rng)
            if not found:
                break
            body, donor = found
            donors.append(donor)
        head, tail = self.frame
        return words.join((*head, *body[1:-1], *tail)), donors

    def _exchange(self, body: Words, group: Hashable, shared: int, rng: random.Random) -> tuple[Words, int] | None:
        abstract = self._abstract(body)
        places = list(_spans(body))
        rng.shuffle(places)
        for start, end in places:
            out = abstract[start:end]
            if len(self.environments.get(out, ())) < shared or not self._is_balanced(out):
                continue
            fillers = self.fillers.get((group, (abstract[start - 1], abstract[end])), [])
            forms: dict[Words, list[tuple[Words, int]]] = defaultdict(list)
            for filler, donor in rng.sample(fillers, min(MAX_FILLERS_TRIED, len(fillers))):
                form = self._abstract(filler)
                fits = len(body) - len(out) + len(filler) <= self.longest and filler != body[start:end]
                if fits and self._are_interchangeable(form, out, shared):
                    forms[form].append((filler, donor))
            if forms:  # a form first: else the most common one, a single word, would be nearly all there is
                filler, donor = rng.choice(forms[rng.choice(sorted(forms))])
                return body[:start] + filler + body[end:], donor
        return None

    def _are_interchangeable(self, one: Words, other: Words, shared: int) -> bool:
        around, around_other = self.environments[one], self.environments[other]
        needed = max(shared, MIN_SHARE * min(len(around), len(around_other)))
        return len(around & around_other) >= needed

    def _with_other_sentence(self, base: int, rng: random.Random) -> tuple[str, list[int]]:
        """One sentence replaced by another row's: first by first, last by last, inner by inner."""
        parts = words.sentences(str(self.rows[base].input))
        place = rng.choice(range(0, len(parts), 2))
        others = self.sentences[self.groups[base], _position(place, len(parts))]
        parts[place], donor = rng.choice(others)
        return "".join(parts).strip(), [donor]

    # ------------------------------------------------------------ learning

    def _learn_spans(self) -> None:
        fillers: dict[tuple[Hashable, Environment], dict[Words, int]] = defaultdict(dict)
        for number, body in enumerate(self.bodies):
            if self._is_long(number):
                continue
            abstract = self._abstract(body)
            for start, end in _spans(body):
                environment = (abstract[start - 1], abstract[end])
                if not all(word.startswith(CLASS) for word in environment):
                    self.environments[abstract[start:end]].add(environment)
                if self._is_balanced(body[start:end]):
                    fillers[self.groups[number], environment].setdefault(body[start:end], number)
        self.fillers = {place: list(spans.items()) for place, spans in fillers.items()}

    def _learn_sentences(self) -> None:
        for number in range(len(self.rows)):
            if self._is_long(number):
                parts = words.sentences(str(self.rows[number].input))
                for place in range(0, len(parts), 2):
                    self.sentences[self.groups[number], _position(place, len(parts))].append((parts[place], number))

    def _is_long(self, number: int) -> bool:
        return len(self.bodies[number]) > LONG_WORDS

    def _abstract(self, span: Words) -> Words:
        return tuple(self.classes.get(word, word) for word in span)

    def _is_balanced(self, span: Words) -> bool:
        return all(span.count(word) % 2 == 0 for word in span if word in self.paired)


def _spans(body: Words) -> Iterator[tuple[int, int]]:
    last = len(body) - 1
    for start in range(1, last):
        for end in range(start + 1, min(last, start + MAX_SPAN_WORDS) + 1):
            yield start, end


def _position(place: int, count: int) -> str:
    return "first" if place == 0 else "last" if place >= count - 2 else "inner"


def _paired(bodies: Sequence[Words]) -> frozenset[str]:
    """Words that every row has an even number of times."""
    even, odd = set[str](), set[str]()
    for body in bodies:
        for word, count in Counter(body).items():
            (odd if count % 2 else even).add(word)
    return frozenset(even - odd)


def _classes(bodies: Sequence[Words], paired: frozenset[str]) -> dict[str, str]:
    """Word -> its class (named after one of its words), for the words that have one."""
    found = _seeds(bodies, paired)
    while found:
        around: dict[str, set[Environment]] = defaultdict(set)
        around_class: dict[str, set[Environment]] = defaultdict(set)
        for body in bodies:
            for before, word, after in zip(body, body[1:], body[2:], strict=False):
                environment = (found.get(before, before), found.get(after, after))
                (around_class[found[word]] if word in found else around[word]).add(environment)
        names = sorted(around_class)
        joining = {
            word: name
            for word in sorted(around)
            if word not in paired
            for name in names
            if around[word] <= around_class[name]
        }
        if not joining:
            break
        found |= joining
    return found


def _seeds(bodies: Sequence[Words], paired: frozenset[str]) -> dict[str, str]:
    """Words are in the class of a word with which they share two environments, and enough of the commoner one's."""
    around: dict[str, set[Environment]] = defaultdict(set)
    for body in bodies:
        for before, word, after in zip(body, body[1:], body[2:], strict=False):
            if word not in paired:
                around[word].add((before, after))
    together: dict[Environment, list[str]] = defaultdict(list)
    for word in sorted(around):
        for environment in around[word]:
            together[environment].append(word)
    shared = Counter(pair for same in together.values() for pair in combinations(same[:MAX_WORDS_PER_ENVIRONMENT], 2))
    leader = {word: word for word in around}

    def find(word: str) -> str:
        while leader[word] != word:
            word = leader[word]
        return word

    for (first, second), count in sorted(shared.items()):
        if count >= 2 and count >= MIN_SHARE * max(len(around[first]), len(around[second])):
            leader[find(second)] = find(first)
    sizes = Counter(map(find, leader))
    return {word: CLASS + find(word) for word in leader if sizes[find(word)] >= MIN_CLASS_WORDS}
