"""`mode: batch` against a real server of batches: the answers of the live mode at the price of a batch, nothing sent twice,
nothing lost or paid twice through kills at any step, the cap held."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from api_server import completion
from batch_server import BatchServer, Body, Fate, dropped, last, serving_batches
from evalft import batching, cli, config, pipeline, preparing, prices, store
from evalft.concluding import Assessment
from evalft.config import CandidateConfig
from evalft.errors import CannotStart, UserError
from evalft.execution import Asking
from evalft.records import Outcome
from evalft.spending import Ledger
from evalft.store import RunFolder
from whole_runs import Heard, keeps_to_the_schema

ROWS = 12
LABELS = ["ham", "spam"]
BATCH_USD = (10 * 1.0 + 5 * 2.0) / 1e6
"""Of an answer of 10 and 5 tokens; the row before a batch costs twice as much."""


def row_of(body: Body) -> int:
    return int(last(body).split("message ")[1].split()[0])


def right(body: Body, times: int = 1) -> Any:
    return LABELS[row_of(body) % 2]


def settings(tmp_path: Path, server: BatchServer, n: int = ROWS, **more: Any) -> config.Config:
    file = tmp_path / "test.jsonl"
    rows = [{"id": f"r{i}", "text": f"message {i} \u2028 é", "label": LABELS[i % 2]} for i in range(n)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data: dict[str, Any] = {
        "task": {"test": str(file), "input": "text", "target": "label", "type": "classification", "metrics": ["accuracy"]},
        "providers": {"mock": {"base_url": server.base_url}},
        "candidates": [
            {"name": "mock", "model": "mock:m", "mode": "batch", "max_tokens": 20, "price": {"input": 1.0, "output": 2.0}}
        ],
    }  # fmt: skip
    for key, value in more.items():
        data[key] = data.get(key, {}) | value if isinstance(value, dict) else value
    return config.build(data, source="test", folder=tmp_path)


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(batching, "LONGEST_WAIT_S", 0.05)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with serving_batches(BatchServer(right)) as made:
        yield made


def worst_usd(tmp_path: Path, server: BatchServer, **more: Any) -> float:
    """Of a run whose endpoint takes no response_format: of the plan, less what the schema would have added to each row
    and to the live one, which costs twice that."""
    prepared = pipeline.prepare(settings(tmp_path, server, **more))
    schema = sum(preparing.schema_bytes(prepared.config).values())
    return float(prepared.plans[0].worst_usd - (ROWS + 2) * schema * 1.0 / 1e6)


def assess(tmp_path: Path, server: BatchServer, n: int = ROWS, heard: Heard | None = None, **more: Any) -> Assessment:
    result = pipeline.assess(settings(tmp_path, server, n, **more), out=tmp_path / "run", progress=heard)
    keeps_to_the_schema(result.summary)
    return result


def outcomes(tmp_path: Path, name: str = "mock") -> list[Outcome]:
    return RunFolder(tmp_path / "run").read_predictions(name)


def kinds(result: Assessment) -> dict[str, int]:
    return dict(result.summary["candidates"][0]["coverage"]["failures"])


def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(RunFolder(tmp_path / "run").file("spending"), 1.0)
    made.close()
    return made


def is_settled(tmp_path: Path, server: BatchServer) -> None:
    """Every row answered once, billed once, and nothing reserved."""
    assert set(server.asked.values()) == {1}, "a row was in two batches"
    assert set(server.billed.values()) == {1}, "a row was paid for twice"
    kept = ledger(tmp_path)
    assert kept.left_usd == pytest.approx(1.0 - kept.settled_usd), "something is still reserved"
    assert kept.settled_usd == pytest.approx((ROWS - 1) * BATCH_USD + 2 * BATCH_USD)
    assert [(o.index, o.tries) for o in outcomes(tmp_path)] == [(i, 1) for i in range(ROWS)]


# ---------------------------------------------------------------- what is sent, read and billed


def test_rows_are_sent_as_one_batch_and_read_as_live_answers_are(tmp_path: Path, server: BatchServer) -> None:
    heard = Heard()
    result = assess(tmp_path, server, heard=heard)
    assert result.status == 0
    assert result.summary["candidates"][0]["metrics"]["accuracy"]["value"] == 1.0
    (batch,) = server.batches.values()
    assert len(server.rows_of(batch)) == ROWS - 1, "the row that was asked live is not sent again"
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    assert batch["metadata"]["evalft_candidate"] == "mock"
    assert set(server.file_names.values()) == {"batch"}
    line = server.rows_of(batch)[0]
    as_live = {name: value for name, value in server.chats[0].items() if name not in ("messages", "response_format")}
    assert {name: value for name, value in line["body"].items() if name != "messages"} == as_live, (
        "without what is ignored"
    )
    assert (line["method"], line["url"], line["custom_id"]) == ("POST", "/v1/chat/completions", "1-0")
    is_settled(tmp_path, server)
    said = "\n".join(heard.lines)
    assert "batch batch_1: 11 rows sent" in said
    assert "batch batch_1: 11 of 11 done (completed)" in said
    assert not list((tmp_path / "run" / "batches").glob("*.upload.jsonl"))


def test_every_answer_is_read_as_the_live_mode_reads_it(tmp_path: Path) -> None:
    def refusing() -> Body:
        return completion(None, message={"role": "assistant", "content": None, "refusal": "I will not."})

    answers: list[Any] = [
        "ham",
        "spam",
        completion("neither of\u2028these"),
        refusing(),
        completion("ha", "content_filter"),
        completion("I would say that it is", "length"),
        completion("", "stop"),
        completion('{"label": "ham"}'),
        (400, {"error": {"message": "blocked", "code": "content_filter"}}),
        (422, {"error": {"message": "row is odd"}}),
        (500, {"error": {"message": "it broke"}}),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}},
    ]
    with serving_batches(BatchServer(lambda body, times: answers[row_of(body)])) as server:
        limits = {"max_tries": 1}
        live = {"name": "live", "model": "mock:m", "max_tokens": 20, "price": {"input": 1.0, "output": 2.0}}
        batch = live | {"name": "mock", "mode": "batch"}
        assess(tmp_path, server, candidates=[live, batch], limits=limits)
    measured = [outcomes(tmp_path, name) for name in ("live", "mock")]
    own = ("latency_s", "cost_usd")
    shown = [[{name: getattr(o, name) for name in o.__slots__ if name not in own} for o in each] for each in measured]
    assert shown[0] == shown[1]
    live_usd, batch_usd = ([o.cost_usd for o in each] for each in measured)
    assert batch_usd[1:] == live_usd[1:], "at the price of the config, which is here that of both"
    assert batch_usd[0] == 2 * (live_usd[0] or 0.0), "the row that was asked live costs twice the price of a batch"


def test_latency_is_not_measured_and_a_threshold_on_it_is_refused(tmp_path: Path, server: BatchServer) -> None:
    result = assess(tmp_path, server)
    assert {outcome.latency_s for outcome in outcomes(tmp_path)} == {None}
    assert result.summary["candidates"][0]["latency_s"] is None
    with pytest.raises(UserError, match=r"thresholds.latency_p95: mock is asked in batches .* remove the threshold"):
        settings(tmp_path, server, thresholds={"latency_p95": "<= 2"})


@pytest.mark.parametrize("model", ["hf:some/model", "fake:echo"])
def test_only_an_api_takes_batches(tmp_path: Path, server: BatchServer, model: str) -> None:
    with pytest.raises(UserError, match="mode: only a model that is asked over an API takes batch"):
        settings(tmp_path, server, candidates=[{"model": model, "mode": "batch"}])


@pytest.mark.parametrize("way", ["has_routes", "lists"])
def test_an_endpoint_without_batches_is_said_before_any_row_is_sent(
    tmp_path: Path, server: BatchServer, way: str
) -> None:
    setattr(server, way, False)
    with pytest.raises(CannotStart, match="takes no batches .*leave out `mode: batch`"):
        assess(tmp_path, server)
    assert not server.chats and not server.files


def test_several_samples_of_a_row_are_rows_of_their_own(tmp_path: Path, server: BatchServer) -> None:
    sampled = {"name": "mock", "model": "mock:m", "mode": "batch", "samples": 2, "temperature": 1.0, "seed": 5}
    assess(tmp_path, server, 2, candidates=[sampled | {"price": {"input": 1.0, "output": 2.0}}])
    (batch,) = server.batches.values()
    assert [(line["custom_id"], line["body"]["seed"]) for line in server.rows_of(batch)] == [
        ("0-1", 6),
        ("1-0", 5),
        ("1-1", 6),
    ]
    assert [(o.index, o.repeat) for o in outcomes(tmp_path)] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_batches_keep_to_the_limits_of_the_provider(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_BYTES", 1200)
    assess(tmp_path, server)
    sizes = [len(server.files[batch["input_file_id"]]) for batch in server.batches.values()]
    assert len(sizes) > 2 and max(sizes) <= 1200
    is_settled(tmp_path, server)


def test_a_key_that_the_server_quotes_is_in_no_file(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-not-a-word-12345"
    monkeypatch.setenv("MOCK_KEY", key)
    server.answer = lambda body, times: (
        (500, {"error": {"message": f"{key} broke"}}) if row_of(body) == 2 and times else f"{right(body)} {key}"
    )
    server.fate = lambda number: Fate() if number == 1 else Fate("failed", errors={"data": [{"message": f"not {key}"}]})
    heard = Heard()
    provider = {"mock": {"base_url": server.base_url, "api_key_env": "MOCK_KEY"}}
    assess(tmp_path, server, heard=heard, providers=provider)
    assert server.headers[0]["Authorization"] == f"Bearer {key}"
    held = [file for file in (tmp_path / "run").rglob("*") if file.is_file() and key.encode() in file.read_bytes()]
    assert not held
    assert any("not [key]" in line for line in heard.lines)
    assert key not in "".join(heard.lines)


def test_a_plan_is_priced_as_a_batch_with_one_live_row(tmp_path: Path, server: BatchServer) -> None:
    (batch,) = pipeline.prepare(settings(tmp_path, server)).plans
    live = {"name": "mock", "model": "mock:m", "max_tokens": 20, "price": {"input": 1.0, "output": 2.0}}
    (as_live,) = pipeline.prepare(settings(tmp_path, server, candidates=[live])).plans
    assert (batch.usd, batch.minutes) == (as_live.usd, None)
    assert as_live.worst_usd < batch.worst_usd < as_live.worst_usd * (1 + 3 / ROWS)
    assert "within 24 hours" in batch.assumes


def test_the_row_before_a_batch_has_the_live_price() -> None:
    batch = CandidateConfig(model="openai:gpt-4o-mini", mode="batch")
    listed = prices.token_price(batch)
    live = prices.live_price(batch, listed)
    assert live == prices.token_price(CandidateConfig(model="openai:gpt-4o-mini"))
    assert live.input > listed.input
    given = prices.TokenPrice(1.0, 2.0, 0.5, "config")
    assert prices.live_price(batch, given) == prices.TokenPrice(2.0, 4.0, 1.0, "config")


# ---------------------------------------------------------------- rows and batches that fail


def test_a_row_that_failed_is_asked_again_in_a_next_batch(tmp_path: Path, server: BatchServer) -> None:
    server.answer = lambda body, times: (
        (500, {"error": {"message": "broke"}}) if row_of(body) == 3 and times < 3 else right(body)
    )
    result = assess(tmp_path, server)
    assert kinds(result) == {}
    assert [len(server.rows_of(batch)) for batch in server.batches.values()] == [ROWS - 1, 1, 1]
    assert outcomes(tmp_path)[3].tries == 3


def test_a_row_that_never_mends_is_a_named_failure(tmp_path: Path, server: BatchServer) -> None:
    server.answer = lambda body, times: (503, {"error": {"message": "busy"}}) if row_of(body) == 3 else right(body)
    result = assess(tmp_path, server, limits={"max_tries": 3})
    assert kinds(result) == {"api_error": 1}
    failed = outcomes(tmp_path)[3]
    assert (failed.tries, getattr(failed, "message", "")) == (3, "HTTP 503: busy")
    assert len(server.batches) == 3
    assess(tmp_path, server)
    assert len(server.batches) == 3, "it was tried as often as it may be"


def test_what_an_expired_batch_did_not_get_round_to_is_asked_again(tmp_path: Path, server: BatchServer) -> None:
    server.fate = lambda number: Fate("expired", rows=4) if number == 1 else Fate()
    assert kinds(assess(tmp_path, server)) == {}
    assert [len(server.rows_of(batch)) for batch in server.batches.values()] == [11, 7]
    assert [outcome.tries for outcome in outcomes(tmp_path)] == [1] * 5 + [2] * 7
    assert set(server.billed.values()) == {1}


def test_a_row_in_neither_file_is_charged_its_worst_case_and_asked_again(tmp_path: Path, server: BatchServer) -> None:
    server.answer = lambda body, times: None if row_of(body) == 3 and times == 1 else right(body)
    assert kinds(assess(tmp_path, server)) == {}
    kept = outcomes(tmp_path)
    assert kept[3].tries == 2
    assert (kept[3].cost_usd or 0.0) > 2 * (kept[4].cost_usd or 0.0)
    assert ledger(tmp_path).settled_usd == pytest.approx(sum(outcome.cost_usd or 0.0 for outcome in kept))


@pytest.mark.parametrize("shouts", [False, True])
def test_a_provider_with_less_room_is_sent_smaller_batches(tmp_path: Path, server: BatchServer, shouts: bool) -> None:
    server.most_rows, server.shouts = 4, shouts
    heard = Heard()
    assert kinds(assess(tmp_path, server, heard=heard)) == {}
    assert [len(server.rows_of(batch)) for batch in server.batches.values()] == [11, 6, 3, 3, 3, 2]
    assert any("Enqueued token limit" in line and "at most 3 rows" in line for line in heard.lines)
    is_settled(tmp_path, server)


@pytest.mark.parametrize(
    ("fate", "why", "kept"),
    [
        (
            Fate("failed", errors={"data": [{"message": "no such model", "line": 1}]}),
            "failed: line 1: no such model",
            1,
        ),
        (Fate("cancelled", rows=4), "batch batch_1 was cancelled", 5),
    ],
)
def test_a_batch_that_ends_for_good_stops_the_candidate_and_the_next_run_goes_on(
    tmp_path: Path, server: BatchServer, fate: Fate, why: str, kept: int
) -> None:
    server.fate = lambda number: fate if number == 1 else Fate()
    heard = Heard()
    result = assess(tmp_path, server, heard=heard)
    assert result.status == 6, "coverage"
    assert any(
        f"mock stopped: batch batch_1 {why}".replace("batch batch_1 batch", "batch") in line for line in heard.lines
    )
    assert sum(bool(outcome.tries) for outcome in outcomes(tmp_path)) == kept
    assert len(server.batches) == 1
    assert assess(tmp_path, server).status == 0
    is_settled(tmp_path, server)


def test_a_batch_that_is_not_known_any_more_is_said_and_kept_in_mind(tmp_path: Path, server: BatchServer) -> None:
    async def forget(step: str, count: int) -> None:
        if step == "retrieve" and count == 2:
            server.batches.clear()

    server.at = forget
    heard = Heard()
    assert assess(tmp_path, server, heard=heard).status == 6
    assert any("no such batch; if it is gone for good, delete" in line for line in heard.lines)
    assess(tmp_path, server)
    assert len(server.files) == 1, "whether it was paid for is not known: only the user can say that it is lost"
    (journal,) = (tmp_path / "run" / "batches").glob("*.jsonl")
    journal.unlink()
    assert assess(tmp_path, server).status == 0


def test_a_batch_that_is_lost_does_not_keep_the_others_from_being_read(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_ROWS", 6)

    async def forget(step: str, count: int) -> None:
        if step == "retrieve" and count == 2:
            del server.batches["batch_1"]

    server.at = forget
    assert assess(tmp_path, server).status == 6
    assert [outcome.index for outcome in outcomes(tmp_path) if outcome.tries] == [0, 7, 8, 9, 10, 11]


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("step", ["upload", "uploaded", "create", "created", "retrieve", "content", "half", "list"])
def test_a_lost_connection_makes_no_second_batch(tmp_path: Path, server: BatchServer, step: str) -> None:
    """Lost before the server did it, after it did, and while it sends an answer."""
    others = {f"other_{i}": {"id": f"other_{i}", "input_file_id": f"theirs_{i}", "fate": Fate()} for i in range(5)}
    server.batches.update(others)
    server.at = dropped("created", step)
    assert kinds(assess(tmp_path, server)) == {}
    assert len(server.batches) == len(others) + 1
    is_settled(tmp_path, server)


def test_without_a_list_nobody_makes_a_second_batch_of_a_file(tmp_path: Path, server: BatchServer) -> None:
    """Taken for an empty list, the row would be asked twice."""

    async def at(step: str, count: int) -> None:
        if step == "created":
            server.lists = False
            raise ConnectionResetError

    server.at = at
    heard = Heard()
    assert assess(tmp_path, server, heard=heard).status == 6
    assert any("whether there is a batch of file file-0 is not known" in line for line in heard.lines)
    assert assess(tmp_path, server).status == 6
    assert ledger(tmp_path).left_usd < 1.0 - 2 * BATCH_USD - (ROWS - 1) * BATCH_USD, "it may have been billed"
    server.lists = True
    assert assess(tmp_path, server).status == 0
    assert len(server.batches) == 1
    is_settled(tmp_path, server)


def test_a_server_that_is_down_for_long_leaves_the_batch_to_the_next_run(
    tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "OUTAGE_S", 0.05)
    away = True

    async def at(step: str, count: int) -> None:
        if step == "retrieve" and away:
            raise ConnectionResetError

    server.at = at
    assert assess(tmp_path, server).status == 6
    away = False
    assert assess(tmp_path, server).status == 0
    assert len(server.batches) == 1
    is_settled(tmp_path, server)


def test_a_refused_upload_costs_nothing_and_holds_nothing(tmp_path: Path, server: BatchServer) -> None:
    async def at(step: str, count: int) -> None:
        if step == "upload":
            raise ConnectionResetError

    server.at = at
    assert assess(tmp_path, server, limits={"max_tries": 2}).status == 6
    assert server.steps["upload"] == 2
    assert ledger(tmp_path).left_usd == pytest.approx(1.0 - 2 * BATCH_USD)
    server.at = dropped()
    assert assess(tmp_path, server).status == 0
    is_settled(tmp_path, server)


# ---------------------------------------------------------------- cache, budget, several candidates


def test_cached_answers_are_not_sent_again_and_are_not_those_of_the_live_mode(
    tmp_path: Path, server: BatchServer
) -> None:
    pipeline.assess(settings(tmp_path, server), out=tmp_path / "first")
    again = assess(tmp_path, server)
    assert again.summary["spent"]["cached_requests"] == ROWS
    assert (len(server.chats), len(server.batches)) == (1, 1)
    live = {"name": "mock", "model": "mock:m", "max_tokens": 20, "price": {"input": 1.0, "output": 2.0}}
    pipeline.assess(settings(tmp_path, server, candidates=[live]), out=tmp_path / "live")
    assert len(server.chats) == 1 + ROWS, "another price, and no latency"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6])
def test_as_many_rows_are_sent_as_fit_under_the_cap(tmp_path: Path, server: BatchServer, share: float) -> None:
    cap_usd = share * worst_usd(tmp_path, server)
    result = assess(tmp_path, server, limits={"max_cost_usd": cap_usd})
    sent = [len(server.rows_of(batch)) for batch in server.batches.values()]
    kept = ledger(tmp_path)
    assert kept.settled_usd <= cap_usd
    if share == 0.6:
        assert result.status == 0, "what the first batch did not need paid for a second one"
        assert len(sent) > 1
    else:
        assert result.status == 5
        assert sum(sent) == max(0, len(outcomes(tmp_path)) - 1) < ROWS
    assert assess(tmp_path, server).status == 0
    is_settled(tmp_path, server)


def test_several_candidates_wait_at_the_same_time(tmp_path: Path, server: BatchServer) -> None:
    """Neither batch ends before both are made."""
    server.fate = lambda number: Fate(looks=1)

    async def at(step: str, count: int) -> None:
        if step == "retrieve" and len(server.batches) < 2:
            for batch in server.batches.values():
                batch["looks"] = -1

    server.at = at
    one = {"model": "mock:m", "mode": "batch", "price": {"input": 1.0, "output": 2.0}}
    assess(tmp_path, server, candidates=[one | {"name": "mock"}, one | {"name": "other", "max_tokens": 30}])
    assert len(server.batches) == 2
    assert len(outcomes(tmp_path, "other")) == ROWS


def test_who_waits_for_room_under_the_cap_gets_it_when_another_batch_is_read(
    tmp_path: Path, server: BatchServer
) -> None:
    one = {"model": "mock:m", "mode": "batch", "price": {"input": 1.0, "output": 2.0}}
    both = [
        one | {"name": "mock", "max_tokens": 500},
        one | {"name": "other", "max_tokens": 500, "system": "Be short."},
    ]
    row_usd = worst_usd(tmp_path, server, candidates=both[:1]) / (ROWS + 2)  # the live row counts twice
    server.fate = lambda number: Fate(looks=10 if number == 1 else 1)
    result = assess(tmp_path, server, candidates=both, limits={"max_cost_usd": (ROWS - 0.5) * row_usd})
    assert result.status == 0
    assert [len(server.rows_of(batch)) for batch in server.batches.values()] == [ROWS - 1, ROWS - 1]
    assert set(server.asked.values()) == {2}, "each row once of each candidate"


# ---------------------------------------------------------------- kills


class Killed(BaseException):
    pass


class Deaths:
    """Ends the run at a write: of the journal, of the ledger, of an answer; before it is on disk, or right after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_write, self.after = 0, False
        self._written = 0
        monkeypatch.setattr(batching, "append_line", self._counted(store.append_line))
        monkeypatch.setattr(Ledger, "_write", self._counted(Ledger._write))
        monkeypatch.setattr(Asking, "_on_disk", self._counted(Asking._on_disk))

    def come(self, at_write: int, after: bool) -> None:
        """`at_write` from 1; 0: not at all."""
        self._written, self.at_write, self.after = 0, at_write, after

    def _counted(self, write: Any) -> Any:
        def line(*words: Any) -> None:
            self._written += 1
            now = self._written == self.at_write
            if now and not self.after:
                raise Killed
            write(*words)
            if now:
                raise Killed

        return line


