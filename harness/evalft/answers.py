"""What a text answer says: its labels, or why it cannot be used.

Two readers, and it is always known which one understood an answer. The strict one takes an answer that is exactly
what was asked for. The lenient one takes what a person would still read without a doubt ("**Spam**.", "Label: spam",
`{"label": "spam"}`, one label named in a sentence) and marks it `rescued`. An answer in which a person could doubt
(two labels, none, a denied one) is a failure, never a guess. Endpoints that can are asked for JSON of a schema,
`{"label": ...}` or `{"labels": [...]}`; such an answer is read strictly whoever gives it, and any other JSON object
is `wrong_schema` where no label can be read from it.

An answer is hostile text: every pattern here runs in time linear in its length, and nothing in it makes `read` raise.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from evalft.records import FailureKind, TaskType

SCHEMA_KEY = {"classification": "label", "multilabel": "labels"}
"""The only key of an answer in JSON, by type of task."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`labels` is None for generation and for failures; () is a real empty multi-label answer."""

    labels: tuple[str, ...] | None = None
    rescued: bool = False
    failure: FailureKind | None = None
    message: str = ""


def read(text: str | None, finish_reason: str | None, task_type: TaskType, labels: Sequence[str] = ()) -> Reading:
    """Read one answer of a model. `labels` are the task's; those found are given in their order, each once.

    An answer that was cut off (`finish_reason` "length") is the failure `truncated`, unless a whole label stands there
    already: nothing behind the cut could have made it another label.
    """
    cut = finish_reason == "length"
    answer = without_thinking(text or "")
    if not answer.strip():
        return _truncated() if cut else Reading(failure="empty", message="the answer is empty")
    if task_type == "generation":
        return _truncated() if cut else Reading()
    reader = _reader(tuple(labels))
    try:
        data = _json(answer)
    except _KeyTwice:
        return _unparsable(f"the answer is JSON that says a key twice: {_short(answer)}")
    of_schema = reader.of_schema(data, SCHEMA_KEY[task_type])
    if of_schema is not None:
        return Reading(of_schema)
    if task_type == "multilabel":
        reading = _truncated() if cut else reader.several(answer)
    else:
        reading = reader.one_cut_off(answer) if cut else reader.one(answer)
    if reading.failure == "unparsable" and isinstance(data, dict):
        return Reading(
            failure="wrong_schema", message=f"{reading.message}; it is JSON, but not of the schema asked for"
        )
    return reading


def without_thinking(text: str) -> str:
    """The answer behind a leading `<think>...</think>` of a reasoning model; "" where the thinking never ended."""
    start = text.lstrip()
    if not start.startswith("<think>"):
        return text
    return start.partition("</think>")[2].lstrip()


# ---------------------------------------------------------------- the reader of one task's labels


@lru_cache(maxsize=16)
def _reader(labels: tuple[str, ...]) -> _Reader:
    return _Reader(labels)


