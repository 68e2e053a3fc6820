"""How fast to ask: as fast as the provider serves, learned from what its headers say and from what it refuses.

Providers meter requests and tokens in token buckets that refill at a fixed rate (OpenAI's and Anthropic's rate limit
pages say so). What is learned of each of the two is its rate:

- **Nothing known**: no limit but the requests in flight, which go from a few to the ceiling, one more per answer.
- **Headers** state a limit per minute and what remains of it. Above a fifth of the limit the rest of the bucket is used
  as fast as it goes; below, requests go just under the rate at which it refills.
- **A refusal** means an empty bucket. Between two refusals all that was served is what was refilled, so `served / time`
  is the rate itself, however full the bucket was at first. Until 20 requests were served between the first refusal and
  the last, the rate is (served + 1) / time, which stays above the true one and so keeps the bucket empty, doubling in
  every few requests that are not refused.
- **A measured rate** is gone under by 5 %, then approached and passed as CUBIC does with a window (Ha, Rhee & Xu 2008;
  RFC 9438): flat near the rate, steeper the longer nothing is refused; each refusal measures it again.

Requests are spaced evenly, each by its own size over the rate (the leaky bucket as a meter of ITU-T I.371, also known
as GCRA), since the bucket of a server may hold no more than a second's worth.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from evalft.candidates import Attempt, RateLimit, Resource
from evalft.records import Failure, Usage

FIRST_IN_FLIGHT = 8
DEAD_AFTER = (20, 30.0)
"""So many failed connections and 5xx in a row: the server is down; so many seconds since anything else: it is gone."""
BYTES_PER_TOKEN = 4.0
"""Of a prompt, before the first answer says how many tokens it had."""

ENOUGH = 20
"""Requests served between two refusals before their number over the time is taken for the rate: one more or less of
them is 5 %."""
UNDER = 0.06
"""How far a measured rate is gone under."""
PATIENCE_S, PATIENCE_REQUESTS = 20.0, 100
"""Time (and requests, whichever takes longer) from there back to the measured rate."""
DOUBLING_S, DOUBLING_REQUESTS = 1.0, 4
"""The same for doubling a rate that was not measured yet."""
TOO_EARLY = 3
"""Refusals in a row before that: the rate is another one now."""
RARE = 0.25
"""Of the requests: what is refused while the rate is cut in half, where a lower limit would refuse more."""
DEAF_S = 60.0
"""How long refusals that do not come of the rate change nothing about it."""
LEAN = 6.0
"""Of refused requests towards large ones, in standard deviations (with a memory of about 20): short of tokens."""
SLOWEST_PER_S = 0.05
"""Requests a second below which a rate is not guessed, only measured."""
SHORT_WAIT_S = 2.0
"""A Retry-After up to this is for the refused request, whose place in a full bucket comes; a longer one is for all."""
FREE_SHARE = 0.2
"""Of a stated limit: while more remains, requests are not spaced."""
LATE_S = 0.05
"""What a timer that fires late may catch up."""
SLOWER = 0.9
"""A rate below so much of the one last told is told."""


@dataclass(slots=True)
class Ticket:
    """One request on its way: when it went, its size, and how much had gone by then, itself included."""

    sent_at: float
    size_bytes: int
    took: dict[Resource, float]
    gone: dict[Resource, float]


class Limit:
    """What is known of the rate limit of one resource, in units (requests or tokens) per second."""

    def __init__(self) -> None:
        self.gone = 0.0
        self._next_at = 0.0
        self._early = 0
        """Refusals in a row that came before a measured rate was back."""
        self._cut_from = (math.inf, 0.0, 0.0)
        """The rate before the first of them, what had gone by then, and when that was."""
        self._deaf_until = -math.inf
        self._refused = 0.0
        """Since the refusal to measure from."""
        self._stated: float | None = None
        self._free_until = math.inf
        """`gone` from which on little remains of the stated limit."""
        self._believed: float | None = None
        self._since = 0.0
        self._patience = 0.0
        """0 while the believed rate is a guess."""
        self._empty: tuple[float, float] | None = None
        """The refusal to measure from: when it was sent, and what had gone by then."""

    def rate(self, now: float) -> float:
        rate = math.inf
        if self._believed is not None:
            since_s = now - self._since
            if self._patience:
                rate = self._believed * (1 + UNDER * (since_s / self._patience_s - 1) ** 3)
            else:
                rate = self._believed * 2 ** min(30.0, since_s / self._doubling_s)
        if self._stated is not None and self.gone >= self._free_until:
            rate = min(rate, (1 - UNDER / 2) * self._stated)
        return rate

    def wait_s(self, now: float) -> float:
        return self._next_at - now

    def send(self, units: float, now: float) -> float:
        self.gone += units
        self._next_at = max(self._next_at, now - LATE_S) + units / self.rate(now)
        return self.gone

    def state(self, said: RateLimit, gone: float) -> None:
        """What the headers of an answer say of the time when `gone` units had gone."""
        self._stated = said.per_s
        self._free_until = gone + said.remaining - FREE_SHARE * said.limit

    def refuse(self, units: float, sent_at: float, gone: float, now: float) -> None:
        if now < self._deaf_until:
            self._refused += units
            if self._refused > max(ENOUGH * units, RARE * (gone - self._cut_from[1])):
                self._deaf_until = now
            return
        if self._empty is None:
            self._measure_from(sent_at, gone)
            if self._stated is not None:
                self._know(self._stated, now, 1.0, units)
                self._cut_from = (self._stated, gone, now)
            return
        since, gone_then = self._empty
        if gone <= gone_then or sent_at <= since:
            return
        self._refused += units
        served, time_s = gone - gone_then - self._refused, sent_at - since
        measured = max(SLOWEST_PER_S * units, served / time_s)
        enough = served >= ENOUGH * units and time_s >= 1.0 or served >= ENOUGH / 2 * units and time_s >= 15.0
        if not self._patience:
            if enough:
                self._know(measured, now, 0.25, units)
                self._cut_from = (measured, gone, now)
                self._measure_from(sent_at, gone)
            else:
                guess = measured + units / time_s
                self._guess(guess, now, units)
                self._next_at -= 0.75 * units / guess  # look again soon, lest a bucket of one request runs over
        elif sent_at > self._since:
            asked, early = self.rate(now), now - self._since < self._patience_s
            rate = math.sqrt(measured * asked) if enough else asked
            if early:
                self._early += 1
                rate = min(rate, asked * (0.97 if self._early < TOO_EARLY else 0.9))
            else:
                self._early, self._cut_from = 0, (asked, gone, now)
                self._measure_from(sent_at, gone)
            self._know(rate, now, min(1.0, self._patience * (1 if early else 2)), units)
            self._doubt(gone, now)

    def _doubt(self, gone: float, now: float) -> None:
        """Refusals that stay rare while the rate is cut in half do not come of the rate."""
        rate_then, gone_then, then = self._cut_from
        if self._early > TOO_EARLY and self.rate(now) < rate_then / 2:
            if self._refused < RARE * (gone - gone_then) and now - then < DEAF_S / 2:
                self._believed, self._since, self._patience_s = rate_then, now, DEAF_S
                self._early, self._refused, self._deaf_until = 0, 0.0, now + DEAF_S
            self._cut_from = (self.rate(now), gone, now)

    def _measure_from(self, sent_at: float, gone: float) -> None:
        self._empty, self._refused = (sent_at, gone), 0.0

    def _guess(self, rate: float, now: float, units: float) -> None:
        self._believed, self._since, self._patience = rate, now, 0.0
        self._doubling_s = max(DOUBLING_S, DOUBLING_REQUESTS * units / rate)

    def _know(self, rate: float, now: float, patience: float, units: float) -> None:
        self._believed, self._since, self._patience = rate, now, patience
        self._patience_s = patience * max(PATIENCE_S, PATIENCE_REQUESTS * units / rate)


class Pace:
    """The places in flight of one candidate, given out at the rate its provider serves."""

    def __init__(self, ceiling: int, tell: Callable[[str], None] = lambda _line: None) -> None:
        """`tell` is given a line wherever asking becomes slower."""
        self._ceiling = ceiling
        self._tell = tell
        self._told: dict[Resource, float] = {"requests": math.inf, "tokens": math.inf}
        self._places = min(ceiling, FIRST_IN_FLIGHT)
        self._in_flight = 0
        self._limits: dict[Resource, Limit] = {"requests": Limit(), "tokens": Limit()}
        self._tokens = _TokenCount()
        self._sizes = _Sizes()
        self._hold_until = 0.0
        self._waiting: list[tuple[bool, int, int, asyncio.Future[Ticket]]] = []
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gate = asyncio.Event()
        self._failures = 0
        self._answered_at = -math.inf
        """When the server last said anything but that it is broken."""

    @contextlib.asynccontextmanager
    async def slot(self, size_bytes: int = 0, *, again: bool = False) -> AsyncIterator[Ticket]:
        """A place in flight for a request with a prompt of `size_bytes`; those asked `again` go first."""
        loop = asyncio.get_running_loop()
        if not self._numbers:
            self._answered_at = loop.time()
        place: asyncio.Future[Ticket] = loop.create_future()
        self._numbers += 1
        heapq.heappush(self._waiting, (not again, self._numbers, size_bytes, place))
        self._give_places()
        try:
            yield await place
        finally:
            if place.done() and not place.cancelled():
                self._in_flight -= 1
            self._give_places()

    @property
    def gate_open(self) -> bool:
        return self._gate.is_set()

    def open_gate(self) -> None:
        """Nobody waits any longer: asking has ended, and all that is left is to say so."""
        self._gate.set()
        self._give_places()

    async def sleep(self, wait_s: float) -> None:
        """Until the next try, or until asking ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._gate.wait()

    def _give_places(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting:
            *_, size_bytes, place = self._waiting[0]
            if not place.done():
                if not self.gate_open:
                    if self._in_flight >= self._places:
                        return
                    wait_s = max(self._hold_until - now, *(limit.wait_s(now) for limit in self._limits.values()))
                    if wait_s > 0:
                        self._look_again_at(now + wait_s)
                        return
                self._in_flight += 1
                place.set_result(self._ticket(size_bytes, now))
            heapq.heappop(self._waiting)

    def _look_again_at(self, when: float) -> None:
        if self._timer is None or self._timer.when() > when:
            if self._timer:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._give_places()

    def _ticket(self, size_bytes: int, now: float) -> Ticket:
        took: dict[Resource, float] = {"requests": 1.0, "tokens": self._tokens.expected(size_bytes)}
        self._sizes.sent(size_bytes)
        gone = {resource: self._limits[resource].send(units, now) for resource, units in took.items()}
        return Ticket(now, size_bytes, took, gone)

    def learn(self, ticket: Ticket, attempt: Attempt) -> None:
        """What came of a request."""
        now = asyncio.get_running_loop().time()
        if attempt.broken or (isinstance(attempt.outcome, Failure) and attempt.outcome.failure == "connection"):
            self._failures += 1
        else:
            self._failures = 0
            self._answered_at = now
        for resource, said in attempt.rate_limits.items():
            self._limits[resource].state(said, ticket.gone[resource])
        if attempt.throttled:
            resource = attempt.throttled_by or self._sizes.short_of(ticket.size_bytes)
            limit = self._limits[resource]
            wait_s = attempt.retry_after_s or 0.0
            if wait_s > SHORT_WAIT_S or limit.rate(now) == math.inf:
                self._hold_until = max(self._hold_until, now + wait_s)
            again_at = max(now, self._hold_until)
            limit.refuse(ticket.took[resource], ticket.sent_at, ticket.gone[resource], again_at)
            self._tell_if_slower(again_at, getattr(attempt.outcome, "message", ""))
        elif not attempt.retry and not attempt.stops:
            self._places = min(self._ceiling, self._places + 1)
            self._tokens.learn(ticket.size_bytes, attempt.outcome.usage)
            headers = "little remains of the limit that its headers state"
            self._tell_if_slower(now, headers if attempt.rate_limits else "as many as it served lately")
        self._give_places()

    def _tell_if_slower(self, at: float, why: str) -> None:
        for resource, limit in self._limits.items():
            rate, told = limit.rate(at), self._told[resource]
            if rate < SLOWER * told:
                before = f"slower, from {60 * told:,.0f} to" if math.isfinite(told) else "from now on at most"
                self._tell(f"{before} {60 * rate:,.0f} {resource} a minute: {why}")
            if rate < SLOWER * told or told < rate < math.inf:
                self._told[resource] = rate

    @property
    def server_is_down(self) -> bool:
        return self._failures >= DEAD_AFTER[0]

    def server_is_gone(self, now: float) -> bool:
        return self.server_is_down and now - self._answered_at >= DEAD_AFTER[1]


class _TokenCount:
    """Tokens that a request is expected to take: its prompt at the ratio seen so far, and a mean answer."""

    def __init__(self) -> None:
        self._answers = self._bytes = self._input = self._output = 0

    def expected(self, size_bytes: int) -> float:
        if not self._bytes:
            return max(1.0, size_bytes / BYTES_PER_TOKEN)
        return max(1.0, size_bytes * self._input / self._bytes + self._output / self._answers)

    def learn(self, size_bytes: int, usage: Usage | None) -> None:
        if usage and not usage.estimated:
            self._answers += 1
            self._bytes += size_bytes
            self._input += usage.input_tokens
            self._output += usage.output_tokens


class _Sizes:
    """Which limit a server is short of that does not say: of tokens, where it refuses large requests sooner than small."""

    def __init__(self) -> None:
        self._count = self._sum = self._squares = 0
        self._lean = 0.0

    def sent(self, size_bytes: int) -> None:
        self._count += 1
        self._sum += size_bytes
        self._squares += size_bytes**2

    def short_of(self, size_bytes: int) -> Resource:
        """After a refusal of a request of this size."""
        mean = self._sum / self._count
        deviation = math.sqrt(max(0.0, self._squares / self._count - mean**2))
        if deviation > 0.05 * mean:
            self._lean = 0.95 * self._lean + (size_bytes - mean) / deviation
        return "tokens" if self._lean > LEAN else "requests"