def a_random_life(folder: Path, seed: int, deaths: Deaths) -> None:
    """Rows and batches that fail, lost connections, caps and deaths by seed; then all is well, and it is finished."""
    rng = random.Random(seed)
    well = False
    usable: Counter[int] = Counter()

    def answer(body: Body, times: int) -> Any:
        how = "right" if well or not times else rng.choices(["right", "broken", "lost", "empty"], [12, 2, 1, 2])[0]
        usable[row_of(body)] += how == "right" and times > 0
        return {
            "right": right(body),
            "broken": (500, {"error": {"message": "no"}}),
            "lost": None,
            "empty": completion("", None),
        }[how]

    def fate(number: int) -> Fate:
        status = "completed" if well else rng.choice(["completed", "expired", "cancelled", "failed"])
        code = rng.choice(["token_limit_exceeded", "model_not_found"])
        some = None if status == "completed" else rng.randrange(ROWS)
        return Fate(status, rows=some, errors={"data": [{"code": code, "message": "no"}]})

    async def at(step: str, count: int) -> None:
        if not well and rng.random() < 0.05:
            raise ConnectionResetError

    with serving_batches(BatchServer(answer, fate=fate, at=at)) as server:

        def billed_usd() -> float:
            return (len(server.usages) + len(server.chats)) * BATCH_USD  # a live answer costs twice as much

        worst_usd = pipeline.prepare(settings(folder, server)).plans[0].worst_usd
        cap_usd = worst_usd * rng.choice([0.2, 0.5, 1.0, 2.0])
        for _ in range(rng.randint(1, 5)):
            deaths.come(rng.randrange(60), rng.random() < 0.5)
            try:
                assess(folder, server, limits={"max_cost_usd": cap_usd})
            except (UserError, Killed):  # cannot start: the row that is asked live was unlucky
                pass
            except BaseExceptionGroup as died:
                assert died.subgroup(Killed)
            assert billed_usd() <= cap_usd + 1e-12
        deaths.come(0, False)
        well = True
        assess(folder, server)  # what is under way may still be cancelled
        assert assess(folder, server).status == 0
        kept = ledger(folder)
        assert billed_usd() <= kept.settled_usd + kept.lost_usd + 1e-12
        assert kept.left_usd == pytest.approx(1.0 - kept.settled_usd - kept.lost_usd), "a batch is still reserved"
        assert max(usable.values()) == 1, "an answer that was paid for was asked for again"
        assert sorted(outcome.index for outcome in outcomes(folder)) == list(range(ROWS))


