"""The body of a chat completion, from bytes of anyone's server to a record whose fields are what they say they are.

A body is hostile input: it may be nested too deep to parse, hold numbers where text belongs, half a surrogate pair
(which is no text and cannot be written to a file), or ends named as another provider's API does. What cannot be
understood is absent here, so that it becomes a named failure and never an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalft.candidates.usage import read_usage
from evalft.records import Usage

ENDS = {
    "max_tokens": "length",
    "model_length": "length",
    "refusal": "refusal",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
}
"""What other APIs behind a compatible endpoint call the end of an answer (Anthropic's stop_reason, Gemini's
FinishReason, Mistral's finish_reason), in OpenAI's words; `refusal` stays, and is one."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The first choice of a completion; None for what is not there."""

    text: str | None
    refusal: str | None
    finish_reason: str | None
    logprobs: Sequence[Mapping[str, Any]]
    """One entry per token of the answer; () where none came back."""
    usage: Usage | None
    has_choice: bool
    error: object = None
    """An error object in place of the choices, with status 200 all the same."""


def parse(body: bytes) -> Completion:
    """Raises ValueError where the body is not the JSON of an object."""
    try:
        data = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(data, dict):
        raise ValueError("the body is not an object")
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    found = choice.get("message")
    message: Mapping[str, Any] = found if isinstance(found, dict) else {}
    refusal = message.get("refusal")
    return Completion(
        text=_text(message.get("content")),
        refusal=whole_text(str(refusal)) if refusal else None,
        finish_reason=_end(choice.get("finish_reason")),
        logprobs=_logprobs(choice.get("logprobs")),
        usage=read_usage(data.get("usage") or data.get("usageMetadata")),
        has_choice=bool(choice),
        error=None if choices else data.get("error"),
    )


def whole_text(text: str) -> str:
    """Halves of surrogate pairs replaced: JSON can spell them, a file cannot hold them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(content: object) -> str | None:
    if isinstance(content, list):  # some servers answer in parts
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return whole_text(content) if isinstance(content, str) else None


def _end(reason: object) -> str | None:
    if not isinstance(reason, str):
        return None
    reason = whole_text(reason)
    return ENDS.get(reason.lower(), reason)


def _logprobs(found: object) -> Sequence[Mapping[str, Any]]:
    content = found.get("content") if isinstance(found, dict) else None
    return [step for step in content if isinstance(step, dict)] if isinstance(content, list) else ()
