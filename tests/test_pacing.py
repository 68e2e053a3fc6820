"""Requests go at the rate that a provider serves, whatever it says of it: in virtual time, and once over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import virtual_time
from api_server import error, serving
from evalft import config, pipeline
from evalft.candidates import Attempt, rate_limits
from evalft.config import LimitsConfig
from evalft.execution import Asking
from evalft.prompts import Request
from evalft.records import Failure, Outcome
from evalft.spending import Ledger
from evalft.store import RunFolder
from simulated_server import Bucket, Headers, SimulatedServer

WINDOW_S = (30.0, 180.0)
"""In which a quota must be used and kept."""
MIXED = (50, 150)
"""Tokens of a request."""


def requests(count: int, sizes: tuple[int, int] = (100, 100), seed: int = 0) -> list[Request]:
    rng = random.Random(seed)
    texts = ("x" * 4 * rng.randint(*sizes) for _ in range(count))
    return [Request(f"r{i}", i, 0, ({"role": "user", "content": text},)) for i, text in enumerate(texts)]


def ask(
    server: SimulatedServer,
    asked: Sequence[Request],
    folder: Path,
    for_s: float | None = None,
    meanwhile: Callable[[asyncio.Event], Awaitable[None]] | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    **limits: Any,
) -> list[Outcome]:
    """Ask in virtual time, for so many seconds or to the end; what came of it. `meanwhile` gets the event that stops."""
    outcomes: list[Outcome] = []
    random.seed(1)  # of the jitter between tries: the same run each time

    async def main() -> None:
        stop = asyncio.Event()
        run = RunFolder(folder)
        run.create()
        ledger = Ledger(run.file("spending"), 5.0)
        asking = Asking(
            server, asked, folder=run, ledger=ledger, limits=LimitsConfig(**limits), cache=None,
            notify=outcomes.append, stop=stop, tell=tell,
        )  # fmt: skip
        await asking.open(None)
        other = asyncio.create_task(meanwhile(stop)) if meanwhile else None  # type: ignore[arg-type]
        task = asyncio.create_task(asking.finish())
        await asyncio.wait([task], timeout=for_s)
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, *([other] if other else []), return_exceptions=True)
        ledger.close()

    virtual_time.run(main())
    return outcomes


def shares(server: SimulatedServer, window_s: tuple[float, float], per_s: float) -> tuple[float, float]:
    """(of what could be served in the window, how much was; of all that was sent, how much was refused)."""
    start, end = window_s
    served = sum(start <= at < end for at, _ in server.served)
    refused = sum(start <= at < end for at, _ in server.refused)
    return served / (per_s * (end - start)), refused / max(1, served + refused)


def keeps_to_the_quota(
    folder: Path, per_min: float, tokens_per_min: float, sizes: tuple[int, int], seed: int = 0, **style: Any
) -> None:
    server = SimulatedServer(per_min, tokens_per_min, largest=sizes[1], seed=seed, **style)
    ask(server, requests(int(per_min * 4.5) + 100, sizes, seed), folder, for_s=WINDOW_S[1] + 1)
    in_flight_64 = 64 / (sum(style["latency_s"]) / 2 + 0.015)
    per_s = min(per_min / 60, tokens_per_min / 60 / (sum(sizes) / 2), in_flight_64)
    used, refused = shares(server, WINDOW_S, per_s)
    assert used >= 0.9, f"{used:.0%} of the quota was used"
    assert refused < 0.02, f"{refused:.1%} of the requests were refused"
    assert server.most_in_flight <= 64


STYLES: list[tuple[Headers, bool]] = [("none", False), ("none", True), ("openai", False), ("anthropic", True)]
HOLDS_S = (60.0, 1.0)
SLOW = pytest.mark.slow


@pytest.mark.parametrize("latency_s", [(0.2, 0.2), (0.2, 2.0)])
@pytest.mark.parametrize("holds_s", HOLDS_S)
@pytest.mark.parametrize(("headers", "retry_after"), STYLES)
@pytest.mark.parametrize("per_min", [60, pytest.param(600, marks=SLOW)])
def test_a_quota_of_requests_is_used_and_kept(
    tmp_path: Path, per_min: int, headers: Headers, retry_after: bool, holds_s: float, latency_s: tuple[float, float]
) -> None:
    style = {"latency_s": latency_s, "holds_s": holds_s, "headers": headers, "retry_after": retry_after}
    keeps_to_the_quota(tmp_path, per_min, math.inf, (100, 100), **style)


@pytest.mark.parametrize("says_which", [True, False])
@pytest.mark.parametrize("holds_s", HOLDS_S)
@pytest.mark.parametrize(("headers", "retry_after"), [STYLES[0], *(pytest.param(*s, marks=SLOW) for s in STYLES[1:])])
def test_a_quota_of_tokens_is_used_and_kept(
    tmp_path: Path, headers: Headers, retry_after: bool, holds_s: float, says_which: bool
) -> None:
    style = {"latency_s": (0.2, 1.0), "holds_s": holds_s, "headers": headers, "retry_after": retry_after}
    keeps_to_the_quota(tmp_path, 600, 30_000, MIXED, says_which=says_which, **style)


@pytest.mark.slow
@pytest.mark.parametrize("per_min", [120, 1_000, 3_000, 10_000])
def test_quotas_of_all_sizes_are_used_and_kept(tmp_path: Path, per_min: int) -> None:
    styles = list(enumerate(itertools.product(STYLES, HOLDS_S, [(0.2, 0.2), (0.2, 2.0)])))
    for i, ((headers, retry_after), holds_s, latency_s) in styles[:: 1 if per_min < 3_000 else 3]:
        style = {"latency_s": latency_s, "holds_s": holds_s, "headers": headers, "retry_after": retry_after}
        tokens_per_min = per_min * 50 if i % 2 and per_min >= 1_000 else math.inf
        sizes = MIXED if math.isfinite(tokens_per_min) else (100, 100)
        keeps_to_the_quota(tmp_path / str(i), per_min, tokens_per_min, sizes, seed=i, **style)


def test_a_quota_that_is_cut_in_half_is_followed(tmp_path: Path) -> None:
    server = SimulatedServer(600, holds_s=1.0)

    async def cut(stop: asyncio.Event) -> None:
        await asyncio.sleep(60)
        server.buckets["requests"].per_min = 300

    ask(server, requests(2000), tmp_path, for_s=180, meanwhile=cut)
    used, refused = shares(server, (90.0, 180.0), 300 / 60)
    assert used >= 0.9 and refused < 0.02


def test_a_small_test_set_is_not_spaced_where_the_bucket_holds_it(tmp_path: Path) -> None:
    server = SimulatedServer(600, headers="openai")
    ask(server, requests(300), tmp_path)
    assert not server.refused
    assert server.served[-1][0] < 300 / (600 / 60) / 5  # five times as fast as the bucket refills


def test_no_row_fails_for_a_rate_limit(tmp_path: Path) -> None:
    for holds_s, retry_after in itertools.product(HOLDS_S, (False, True)):
        server = SimulatedServer(60, holds_s=holds_s, retry_after=retry_after)
        outcomes = ask(server, requests(200), tmp_path / f"{holds_s}{retry_after}")
        assert len(outcomes) == 200 and not [one for one in outcomes if isinstance(one, Failure)]


# ---------------------------------------------------------------- what is waited for


class Scripted(SimulatedServer):
    """Answers as `script` says: given the request and which of its tries this is."""

    def __init__(self, script: Callable[[Request, int], Attempt | None]) -> None:
        super().__init__(math.inf)
        self._script = script
        self.tries: dict[str, list[float]] = {}

    async def _answer(self, request: Request) -> Attempt:
        times = self.tries.setdefault(request.id, [])
        times.append(asyncio.get_running_loop().time())
        return self._script(request, len(times)) or await super()._answer(request)


def failed(request: Request, message: str, **how: Any) -> Attempt:
    return Attempt(Failure(request.id, request.index, request.repeat, "api_error", message), **how)


def test_a_retry_waits_as_long_as_the_server_says_and_longer_each_time_where_it_does_not(tmp_path: Path) -> None:
    def script(request: Request, number: int) -> Attempt | None:
        refused = request.id == "r1" and number <= 4
        return failed(request, "HTTP 429: no", retry=True, throttled=True, retry_after_s=said) if refused else None

    waits: dict[float | None, list[float]] = {}
    for said in (7.0, None):
        server = Scripted(script)
        ask(server, requests(5), tmp_path / str(said))
        waits[said] = [later - sooner for sooner, later in itertools.pairwise(server.tries["r1"])]
    assert len(waits[7.0]) == 4 and min(waits[7.0]) >= 7.0
    assert len(waits[None]) == 4 and waits[None][0] >= 0.5 and waits[None][3] > 2 * waits[None][0]


def test_the_same_5xx_three_times_fails_that_row_and_says_so(tmp_path: Path) -> None:
    def script(request: Request, number: int) -> Attempt | None:
        if request.id == "r3":
            return failed(request, "HTTP 500: boom", retry=True, broken=True)
        if request.id == "r4" and number <= 4:
            return failed(request, f"HTTP 500: boom {number}", retry=True, broken=True)
        return None

    server = Scripted(script)
    outcomes = {outcome.id: outcome for outcome in ask(server, requests(20), tmp_path)}
    broken = outcomes["r3"]
    assert isinstance(broken, Failure) and (broken.tries, len(server.tries["r3"])) == (3, 3)
    assert "HTTP 500: boom" in broken.message and "the same 3 times" in broken.message
    assert not isinstance(outcomes["r4"], Failure) and outcomes["r4"].tries == 5


def test_rows_that_fell_into_an_outage_are_owed_again(tmp_path: Path) -> None:
    down = True

    def script(request: Request, number: int) -> Attempt | None:
        return failed(request, "HTTP 503: busy", retry=True, broken=True) if down and request.index >= 10 else None

    lost = ask(Scripted(script), requests(500), tmp_path)
    assert len(lost) == 500  # each row has its outcome ...
    down = False
    server = Scripted(script)
    ask(server, requests(500), tmp_path)
    outcomes = RunFolder(tmp_path).read_predictions("simulated")
    assert len(outcomes) == 500 and not [one for one in outcomes if isinstance(one, Failure)]
    assert not set(server.tries) & {f"r{i}" for i in range(10)}  # ... and those with an answer are not asked again


@pytest.mark.parametrize(
    "how", [{"stops": True}, {"retry": True, "throttled": True, "retry_after_s": 86_400.0}], ids=["refused", "quota"]
)
def test_a_candidate_that_stops_leaves_nobody_waiting_for_a_turn(tmp_path: Path, how: dict[str, Any]) -> None:
    """At one request a second the rest would wait for hours before hearing of it."""
    server = SimulatedServer(60, headers="openai")
    answer = server._answer

    async def until_refused(request: Request) -> Attempt:
        return failed(request, "HTTP 401: no", **how) if request.index >= 100 else await answer(request)

    server._answer = until_refused  # type: ignore[method-assign]
    outcomes = ask(server, requests(1000), tmp_path, for_s=600)
    assert len(outcomes) == 1000
    assert {outcome.tries for outcome in outcomes[-800:]} == {0}


def test_an_interrupt_ends_the_wait_for_a_turn_and_for_the_next_try(tmp_path: Path) -> None:
    def script(request: Request, number: int) -> Attempt | None:
        return failed(request, "HTTP 429: no", retry=True, throttled=True, retry_after_s=500.0)

    ended: list[float] = []

    async def interrupt(stop: asyncio.Event) -> None:
        await asyncio.sleep(5)
        stop.set()
        await asyncio.sleep(0.1)
        ended.append(len(asyncio.all_tasks()))

    ask(Scripted(script), requests(100), tmp_path, meanwhile=interrupt)
    assert ended and ended[0] <= 4  # asking itself is over: no worker sleeps on


def test_an_example_is_given_up_after_its_tries(tmp_path: Path) -> None:
    def script(request: Request, number: int) -> Attempt | None:
        return failed(request, f"HTTP 500: {number}", retry=True, broken=True) if request.id == "r1" else None

    server = Scripted(script)
    (gone,) = [one for one in ask(server, requests(5), tmp_path, max_tries=4) if isinstance(one, Failure)]
    assert (gone.tries, len(server.tries["r1"])) == (4, 4)


# ---------------------------------------------------------------- headers


def test_headers_of_both_providers_are_read() -> None:
    openai = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    found = rate_limits.read(openai)
    assert (found["requests"].limit, found["requests"].remaining, found["requests"].per_s) == (60, 59, 1.0)
    assert found["tokens"].per_s == pytest.approx(16 / 360)  # takes minutes to refill: no limit per minute
    soon = (datetime.now(UTC) + timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%SZ")
    anthropic = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": soon,
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "1000",
    }
    found = rate_limits.read(anthropic)
    assert found["requests"].per_s == pytest.approx(50 / 60)
    assert found["tokens"].limit == 8000  # the scarcer of the two


@given(
    st.dictionaries(
        st.sampled_from([f"x-ratelimit-{part}-requests" for part in ("limit", "remaining", "reset")]),
        st.one_of(st.text("0123456789.msh:-TZ", max_size=12), st.from_regex(r"\A\d{1,3}(\.\d)?(ms|s|m|h)?\Z")),
    )
)
def test_odd_headers_say_nothing_and_break_nothing(headers: dict[str, str]) -> None:
    for limit in rate_limits.read(headers).values():
        assert limit.limit > 0 and limit.remaining >= 0 and 0 < limit.per_s < math.inf


# ---------------------------------------------------------------- over real sockets


@pytest.mark.slow
@pytest.mark.parametrize("with_headers", [False, True])
def test_a_real_server_is_asked_at_its_rate(tmp_path: Path, with_headers: bool) -> None:
    """15 requests a second, a bucket of a second's worth, 45 s: most of it, and few refusals. (Nine tenths in virtual time,
    above: here a busy machine takes its share.)"""
    bucket = Bucket(900, 15.0, at=time.monotonic())
    start = time.monotonic()
    served, refused = [], []

    async def script(body: dict[str, Any], number: int) -> Any:
        now = time.monotonic()
        bucket.fill(now)
        if bucket.level < 1:
            refused.append(now - start)
            return error(429, "Rate limit reached", code="rate_limit_exceeded", headers={"Retry-After": "1"})
        bucket.level -= 1
        served.append(now - start)
        said = {"x-ratelimit-limit-requests": "900", "x-ratelimit-remaining-requests": str(int(bucket.level))}
        await asyncio.sleep(0.3)
        text = {"choices": [{"message": {"role": "assistant", "content": "ham"}, "finish_reason": "stop"}]}
        text["usage"] = {"prompt_tokens": 10, "completion_tokens": 1}  # type: ignore[assignment]
        return web.json_response(text, headers=said if with_headers else {})

    rows = [{"id": f"r{i}", "text": f"message {i}", "label": "ham" if i % 2 else "spam"} for i in range(45 * 15)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(script) as server:
        data: dict[str, Any] = {
            "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
            "providers": {"mock": {"base_url": server.base_url}},
            "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1, "output": 2}}],
        }
        result = pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run")
    assert result.summary["candidates"][0]["coverage"]["scored"] == len(rows)
    late = [at for at in served if at >= 15]
    assert len(late) >= 0.5 * 15 * (late[-1] - 15)
    assert sum(at >= 15 for at in refused) < 0.02 * len(late) + 1


def test_each_slow_down_of_the_pace_is_told_from_what_to_what_and_why(tmp_path: Path) -> None:
    told: list[str] = []
    ask(SimulatedServer(600.0, holds_s=5.0), requests(2_000), tmp_path, 60.0, tell=told.append)
    steps = [
        re.match(r"(?:slower, from ([\d,]+) to|from now on at most) ([\d,]+) requests a minute: HTTP 429", line)
        for line in told
    ]
    assert steps and all(steps), told
    for step in filter(None, steps):
        before, after = (float(each.replace(",", "")) if each else math.inf for each in step.groups())
        assert after < before
    served = ask(SimulatedServer(1e9), requests(200), tmp_path / "free", tell=told.append)
    assert len(served) == 200 and len(told) == len(steps), "nothing is told of a pace that no one slows"


def test_a_limit_that_headers_state_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    ask(SimulatedServer(600.0, headers="openai"), requests(2_000), tmp_path, 120.0, tell=told.append)
    (said,) = told
    assert said.startswith("from now on at most ") and said.endswith("limit that its headers state")
