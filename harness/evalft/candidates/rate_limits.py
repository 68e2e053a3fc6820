"""Rate limit headers of an answer -> RateLimit per resource: OpenAI's names and Anthropic's.

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, reset as a duration such as `6m0s` or `12ms`. Anthropic:
`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, reset as a time of RFC 3339; where it gives no total of
tokens, the scarcer of input and output tokens. Both document limits per minute and the reset as the time until the
bucket is full. Others use OpenAI's names for limits per day, which the time to refill what was used tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from evalft.candidates import RateLimit, Resource

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RESOURCES: tuple[Resource, ...] = ("requests", "tokens")


def read(headers: Mapping[str, str]) -> dict[Resource, RateLimit]:
    """What `headers` (names in lower case, or a mapping that does not mind) say, without what is missing or odd."""
    found: dict[Resource, RateLimit] = {}
    for resource in _RESOURCES:
        names = [f"x-ratelimit-{{}}-{resource}", f"anthropic-ratelimit-{resource}-{{}}"]
        if resource == "tokens":
            names += ["anthropic-ratelimit-input-tokens-{}", "anthropic-ratelimit-output-tokens-{}"]
        said = [limit for name in names if (limit := _limit(headers, name)) is not None]
        if said:
            found[resource] = min(said, key=lambda limit: limit.remaining / limit.limit)
    return found


def _limit(headers: Mapping[str, str], name: str) -> RateLimit | None:
    limit, remaining = _number(headers.get(name.format("limit"))), _number(headers.get(name.format("remaining")))
    if not limit or remaining is None:
        return None
    per_s, full_in_s = limit / 60, _seconds(headers.get(name.format("reset")))
    if full_in_s is not None and full_in_s > 61:
        per_s = min(per_s, (limit - remaining) / full_in_s)
    return RateLimit(limit, remaining, per_s) if per_s > 0 else None


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,15}(\.\d+)?", text) else None


def _seconds(text: str | None) -> float | None:
    """`1s`, `6m0.5s`, `12ms`, plain seconds, or a time of RFC 3339."""
    if not text:
        return None
    if re.fullmatch(r"[\d.]+", text):
        text += "s"
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    try:
        return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
