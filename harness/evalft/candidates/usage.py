"""The tokens that a provider says it billed, from the usage object of its body.

Compatible servers pass on what the model's own API calls it, so three families are read, each as it documents them:

- OpenAI (chat completions, responses): the prompt holds the cached tokens, the completion the reasoning tokens.
  Gemini and xAI leave reasoning out of completion_tokens; then total_tokens is larger than the sum, and the rest was
  reasoning, which is billed as output.
- Anthropic: input_tokens leaves out what was read from or written to the cache.
- Google: promptTokenCount holds the cached tokens, thoughtsTokenCount comes on top of candidatesTokenCount.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalft.records import Usage


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Of two tries of one request."""
    if one is None or other is None:
        return one or other
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.estimated or other.estimated,
        one.cache_write_tokens + other.cache_write_tokens,
    )


def read_usage(body: object) -> Usage | None:
    """None where the object does not say how many tokens went in and came out."""
    if not isinstance(body, dict):
        return None
    if "promptTokenCount" in body:
        return _google(body)
    if "cache_read_input_tokens" in body or "cache_creation_input_tokens" in body:
        return _anthropic(body)
    return _openai(body)


def _openai(body: Mapping[str, Any]) -> Usage | None:
    prompt = _first_count(body, "prompt_tokens", "input_tokens")
    answer = _first_count(body, "completion_tokens", "output_tokens")
    if prompt is None or answer is None:
        return None
    asked = _part(body, "prompt_tokens_details") or _part(body, "input_tokens_details")
    given = _part(body, "completion_tokens_details") or _part(body, "output_tokens_details")
    reasoning = _count(given, "reasoning_tokens") or 0
    total = _count(body, "total_tokens")
    left_out = total - prompt - answer if total is not None else reasoning if reasoning > answer else 0
    cached = _first_count(asked, "cached_tokens") or _first_count(body, "cached_tokens", "prompt_cache_hit_tokens") or 0
    written = _count(asked, "cache_write_tokens") or 0
    left_out = max(0, left_out)
    return _usage(prompt, answer + left_out, cached, written, max(reasoning, left_out))


def _anthropic(body: Mapping[str, Any]) -> Usage | None:
    fresh, answer = _count(body, "input_tokens"), _count(body, "output_tokens")
    if fresh is None or answer is None:
        return None
    cached = _count(body, "cache_read_input_tokens") or 0
    written = _count(body, "cache_creation_input_tokens") or 0
    return _usage(fresh + cached + written, answer, cached, written, 0)


def _google(body: Mapping[str, Any]) -> Usage | None:
    prompt = _count(body, "promptTokenCount")
    answer = _count(body, "candidatesTokenCount") or 0  # left out where all tokens went into thoughts
    if prompt is None:
        return None
    thoughts = _count(body, "thoughtsTokenCount") or 0
    return _usage(prompt, answer + thoughts, _count(body, "cachedContentTokenCount") or 0, 0, thoughts)


def _usage(prompt: int, answer: int, cached: int, written: int, reasoning: int) -> Usage:
    """The parts never exceed their whole, whatever a server says."""
    cached = min(cached, prompt)
    return Usage(
        prompt,
        answer,
        cached_tokens=cached,
        reasoning_tokens=min(reasoning, answer),
        cache_write_tokens=min(written, prompt - cached),
    )


def _count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if type(value) is int and value >= 0 else None


def _first_count(body: Mapping[str, Any], *names: str) -> int | None:
    return next((value for name in names if (value := _count(body, name)) is not None), None)


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