class _Reader:
    """Both readers for one list of labels. "Folded" text has its case, accents' encoding and separators evened out."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.order = {label: place for place, label in enumerate(labels)}
        self.fold = _fold_that_keeps_apart(labels)
        self.exact = {label.strip(): label for label in labels}
        self.folded = {self.fold(label): label for label in labels}
        self.find_exact = _finder(self.exact)
        self.find_folded = _finder(self.folded)
        # "A" is an article as well: a label of one letter counts alone or after "Answer:", never within a sentence.
        self.find_in_prose = _finder(key for key in self.folded if not re.fullmatch("[A-Za-z]", key))
        self.none_is_a_label = self.fold("none") in self.folded

    def one(self, answer: str) -> Reading:
        """Classification: the answer is, or names, exactly one label."""
        strict = self.exact.get(answer.strip())
        if strict is not None:
            return Reading((strict,))
        folded = self.fold(answer)
        first_line = folded.partition("\n")[0]
        for part in (folded, self._json_label(answer), first_line, *_after_markers(first_line)):
            label = self._is_label(part)
            if label is not None:
                return Reading((label,), rescued=True)
        marked = {self._begins_with(rest) for rest in _after_markers(folded)} - {None}
        named = self._ordered(marked or self._mentions(folded))
        if len(named) == 1:
            return Reading(named, rescued=True)
        if named:
            return _unparsable(f"the answer names {len(named)} labels ({_short(', '.join(named))})")
        return _unparsable(f"the answer names no label of the task: {_short(answer)}")

    def of_schema(self, data: object, key: str) -> tuple[str, ...] | None:
        """The labels of an object with this one key, which holds an exact label, or a list of them (`labels`)."""
        if not isinstance(data, dict) or list(data) != [key]:
            return None
        said = data[key] if key == "labels" else [data[key]]
        if not isinstance(said, list) or not all(isinstance(label, str) and label in self.exact for label in said):
            return None
        return self._ordered({self.exact[label] for label in said})

    def one_cut_off(self, answer: str) -> Reading:
        """Classification, cut off: whole are a first line that ended, and a label that no longer label begins with."""
        label = self.exact.get(answer.strip())
        if label is not None and not any(other != label and other.startswith(label) for other in self.exact.values()):
            return Reading((label,))
        first_line, ended, _ = self.fold(answer.lstrip()).partition("\n")
        label = self._is_label(first_line) if ended else None
        return Reading((label,), rescued=True) if label is not None else _truncated()

    def several(self, answer: str) -> Reading:
        """Multi-label: a list of labels, or the word none."""
        stripped = answer.strip()
        if stripped == "[]" or (stripped == "none" and not self.none_is_a_label):
            return Reading(())
        strict = self._exact_list(stripped)
        if strict is not None:
            return Reading(self._ordered(strict))
        found = self._json_labels(answer)
        if found is None:
            folded = self.fold(answer)
            marked = _after_markers(folded)
            parts = [*marked, folded] if len(marked) == 1 else [folded]
            found = next((read for part in parts if (read := self._mentions_or_none(part)) is not None), None)
            if found is None:
                return _unparsable(f"the answer names no label of the task: {_short(answer)}")
        if found == {None}:
            return _unparsable(f"the answer lists only labels that the task does not have: {_short(answer)}")
        return Reading(self._ordered(found), rescued=True)

    # ------------------------------------------------ parts of an answer

    def _exact_list(self, text: str) -> set[str] | None:
        """The labels of an answer that is nothing but exact labels and separators, or a JSON list of them."""
        if text.startswith("["):
            data = _json(text)
            if isinstance(data, list) and data and all(isinstance(item, str) and item in self.exact for item in data):
                return {self.exact[item] for item in data}
        found: set[str] = set()
        end = 0
        for match in self.find_exact(text):
            if not (_separates(text[end : match.start()]) if found else match.start() == 0):
                return None
            found.add(self.exact[match[0]])
            end = match.end()
        return found if found and not text[end:].strip() else None

    def _is_label(self, folded: str | None) -> str | None:
        """The label that this piece of text is, once quotes, markdown, bullets and punctuation are taken away."""
        for text in () if folded is None else (folded, _BULLET.sub("", folded, count=1)):
            matches = _at_most_two(self.find_folded(text))
            if len(matches) == 1 and all(_DECORATION.fullmatch(rest) for rest in _around(text, matches[0])):
                return self.folded[matches[0][0]]
        return None

    def _begins_with(self, folded: str) -> str | None:
        """The label at the head of what follows "Answer:", where a sentence or the line ends behind it."""
        for match in self.find_folded(folded):
            if _DECORATION.fullmatch(folded, 0, match.start()) and _END_OF_SENTENCE.match(folded, match.end()):
                return self.folded[match[0]]
            break
        return None

    def _mentions(self, folded: str) -> set[str | None]:
        """Every label named as whole words and not denied."""
        return {self.folded[match[0]] for match in self.find_in_prose(folded) if not _is_denied(folded, match)}

    def _json_label(self, answer: str) -> str | None:
        data = _json_in(answer)
        if isinstance(data, dict):
            data = _value_of(data)
        return self.fold(data) if isinstance(data, str) else None

    def _json_labels(self, answer: str) -> set[str | None] | None:
        """The labels of a JSON answer (None among them for one unknown); None where the answer is not such JSON."""
        data = _json_in(answer)
        if isinstance(data, dict):
            flags = {self._is_label(self.fold(key)): value for key, value in data.items() if isinstance(value, bool)}
            if flags.keys() - {None}:
                return {label for label, applies in flags.items() if applies and label is not None}
            data = _value_of(data)
        if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
            return None
        return {self._is_label(self.fold(item)) for item in data}

    def _mentions_or_none(self, folded: str) -> set[str | None] | None:
        """The labels named; the empty set where it says none of them; None where it says neither."""
        said = folded.strip(" \t\n\"'`*_.,;:!()<>").casefold()
        says_none = said in _NONE or said.startswith(("none of the", "no labels apply"))
        return self._mentions(folded) or (set() if says_none and not self.none_is_a_label else None)

    def _ordered(self, found: Iterable[str | None]) -> tuple[str, ...]:
        return tuple(sorted((label for label in found if label is not None), key=self.order.__getitem__))


# ---------------------------------------------------------------- patterns

# Never two neighbouring repeats that match the same character: that is what makes a pattern's time explode.
_DECORATION = re.compile(r"[\s\"'`*_~>.,;:!?()\[\]{}<>“”‘’«»「」『』。、！？…-]*")
_BULLET = re.compile(r"^\s*(?:[-*•>#]+|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+")
_END_OF_SENTENCE = re.compile(r"[\"'`*_)\]}”’»」]*(?:[.!?;。！？]|\s*$|[^\S\n]*\n|\s[-–—(])")
_MARKER = re.compile(
    r"\b(?:answer|labels?|category|categories|class|classification|prediction|intent|sentiment|topics?|genres?|tags?)"
    r"[*_`\"']*[ \t]?(?:(?:is|are)(?!\w)|[:=])",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"(?:\b(?:not|non|never|neither|nor|no|without)|n['’]t)[ -]+(?:(?:a|an|the|about) ){0,2}[\"'`*_“‘]*$", re.IGNORECASE
)
_ANSWERED_NO = re.compile(r"[\"'`*_”’]*[ \t]?[:=][ \t]?[\"'`*_]*(?:no|false|0|\d*\.\d+)\b", re.IGNORECASE)
_NONE = {"none", "no label", "no labels", "nothing", "n/a", "null", "[]", "{}"}
_FENCE = re.compile(r"```(?:json)?\n?([^`]*)```")
_JSON_KEYS = ("label", "labels", "answer", "category", "categories", "class", "classes", "prediction", "tags", "genres")


def _after_markers(folded: str) -> list[str]:
    """What follows each "answer:", "the label is", ... up to the next one."""
    markers = list(_MARKER.finditer(folded))
    ends = [marker.start() for marker in markers[1:]] + [len(folded)]
    return [folded[marker.end() : end] for marker, end in zip(markers, ends, strict=False)]


def _is_denied(text: str, match: re.Match[str]) -> bool:
    """Denied ("not spam", "isn't spam", "spam: no"), or given a score ("spam: 0.3") that nobody can read as yes or no."""
    before = text[max(0, match.start() - 30) : match.start()]
    return bool(_DENIAL.search(before) or _ANSWERED_NO.match(text, match.end()))


Finder = Callable[[str], Iterable[re.Match[str]]]


def _finder(keys: Iterable[str]) -> Finder:
    """Finds the keys that stand in a text as whole words, the longest at each place, without overlaps.

    One alternation per kind of first character, so that the engine can skip most places by that character alone.
    """
    kinds: dict[str, list[str]] = {}
    for key in sorted((key for key in keys if key), key=len, reverse=True):
        kinds.setdefault(_boundary_before(key[0]), []).append(re.escape(key) + _boundary_after(key[-1]))
    if not kinds:
        return lambda _text: ()
    pattern = re.compile("|".join(f"{before}(?:{'|'.join(several)})" for before, several in kinds.items()))
    return pattern.finditer


def _boundary_before(char: str) -> str:
    if _is_written_without_spaces(char):
        return ""
    return r"(?<!\w)(?<![+-])(?<!\d[.,/])" if char.isdigit() else r"(?<!\w)"


def _boundary_after(char: str) -> str:
    if _is_written_without_spaces(char):
        return ""
    return r"(?!\w)(?![.,/]\d)(?!%)" if char.isdigit() else r"(?!\w)"


def _is_written_without_spaces(char: str) -> bool:
    """Han, kana and Thai run on without spaces, and Korean hangs particles on its words: no boundary to look for."""
    name = unicodedata.name(char, "")
    return name.startswith(("HANGUL", "CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"))


def _fold_that_keeps_apart(labels: Collection[str]) -> Callable[[str], str]:
    """The most forgiving way to compare text under which no two of the labels become one."""
    for fold in (_fold_all, _fold_case, _fold_encoding):
        if len({fold(label) for label in labels}) == len(set(labels)):
            return fold
    return str.strip


def _fold_all(text: str) -> str:
    """card_arrival, Card-Arrival and card arrival are one."""
    return re.sub(r"[^\S\n]+", " ", re.sub(r"(?<=[^\W_])[_-](?=[^\W_])", " ", _fold_case(text)))


def _fold_case(text: str) -> str:
    return unicodedata.normalize("NFC", _fold_encoding(text).casefold())


def _fold_encoding(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


# ---------------------------------------------------------------- JSON


def _json_in(answer: str) -> object:
    """The JSON that an answer is, or holds in a fence or between its first { and last }; None where there is none."""
    if "{" not in answer and "[" not in answer:
        return None
    fence = _FENCE.search(answer)
    braced = answer[answer.find("{") : answer.rfind("}") + 1]
    for text in (answer, fence[1] if fence else "", braced):
        with suppress(_KeyTwice):
            data = _json(text)
            if isinstance(data, dict | list):
                return data
    return None


class _KeyTwice(Exception):
    """An object that says a key twice says two things."""


def _json(text: str) -> object:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError):
        return None


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise _KeyTwice
    return data


def _value_of(data: dict[str, object]) -> object:
    """What `{"label": ...}` holds, or an object of one key whatever its name."""
    named = [value for key, value in data.items() if key.casefold() in _JSON_KEYS]
    if not named and len(data) == 1:
        named = list(data.values())
    return named[0] if len(named) == 1 else None


# ---------------------------------------------------------------- failures


def _truncated() -> Reading:
    return Reading(failure="truncated", message="the answer was cut off at the token limit; set a larger max_tokens")


def _unparsable(message: str) -> Reading:
    return Reading(failure="unparsable", message=message)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "...")


def _around(text: str, match: re.Match[str]) -> tuple[str, str]:
    return text[: match.start()], text[match.end() :]


def _separates(gap: str) -> bool:
    """Whether what stands between two labels is one comma, semicolon, bar or line end, and space."""
    return gap.strip() in (",", ";", "|") or (gap.isspace() and "\n" in gap)


def _at_most_two(matches: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    found = []
    for match in matches:
        found.append(match)
        if len(found) == 2:
            break
    return found
