"""Training rows as the tokens that are trained on: the prompt exactly as a local candidate is asked, then the answer.

A row is never cut. Rows that cannot be learned from are left out, counted and named: too long for the model, an empty
answer, an end token in the middle of one, two sides of a preference that are the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from evalft.candidates.model_prompts import ModelPrompts
from evalft.errors import UserError
from evalft.prompts import Request
from evalft.records import Message

ANSWERS = {"sft": ("completion",), "dpo": ("chosen", "rejected")}
MOST_LEFT_OUT = 0.01
"""Share of rows that may be left out before training stops: more is a mistake in the data or the settings."""
TOO_LONG = "too long"


@dataclass(frozen=True, slots=True)
class TextRow:
    where: str
    """file:line."""
    messages: tuple[Message, ...]
    answers: tuple[str, ...]
    """Of SFT the completion, of DPO chosen and rejected."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    prompt: list[int]
    answers: tuple[list[int], ...]
    """Each with the token that ends a turn; these tokens are in the loss, the prompt's are not."""

    @property
    def length(self) -> int:
        return len(self.prompt) + max(len(answer) for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Checked:
    rows: list[TokenRow]
    left_out: int
    longest: int
    """Tokens of the longest row that is kept."""
    said: list[str]


def read(path: Path, method: str) -> list[TextRow]:
    """The rows of a JSON lines file, `{"messages": [...], "completion": ...}` or with `"chosen"` and `"rejected"`.
    Raises UserError with file:line of the first row that is none."""
    names, rows = ANSWERS[method], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: is not JSON: {error}") from None
        if not _is_row(data, names):
            wanted = ", ".join(f'"{name}": text' for name in names)
            raise UserError(f'{path}:{number}: is not {{"messages": [{{"role", "content"}} ...], {wanted}}}')
        rows.append(TextRow(f"{path}:{number}", tuple(data["messages"]), tuple(data[name] for name in names)))
    return rows


def _is_row(data: object, names: Sequence[str]) -> bool:
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in names):
        return False
    turns = data.get("messages")
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(
            isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))
            for turn in turns
        )
    )


def end_token(tokenizer: Any, ends: Sequence[int], template_options: Mapping[str, object]) -> int:
    """The token that a taught answer ends with: the one that the chat template puts behind an assistant turn, where
    generation stops at it (it is among `ends`), else the tokenizer's own. Raises UserError where there is none."""
    if tokenizer.chat_template:
        mark = "answer"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False, **template_options)
        except Exception:  # a template's own code: the tokenizer's end token remains
            text = mark
        behind = tokenizer(text.rpartition(mark)[2], add_special_tokens=False)["input_ids"]
        found = next((token for token in behind if token in ends), None)
        if found is not None:
            return int(found)
    own = [token for token in (tokenizer.eos_token_id, *ends) if token is not None]
    if not own:
        raise UserError(
            "tune.base: its tokenizer and generation_config.json name no end token, so answers could not be taught to "
            "end; set eos_token in tokenizer_config.json, or choose another model"
        )
    return int(own[0])


def encode(rows: Sequence[TextRow], prompts: ModelPrompts, end: int) -> list[TokenRow]:
    """Behind a chat template's generation prompt an answer is encoded by itself; in plain text together with the prompt,
    white space between them included, and cut where the prompt's tokens end: as `ModelPrompts.label_branches` does.
    Raises UserError for messages that the template refuses."""
    asked = prompts.rows([Request("", i, 0, row.messages) for i, row in enumerate(rows)])
    for row, ask in zip(rows, asked, strict=True):
        if ask.fault:
            raise UserError(f"{row.where}: {ask.fault}; change the prompt (task.prompt, system) or choose another base")
    if prompts.chat:
        alone = iter(prompts.encode([answer for row in rows for answer in row.answers], special=False))
        return [
            TokenRow(ask.tokens, tuple([*next(alone), end] for _ in row.answers))
            for row, ask in zip(rows, asked, strict=True)
        ]
    contexts = [ask.text.rstrip() for ask in asked]
    gaps = [ask.text[len(context) :] or " " for ask, context in zip(asked, contexts, strict=True)]
    texts = [
        context + gap + answer for row, context, gap in zip(rows, contexts, gaps, strict=True) for answer in row.answers
    ]
    whole = iter(prompts.encode(texts, special=True))
    made = []
    for row, ask, context in zip(rows, asked, prompts.encode(contexts, special=True), strict=True):
        answers = list(islice(whole, len(row.answers)))
        # the prompt as asked, but for white space at its end that is part of the answer's first token
        prompt = ask.tokens if all(_begins(tokens, ask.tokens) for tokens in answers) else context
        cut = len(prompt)
        while not all(_begins(tokens, prompt[:cut]) for tokens in answers):
            cut -= 1
        begin = prompt[:cut] or prompts.encode([""], special=True)[0]
        made.append(TokenRow(begin, tuple([*tokens[cut:], end] for tokens in answers)))
    return made


def _begins(whole: list[int], beginning: list[int]) -> bool:
    return len(whole) > len(beginning) and whole[: len(beginning)] == beginning


def check(
    rows: Sequence[TextRow], tokens: Sequence[TokenRow], ends: Sequence[int], most: float, limit_is_context: bool
) -> Checked:
    """The rows to train on, of at most `most` tokens. Raises UserError where none or fewer than 99 % are left."""
    if not rows:
        raise UserError("there are no rows to train on")
    reasons: Counter[str] = Counter()
    first: dict[str, str] = {}
    kept = []
    for row, made in zip(rows, tokens, strict=True):
        reason = _reason(row, made, ends, most)
        if reason:
            reasons[reason] += 1
            first.setdefault(reason, row.where)
        else:
            kept.append(made)
    longest = max(made.length for made in tokens)
    left_out = len(rows) - len(kept)
    said = [
        f"{count:,} of {len(rows):,} rows left out, {reason} (first: {first[reason]})"
        for reason, count in reasons.items()
    ]
    if TOO_LONG in reasons:
        said.append(f"the longest row has {longest:,} tokens, {most:,.0f} are allowed")
    if left_out > MOST_LEFT_OUT * len(rows):
        remedy = "correct or remove these rows"
        if TOO_LONG in reasons:
            remedy = (
                "shorten the prompt or the rows, or choose a base with a longer context"
                if limit_is_context
                else f"set tune.max_length to {longest}, or shorten the rows"
            )
        raise UserError(f"{'; '.join(said)}; {remedy}")
    return Checked(kept, left_out, max(made.length for made in kept), said)


def _reason(row: TextRow, made: TokenRow, ends: Sequence[int], most: float) -> str:
    if not all(answer.strip() for answer in row.answers):
        return "an answer is empty"
    if any(token in ends for answer in made.answers for token in answer[:-1]):
        return "an answer has an end token in it"
    if len(made.answers) == 2 and made.answers[0] == made.answers[1]:
        return "chosen and rejected are the same"
    return TOO_LONG if made.length > most else ""
