"""One seam: a candidate turns batches of requests into attempts, and nothing else knows what is behind it.

`api.py` asks an OpenAI-compatible server, `local.py` runs a Hugging Face model in this process, `fake.py` answers by rule
for tests and measurements. Bounds, pacing, retries, cache, budget and the disk are execution's: a candidate tries once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from evalft.prompts import Request
from evalft.records import Outcome


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one request."""

    outcome: Outcome
    retry: bool = False
    """A later try may succeed (429, 5xx, timeout, connection, malformed or empty body)."""
    retry_after_s: float | None = None
    """The server said how long to wait."""
    throttled: bool = False
    """The server refused for its rate limit: send more slowly."""
    stops: bool = False
    """No later request of this candidate can succeed (401, 403, exhausted quota)."""


class Candidate(Protocol):
    name: str
    remote: bool
    """Asked over a network: many requests at once, paced, retried, metered. Else one batch at a time in this process."""

    def start(self) -> list[str]:
        """Make ready (client, weights); returns each choice made as a plain line. Raises CannotStart."""

    def identity(self) -> dict[str, object]:
        """All that identifies an answer besides messages and repeat: part of the cache's key."""

    def worst_case_usd(self, request: Request) -> float:
        """The most one try of this request can be billed."""

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        """The order and grouping in which requests are best asked."""

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        """One try of each request, in order. Never raises for what a server or model does."""

    async def close(self) -> None: ...
