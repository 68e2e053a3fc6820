"""A provider without sockets, for virtual time: token buckets of requests and tokens a minute, behind the Candidate seam."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from evalft.candidates import Attempt, RateLimit, Resource, rate_limits
from evalft.prompts import Request
from evalft.records import Failure, Prediction, Usage

Headers = Literal["none", "openai", "anthropic"]
ANSWER_TOKENS = 5
REFUSAL_S = 0.05


@dataclass
class Bucket:
    """`per_min` a minute, of which `holds` can be saved up."""

    per_min: float
    holds: float
    at: float = 0.0
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.holds

    @property
    def per_s(self) -> float:
        return self.per_min / 60

    def fill(self, now: float) -> None:
        self.level = min(self.holds, self.level + (now - self.at) * self.per_s)
        self.at = now


class SimulatedServer:
    """The candidate and its provider in one. A request that finds either bucket too empty is refused with 429.

    A request takes a quarter of its prompt's characters in tokens. Buckets hold `holds_s` seconds' worth, one request
    at least (the tokens of two)."""

    remote = True
    name = "simulated"

    def __init__(
        self,
        requests_per_min: float,
        tokens_per_min: float = math.inf,
        *,
        holds_s: float = 60.0,
        latency_s: tuple[float, float] = (0.2, 0.2),
        headers: Headers = "none",
        retry_after: bool = False,
        says_which: bool = True,
        largest: int = 100,
        seed: int = 0,
    ) -> None:
        self.buckets = {"requests": Bucket(requests_per_min, max(1.0, requests_per_min / 60 * holds_s))}
        if math.isfinite(tokens_per_min):
            self.buckets["tokens"] = Bucket(tokens_per_min, max(2.0 * largest, tokens_per_min / 60 * holds_s))
        self._latency_s, self._headers, self._retry_after, self._says_which = (
            latency_s,
            headers,
            retry_after,
            says_which,
        )
        self._rng = random.Random(seed)
        self.served: list[tuple[float, str]] = []
        self.refused: list[tuple[float, str]] = []
        self.in_flight = self.most_in_flight = 0

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        (request,) = batch
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return [await self._answer(request)]
        finally:
            self.in_flight -= 1

    async def _answer(self, request: Request) -> Attempt:
        await asyncio.sleep(self._rng.uniform(0.01, 0.02))  # the way there
        now = asyncio.get_running_loop().time()
        size = len(request.messages[-1]["content"]) // 4
        costs = {"requests": 1.0, "tokens": float(size)}
        for bucket in self.buckets.values():
            bucket.fill(now)
        short = [name for name, bucket in self.buckets.items() if bucket.level < costs[name]]
        if short:
            self.refused.append((now, request.id))
            said, wait_s = self._said(), self._wait_s(short, costs)
            await asyncio.sleep(REFUSAL_S)
            return Attempt(
                Failure(request.id, request.index, request.repeat, "api_error", f"HTTP 429: too many {short[0]}"),
                retry=True,
                throttled=True,
                throttled_by=("tokens" if short[0] == "tokens" else "requests") if self._says_which else None,
                retry_after_s=float(math.ceil(wait_s)) if self._retry_after else None,
                rate_limits=said,
            )
        for name, bucket in self.buckets.items():
            bucket.level -= costs[name]
        self.served.append((now, request.id))
        said = self._said()
        await asyncio.sleep(self._rng.uniform(*self._latency_s))
        usage = Usage(size - ANSWER_TOKENS, ANSWER_TOKENS)
        answer = Prediction(request.id, request.index, request.repeat, "yes", ("yes",), usage=usage)
        return Attempt(answer, rate_limits=said)

    def _wait_s(self, short: Sequence[str], costs: dict[str, float]) -> float:
        return max((costs[name] - self.buckets[name].level) / self.buckets[name].per_s for name in short)

    def _said(self) -> dict[Resource, RateLimit]:
        found = {}
        for name, bucket in self.buckets.items():
            full_in_s = (bucket.holds - bucket.level) / bucket.per_s
            said = {"limit": f"{bucket.per_min:.0f}", "remaining": f"{bucket.level // 1:.0f}"}
            if self._headers == "openai":
                said["reset"] = f"{full_in_s // 60:.0f}m{full_in_s % 60:.3f}s"
                found |= {f"x-ratelimit-{key}-{name}": value for key, value in said.items()}
            if self._headers == "anthropic":
                said["reset"] = (datetime.now(UTC) + timedelta(seconds=full_in_s)).isoformat()
                found |= {f"anthropic-ratelimit-{name}-{key}": value for key, value in said.items()}
        return rate_limits.read(found)

    # ------------------------------------------------------------ the rest of the seam

    def start(self) -> list[str]:
        return []

    def identity(self) -> dict[str, object]:
        return {}

    def worst_case_usd(self, request: Request) -> float:
        return 0.0

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        return ((request,) for request in requests)

    async def close(self) -> None:
        pass
