"""The same input said a little differently, by rules that keep its meaning and therefore its target.

Any language: the full stop or question mark at the end left out. English only (where the text looks like it): contractions
and their long forms, "please" before a request. What all inputs share at their ends stays as it is.
For generation tasks a change of words that the target holds too is left out: the target would have to change as well.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

from evalft.config import TaskConfig
from evalft.expansion import words
from evalft.expansion.drafts import Draft, Stream, exact_form
from evalft.records import Example

_CONTRACTIONS = {
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "is not": "isn't",
    "are not": "aren't",
    "was not": "wasn't",
    "were not": "weren't",
    "cannot": "can't",
    "could not": "couldn't",
    "would not": "wouldn't",
    "should not": "shouldn't",
    "will not": "won't",
    "have not": "haven't",
    "has not": "hasn't",
    "i am": "i'm",
    "i have not": "i haven't",
    "i will": "i'll",
    "you are": "you're",
    "we are": "we're",
    "they are": "they're",
    "what is": "what's",
    "where is": "where's",
    "that is": "that's",
    "it is": "it's",
}
_LONG_FORMS = {short: long for long, short in _CONTRACTIONS.items() if not short.endswith("'s")}  # it's: is or has
_ENGLISH = frozenset(
    "a an and are at be by can did do does for from have how i if in is it me my not of on or please so that the their "
    "there they this to was we what when where which who why will with would you your".split()
)
_REQUESTS = frozenset(
    "add book call cancel change check explain find get give help list make open order play read remind send set show "
    "start stop tell transfer turn update write".split()
)
_ENDS = (".", "?", "。", "？")


def rows(rows: Sequence[Example], task: TaskConfig, *, seed: int) -> Stream:
    """Drafts with the row's own target: every row's first rewording, then every row's second ...; finite, no two alike."""
    english = looks_english([str(row.input) for row in rows])
    said = () if english else ("paraphrases: the inputs do not look English, so only the mark at their end is varied",)
    return Stream(_drafts(rows, task, english, seed), said)


def looks_english(texts: Sequence[str]) -> bool:
    """Whether a sixth of the words are common English function words."""
    found = [word for text in texts[:1000] for word in words.compared(text)]
    return bool(found) and 6 * sum(word in _ENGLISH for word in found) >= len(found)


def _drafts(rows: Sequence[Example], task: TaskConfig, english: bool, seed: int) -> Iterator[Draft]:
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    seen = {exact_form(str(row.input)) for row in rows}
    whole = [words.pieces(str(row.input)) for row in rows]
    head, tail = words.frame(whole)
    forms = dict[int, list[str]]()
    for index in order:
        inside = words.inside(whole[index], (head, tail))
        body = words.join(inside)
        space = inside[0][: -len(inside[0].lstrip())] if inside else ""
        target = str(rows[index].target) if task.type == "generation" else ""
        new = [form for form in _rewordings(body, english) if not _touches(target, body, form)]
        forms[index] = [words.join((*head, space + form, *tail)) for form in new]
    for turn in range(max(map(len, forms.values()), default=0)):
        for index in order:
            if turn < len(forms[index]) and (form := exact_form(forms[index][turn])) not in seen:
                seen.add(form)
                yield Draft(forms[index][turn], rows[index].target, "paraphrase", (rows[index].id,))


def _rewordings(text: str, english: bool) -> list[str]:
    rules: list[Callable[[str], str]] = [_contracted, _expanded, _please, _end_mark] if english else [_end_mark]
    alone = [rule(text) for rule in rules]
    twice = [_end_mark(form) for form in alone[:-1] if form != text]
    return [form for form in dict.fromkeys([*alone, *twice]) if form != text]


def _contracted(text: str) -> str:
    return _swapped(text, _CONTRACTIONS, behind=r"\s+\w")  # never at the end of a sentence: "yes, it is"


def _expanded(text: str) -> str:
    # Not in a question: "don't you" is not "do not you".
    subject = "i|you|he|she|it|we|they|this|that|these|those|there|the|a|an|my|your|our|his|her|their"
    return _swapped(text.replace("’", "'"), _LONG_FORMS, behind=rf"\s+(?!(?:{subject})\b)\w")


def _swapped(text: str, forms: dict[str, str], behind: str) -> str:
    """With every form replaced that stands before what the pattern `behind` describes."""
    pattern = rf"\b(?:{'|'.join(map(re.escape, sorted(forms, key=len, reverse=True)))})(?={behind})"

    def other(found: re.Match[str]) -> str:
        form = forms[found[0].lower()]
        return form[0].upper() + form[1:] if found[0][0].isupper() else form

    return re.sub(pattern, other, text, flags=re.IGNORECASE)


def _please(text: str) -> str:
    first, _, rest = text.partition(" ")
    if first.lower() not in _REQUESTS or not rest or "please" in text.lower():
        return text
    return f"{'Please' if first[0].isupper() else 'please'} {first.lower()} {rest}"


def _end_mark(text: str) -> str:
    """Without its last full stop or question mark."""
    return text[:-1].rstrip() if text[-1:] in _ENDS and not text.endswith("..") else text


def _touches(target: str, before: str, after: str) -> bool:
    """Whether words or marks that one text has and the other has not stand in the target."""
    held = set(_tokens(target))
    return bool(held & (set(_tokens(before)) ^ set(_tokens(after))))


def _tokens(text: str) -> list[str]:
    return re.findall(r"[\w'’]+|[^\w\s]", text.lower())
