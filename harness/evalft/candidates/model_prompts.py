"""A request as the tokens a local model reads, and what may follow them: its labels, or questions about them.

A tokenizer with a chat template is asked through it. Without one the prompt is plain text: system, blank line, then the
turns; a shot's answer stands on the line below its question (or behind it, where that ends with a colon), and a blank
line parts one shot from the next.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalft.candidates.log_likelihood import Branch
from evalft.prompts import Request
from evalft.records import Message

TAIL_CHARACTERS = 24
"""So much of a prompt's end, and back to the white space before it, is encoded together with every label."""
SAME_TOKENS = 3
"""So many tokens before what a label changes must be those of the whole prompt."""
KNOWN_TAILS = 256
PROBE = '\n\nDoes the label "{label}" apply? Answer yes or no.'


@dataclass(frozen=True, slots=True)
class Row:
    """A request, its prompt as text and as tokens (at least one)."""

    request: Request
    text: str
    tokens: list[int]
    fault: str = ""
    """Why there is no prompt: the chat template refused the messages."""


class ModelPrompts:
    """One tokenizer's way of writing prompts. `template_options` go to the chat template (`enable_thinking` ...)."""

    def __init__(self, tokenizer: Any, labels: Sequence[str], template_options: Mapping[str, object]) -> None:
        from jinja2 import TemplateError

        self.chat = bool(tokenizer.chat_template)
        self.folds_system = False
        """The template has no system role: a system text stands before the first user turn."""
        begin = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        self._begin: int = next(token for token in begin if token is not None)
        self._tokenizer, self._labels, self._template_options = tokenizer, list(labels), template_options
        if self.chat:
            try:
                self.render(({"role": "system", "content": "a"}, {"role": "user", "content": "b"}))
            except TemplateError:
                self.folds_system = True
        self._known_tails: dict[tuple[str, str, int | None, bool], tuple[list[int], int, list[Branch]]] = {}
        self.longest_label = max((len(tokens) for tokens in self.encode(self._labels, special=False)), default=0)

    @property
    def can_think(self) -> bool:
        return "enable_thinking" in str(self._tokenizer.chat_template)

    def rows(self, requests: Sequence[Request]) -> list[Row]:
        from jinja2 import TemplateError

        texts, faults = [], []
        for request in requests:
            try:
                texts.append(self.render(request.messages))
                faults.append("")
            except TemplateError as error:
                texts.append("")
                faults.append(f"the chat template refuses these messages: {error}")
        # a rendered chat template holds its special tokens already
        tokens = self.encode(texts, special=not self.chat)
        return [Row(*row) for row in zip(requests, texts, tokens, faults, strict=True)]

    def raw_rows(self, requests: Sequence[Request]) -> list[Row]:
        """The user's text alone: what a sequence classifier reads."""
        texts = [request.messages[-1]["content"] for request in requests]
        return [Row(*row) for row in zip(requests, texts, self.encode(texts, special=True), strict=True)]

    def render(self, messages: Sequence[Message]) -> str:
        if not self.chat:
            return _plain_text(messages)
        turns = [dict(turn) for turn in messages]
        if self.folds_system and turns[0]["role"] == "system" and len(turns) > 1:
            turns[1]["content"] = f"{turns[0]['content']}\n\n{turns[1]['content']}"
            del turns[0]
        text: str = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False, **self._template_options
        )
        return text

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """`special`: with the tokens that begin (and for classifiers end) a text. Never empty where it is set."""
        if not texts:
            return []
        tokens: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return [some or [self._begin] for some in tokens] if special else tokens

    def decode(self, tokens: list[list[int]]) -> list[str]:
        if not tokens:  # batch_decode would take this for one text
            return []
        texts: list[str] = self._tokenizer.batch_decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    def label_branches(self, rows: Sequence[Row], end: int | None) -> list[tuple[list[int], list[Branch]]]:
        """Per row the prompt's tokens, and a branch per label.

        After a chat template's generation prompt a label is encoded by itself. In plain text it is encoded together with
        the prompt, and what the prompt does not cover is the label's, the white space between them included (as in
        lm-eval). Of the prompt only its last words are encoded with every label, since a tokenizer's choice beyond a
        token that both have does not depend on what stands before it (for byte pairs: Berglund & van der Merwe 2023,
        for unigrams: the best path through a point). The end token is added to a label that is the beginning of
        another: without it the longer never wins.
        """
        if self.chat:
            plan = _with_ends(self.encode(self._labels, special=False), end)
            return [(row.tokens, plan) for row in rows]
        contexts = [row.text.rstrip() for row in rows]
        branches = []
        for row, context, prompt in zip(rows, contexts, self.encode(contexts, special=True), strict=True):
            gap = row.text[len(context) :] or " "
            tail = context[_tail_start(context) :]
            known, lost, labels = self._after(tail, gap, end, special=tail == context)
            # both read the same words before what the labels change: so they would in one text
            if tail != context and _shared_end(prompt, known) < lost + SAME_TOKENS:
                known, lost, labels = self._after(context, gap, end, special=True)
            branches.append((prompt[: len(prompt) - lost] or [self._begin], labels))
        return branches

    def _after(self, tail: str, gap: str, end: int | None, *, special: bool) -> tuple[list[int], int, list[Branch]]:
        """The tokens of a prompt's end, how many of them merge with a label, and the labels' branches behind the rest."""
        key = (tail, gap, end, special)
        if key not in self._known_tails:
            if len(self._known_tails) >= KNOWN_TAILS:
                self._known_tails.clear()
            (known,) = self.encode([tail], special=special)
            whole = self.encode([tail + gap + label for label in self._labels], special=special)
            cut = _shared_length(known, whole)
            branches = _with_ends([label[cut:] for label in whole], end)
            self._known_tails[key] = known, len(known) - cut, branches
        return self._known_tails[key]

    def probe_branches(self, row: Row) -> tuple[list[int], list[Branch]]:
        """What the questions after one prompt, one per label, share, and per label the rest with yes, then with no."""
        *before, last = row.request.messages
        asked = [
            self.render((*before, {**last, "content": last["content"] + PROBE.format(label=label)}))
            for label in self._labels
        ]
        if self.chat:
            questions = self.encode(asked, special=False)
            said = [self.encode(["yes", "no"], special=False)] * len(asked)
        else:
            asked = [text.rstrip() for text in asked]
            questions = self.encode(asked, special=True)
            whole = self.encode([text + answer for text in asked for answer in (" yes", " no")], special=True)
            said = [
                [tokens[len(question) :] for tokens in whole[2 * i : 2 * i + 2]] for i, question in enumerate(questions)
            ]
        shared = min(len(os.path.commonprefix(questions)), *(len(question) - 1 for question in questions))
        branches = [
            Branch((*question[shared:], *answer), start=len(question) - shared)
            for question, several in zip(questions, said, strict=True)
            for answer in several
        ]
        return questions[0][:shared], branches