@pytest.mark.parametrize("seed", range(3))
def test_the_cap_holds_and_nothing_is_paid_twice_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    a_random_life(tmp_path, seed, Deaths(monkeypatch))


@pytest.mark.slow
def test_the_cap_holds_and_nothing_is_paid_twice_in_30_random_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = Deaths(monkeypatch)
    for seed in range(100, 130):
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.setenv("EVALFT_CACHE", str(folder / "cache"))
        a_random_life(folder, seed, deaths)


@pytest.mark.slow
def test_a_death_before_or_after_any_line_is_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the journal, of the ledger, of the answers. What is in flight goes its way at the server all the same."""
    coming, deaths = Deaths(monkeypatch), 0
    while True:
        folder = tmp_path / str(deaths)
        folder.mkdir()
        monkeypatch.setenv("EVALFT_CACHE", str(folder / "cache"))
        # what goes before is of the row that is asked live, as in the live mode
        coming.come(deaths // 2 + 4, bool(deaths % 2))
        with serving_batches(BatchServer(right)) as server:
            server.answer = lambda body, times: (
                (500, {"error": {"message": "no"}}) if row_of(body) == 3 and times == 1 else right(body)
            )
            try:
                assess(folder, server, 4)
            except BaseExceptionGroup as died:
                assert died.subgroup(Killed)
                deaths += 1
            else:
                break
            coming.come(0, False)
            assert assess(folder, server, 4).status == 0
            assert set(server.billed.values()) == {1}, f"death {deaths}: a row was paid for twice"
            assert sorted(server.asked.values()) == [1] * (3 - len(server.chats)) + [2]
            assert sorted((o.index, o.tries) for o in outcomes(folder)) == [(0, 1), (1, 1), (2, 1), (3, 2)]
            kept, usd = ledger(folder), (4 + len(server.chats)) * BATCH_USD
            assert kept.settled_usd == pytest.approx(usd), f"death {deaths}"
            assert kept.left_usd == pytest.approx(1.0 - usd), f"death {deaths}: something is still reserved"
    assert deaths > 20


def evalft(words: list[str], cache: str) -> None:
    """In a process of its own: the command as a user gives it."""
    os.environ["EVALFT_CACHE"] = cache
    sys.argv = ["evalft", *words]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        cli.main()


PROCESSES = multiprocessing.get_context(
    "forkserver"
)  # which has imported everything: starting is most of what a kill costs
PROCESSES.set_forkserver_preload(
    ["test_batching", "evalft.pipeline", "openai", "aiohttp", "sklearn.metrics", "scipy.stats"]
)


class Stepping:
    """Holds the server at the first of a step, until it is let go."""

    def __init__(self, step: str) -> None:
        self.step, self.reached, self._go = step, threading.Event(), threading.Event()

    async def at(self, step: str, count: int) -> None:
        if step == self.step and not self.reached.is_set():
            self.reached.set()
            while not self._go.is_set():
                await asyncio.sleep(0.01)

    def let_go(self) -> None:
        self._go.set()


def command(tmp_path: Path, server: BatchServer) -> list[str]:
    made = settings(tmp_path, server)
    (tmp_path / "evalft.yaml").write_text(config.dump(config.as_data(made)))
    return ["assess", str(tmp_path / "evalft.yaml"), "--out", str(tmp_path / "run")]


@pytest.mark.slow
def test_a_process_killed_at_any_step_is_followed_by_one_that_goes_on(tmp_path: Path) -> None:
    for step in ("upload", "uploaded", "create", "created", "retrieve", "content", "half"):
        folder = tmp_path / step
        folder.mkdir()
        with serving_batches(BatchServer(right)) as server:
            held = Stepping(step)
            server.at = held.at
            words = command(folder, server)
            process = PROCESSES.Process(target=evalft, args=(words, str(folder / "cache")))
            process.start()
            assert held.reached.wait(60), step
            time.sleep(0.1)
            process.kill()
            process.join()
            held.let_go()
            time.sleep(0.1)
            again = PROCESSES.Process(target=evalft, args=(words, str(folder / "cache")))
            again.start()
            again.join(60)
            assert again.exitcode == 0, step
            assert len(server.batches) == 1, step
            is_settled(folder, server)


def test_an_interrupt_leaves_the_batch_there_and_the_same_command_waits_again(
    tmp_path: Path, server: BatchServer
) -> None:
    server.fate = lambda number: Fate(looks=10**6)

    async def interrupt(step: str, count: int) -> None:
        if step == "retrieve" and count == 2:
            os.kill(os.getpid(), signal.SIGINT)

    server.at = interrupt
    heard = Heard()
    assert assess(tmp_path, server, heard=heard).status == 130
    assert any("batch batch_1 goes on there; the same command waits for it again" in line for line in heard.lines)
    server.batches["batch_1"]["fate"] = Fate(looks=0)
    assert assess(tmp_path, server, heard=heard).status == 0
    assert any("waiting again for batch batch_1 of 11 rows" in line for line in heard.lines)
    assert len(server.batches) == 1
    is_settled(tmp_path, server)
