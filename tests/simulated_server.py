"""A provider without sockets, for virtual time: token buckets of requests and tokens a minute, behind the Candidate seam."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalft.candidates import Attempt, RateLimit, Resource, rate_limits
from evalft.prompts import Request
from evalft.records import Failure, Prediction, Usage

Headers = Literal["none", "openai", "anthropic"]


@dataclass
class Bucket:
    """`per_min` a minute, of which `holds_s` seconds' worth can be saved up."""

    per_min: float
    holds_s: float
    at: float = 0.0
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.holds = max(1.0, self.per_s * self.holds_s)
        self.level = self.holds

    @property
    def per_s(self) -> float:
        return self.per_min / 60

    def fill(self, now: float) -> None:
        self.level = min(self.holds, self.level + (now - self.at) * self.per_s)
        self.at = now


class SimulatedServer:
    """The candidate and its provider in one. A request that finds either bucket too empty is refused with 429."""

    remote = True
    name = "simulated"

    def __init__(
        self,
        requests_per_min: float,
        tokens_per_min: float = math.inf,
        *,
        latency_s: tuple[float, float] = (0.2, 0.2),
        holds_s: float = 60.0,
        headers: Headers = "none",
        retry_after: bool = False,
        says_which: bool = True,
        tokens: tuple[int, int] = (100, 100),
        refusal_s: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.buckets: dict[Resource, Bucket] = {"requests": Bucket(requests_per_min, holds_s)}
        if math.isfinite(tokens_per_min):
            self.buckets["tokens"] = Bucket(tokens_per_min, holds_s)
            self.buckets["tokens"].holds = max(self.buckets["tokens"].holds, 2.0 * tokens[1])
        self._latency_s, self._headers, self._retry_after = latency_s, headers, retry_after
        self._says_which, self._tokens, self._refusal_s = says_which, tokens, refusal_s
        self._rng = random.Random(seed)
        self.served: list[tuple[float, int]] = []
        self.refused: list[float] = []
        self.most_in_flight = self.in_flight = 0

    # ------------------------------------------------------------ what a provider does

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        (request,) = batch
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return [await self._answer(request)]
        finally:
            self.in_flight -= 1

    async def _answer(self, request: Request) -> Attempt:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._rng.uniform(0.01, 0.02))  # the way there
        now = loop.time()
        size = len(request.messages[-1]["content"]) // 4
        costs: dict[Resource, float] = {"requests": 1.0, "tokens": float(size)}
        for bucket in self.buckets.values():
            bucket.fill(now)
        empty = [resource for resource, bucket in self.buckets.items() if bucket.level < costs[resource]]
        if empty:
            self.refused.append(now)
            wait_s = max((costs[one] - self.buckets[one].level) / self.buckets[one].per_s for one in empty)
            said = self._said(now)
            await asyncio.sleep(self._refusal_s)
            return Attempt(
                Failure(request.id, request.index, request.repeat, "api_error", f"HTTP 429: {empty[0]}"),
                retry=True,
                throttled=True,
                throttled_by=empty[0] if self._says_which else None,
                retry_after_s=float(math.ceil(wait_s)) if self._retry_after else None,
                rate_limits=said,
            )
        for resource, bucket in self.buckets.items():
            bucket.level -= costs[resource]
        self.served.append((now, size))
        said = self._said(now)
        await asyncio.sleep(self._rng.uniform(*self._latency_s))
        usage = Usage(size - 5, 5)
        return [
            Attempt(
                Prediction(request.id, request.index, request.repeat, "yes", ("yes",), usage=usage),
                rate_limits=said,
            )
        ][0]

    def _said(self, now: float) -> Mapping[Resource, RateLimit]:
        found: dict[str, str] = {}
        for resource, bucket in self.buckets.items():
            full_s = (bucket.holds - bucket.level) / bucket.per_s
            if self._headers == "openai":
                found |= {
                    f"x-ratelimit-limit-{resource}": f"{bucket.per_min:.0f}",
                    f"x-ratelimit-remaining-{resource}": f"{int(bucket.level)}",
                    f"x-ratelimit-reset-{resource}": f"{full_s * 1000:.0f}ms",
                }
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