def _with_ends(labels: list[list[int]], end: int | None) -> list[Branch]:
    tokens = [tuple(label) for label in labels]
    beginnings = {longer[:cut] for longer in tokens for cut in range(len(longer))} if end is not None else set()
    return [Branch((*label, end) if end is not None and label in beginnings else label) for label in tokens]


def _shared_length(prompt: list[int], whole: list[list[int]]) -> int:
    """How many of the prompt's tokens begin every text that goes on from it: all, unless its end merges with a label."""
    length = min(len(prompt), *(len(tokens) - 1 for tokens in whole))
    while any(tokens[:length] != prompt[:length] for tokens in whole):
        length -= 1
    return length


def _tail_start(text: str) -> int:
    """Where the last words of a text begin, with the white space before them; 0 where that would be all of it."""
    start = len(text) - TAIL_CHARACTERS
    while start > 0 and not (text[start].isspace() and not text[start - 1].isspace()):
        start -= 1
    return max(start, 0)


def _shared_end(one: list[int], other: list[int]) -> int:
    """How many last tokens are the same."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _plain_text(messages: Sequence[Message]) -> str:
    """The prompt ends where the answer begins: as the user wrote it or, after shots, at the place that the shots show."""
    *before, last = messages
    text = ""
    for turn in before:
        text += turn["content"] + (_gap(turn["content"]) if turn["role"] == "user" else "\n\n")
    shots = any(turn["role"] == "assistant" for turn in before)
    # a space is left to the answer: it is part of its first token
    return text + last["content"] + (_gap(last["content"]).strip(" ") if shots else "")


def _gap(question: str) -> str:
    if question[-1:].isspace():
        return ""
    return " " if question.endswith(":") else "\n"
