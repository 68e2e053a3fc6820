"""assess against a real server on the loopback: what fails is named, what was paid for is kept, the cap holds."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console

from api_server import Script, completion, error, serving
from evalft import config, pipeline
from evalft.concluding import Assessment
from evalft.errors import CannotStart
from evalft.progress import Progress
from evalft.records import Failure, Prediction
from evalft.store import RunFolder

LABELS = ["ham", "spam"]


def rows(n: int) -> list[dict[str, str]]:
    return [{"id": f"r{i}", "text": f"message {i}", "label": LABELS[i % 2]} for i in range(n)]


def asked(body: dict[str, Any]) -> int:
    """Which row a request asks for."""
    return int(body["messages"][-1]["content"].split("message ")[1].split()[0])


def right(body: dict[str, Any], number: int) -> str:
    return LABELS[asked(body) % 2]


def settings(tmp_path: Path, base_url: str, n: int = 20, **more: Any) -> config.Config:
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(n)), encoding="utf-8")
    data: dict[str, Any] = {
        "task": {"test": str(file), "input": "text", "target": "label", "type": "classification"},
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"name": "mock", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}}],
    }
    for key, value in more.items():
        data[key] = data.get(key, {}) | value if isinstance(value, dict) else value
    return config.build(data, source="test", folder=tmp_path)


def run(tmp_path: Path, script: Script, n: int = 20, **more: Any) -> tuple[Assessment, Any]:
    with serving(script) as server:
        result = pipeline.assess(settings(tmp_path, server.base_url, n, **more), out=tmp_path / "run")
    return result, server


def outcomes(tmp_path: Path) -> list[Prediction | Failure]:
    return RunFolder(tmp_path / "run").read_predictions("mock")


def kinds(result: Assessment) -> dict[str, int]:
    return dict(result.summary["candidates"][0]["coverage"]["failures"])


def test_every_row_is_asked_once_and_kept_in_example_order(tmp_path: Path) -> None:
    result, server = run(tmp_path, right)
    assert sorted(map(asked, server.bodies)) == list(range(20))
    assert [outcome.index for outcome in outcomes(tmp_path)] == list(range(20))
    assert result.summary["candidates"][0]["metrics"]["accuracy"]["value"] == 1.0
    assert result.status == 0


def test_cost_is_what_the_usage_says_at_the_configured_price(tmp_path: Path) -> None:
    result, _ = run(tmp_path, right)
    entry = result.summary["candidates"][0]
    assert entry["cost_per_query_usd"]["value"] == pytest.approx((10 * 1.0 + 5 * 2.0) / 1e6)
    assert result.summary["spent"]["usd"] == pytest.approx(20 * (10 * 1.0 + 5 * 2.0) / 1e6)
    assert result.summary["spent"]["api_requests"] == 20


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda: completion(None, message={"role": "assistant", "content": None, "refusal": "I will not."}), "refused"),
        (lambda: completion("ha", "content_filter"), "filtered"),
        (lambda: completion("I would say that it is", "length"), "truncated"),
        (lambda: completion("", "stop"), "empty"),
        (lambda: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}, "empty"),
        (lambda: completion("neither of these"), "unparsable"),
        (lambda: b'{"choices": [{"mess', "bad_response"),
        (lambda: b"[1, 2]", "bad_response"),
        (lambda: error(500, "it broke"), "api_error"),
        (lambda: web.Response(status=503, text="<html>busy</html>", content_type="text/html"), "api_error"),
        (lambda: error(400, "blocked", code="content_filter"), "filtered"),
        (lambda: error(422, "row is odd"), "api_error"),
    ],
)
def test_each_kind_of_failure_is_named_and_counts_as_a_miss(tmp_path: Path, answer: Any, kind: str) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        return answer() if asked(body) == 7 else right(body, number)

    result, _ = run(tmp_path, script, limits={"max_tries": 2})
    assert kinds(result) == {kind: 1}
    accuracy = result.summary["candidates"][0]["metrics"]["accuracy"]
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(19 / 20), 20)


def test_a_hanging_server_is_a_timeout(tmp_path: Path) -> None:
    async def script(body: dict[str, Any], number: int) -> Any:
        if asked(body) == 3:
            await asyncio.sleep(3)
        return right(body, number)

    result, _ = run(tmp_path, script, limits={"max_tries": 1, "timeout_s": 0.5})
    assert kinds(result) == {"timeout": 1}


def test_a_dropped_connection_is_tried_again_and_then_named(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        if asked(body) == 3:
            raise ConnectionResetError
        return right(body, number)

    result, server = run(tmp_path, script, limits={"max_tries": 3})
    assert kinds(result) == {"connection": 1}
    assert sum(asked(body) == 3 for body in server.bodies) == 3


def test_what_may_mend_is_tried_again_and_every_try_is_counted(tmp_path: Path) -> None:
    seen: dict[int, int] = {}

    def script(body: dict[str, Any], number: int) -> Any:
        row = asked(body)
        seen[row] = seen.get(row, 0) + 1
        if row == 5 and seen[row] < 3:
            return error(429, "slow down", headers={"Retry-After": "0.1"}) if seen[row] == 1 else b"{"
        return right(body, number)

    result, _ = run(tmp_path, script)
    assert kinds(result) == {}
    assert [o.tries for o in outcomes(tmp_path) if o.index == 5] == [3]
    # the malformed body was charged its worst case, so row 5 costs more than one answer
    assert outcomes(tmp_path)[5].cost_usd > outcomes(tmp_path)[6].cost_usd
    result_warnings = json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"]
    assert any("assumed, not billed" in warning for warning in result_warnings)


def test_an_answer_is_never_asked_for_twice(tmp_path: Path) -> None:
    with serving(right) as server:
        configured = settings(tmp_path, server.base_url)
        pipeline.assess(configured, out=tmp_path / "run")
        again = pipeline.assess(configured, out=tmp_path / "run")
    assert len(server.bodies) == 20
    assert again.summary["candidates"][0]["metrics"]["accuracy"]["value"] == 1.0


def test_the_budget_is_never_exceeded_and_a_higher_cap_goes_on(tmp_path: Path) -> None:
    price = (10 * 1.0 + 5 * 2.0) / 1e6
    with serving(right) as server:
        short = settings(tmp_path, server.base_url, 50, limits={"max_cost_usd": 30 * price})
        first = pipeline.assess(short, out=tmp_path / "run")
        assert first.status == 5
        assert first.summary["spent"]["usd"] <= 30 * price
        assert first.summary["verdict"] is None
        answered = len(server.bodies)
        assert 0 < answered < 50
        enough = settings(tmp_path, server.base_url, 50, limits={"max_cost_usd": 1})
        second = pipeline.assess(enough, out=tmp_path / "run")
    assert second.status == 0
    assert len(server.bodies) == 50


def test_refused_fields_are_dropped_or_renamed_for_all_requests(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return error(400, message, param="max_tokens")
        if "temperature" in body:
            return error(400, "Unsupported value: 'temperature' does not support 0.", param="temperature")
        return right(body, number)

    result, server = run(tmp_path, script)
    assert kinds(result) == {}
    assert all("max_completion_tokens" in body and "temperature" not in body for body in server.bodies[2:])
    assert len(server.bodies) == 2 + 20
    choices = " ".join(result.summary["candidates"][0]["choices"])
    assert "max_completion_tokens" in choices and "temperature" in choices


def test_probabilities_come_from_top_logprobs_where_they_come_back(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        label = right(body, number)
        other = LABELS[1 - LABELS.index(label)]
        tops = [{"token": label, "logprob": -0.1}, {"token": other, "logprob": -2.5}]
        return completion(label, logprobs={"content": [{"token": label, "logprob": -0.1, "top_logprobs": tops}]})

    result, server = run(tmp_path, script, n=30)
    assert all(body["logprobs"] for body in server.bodies)
    auc = result.summary["candidates"][0]["metrics"]["roc_auc"]
    assert (auc["value"], auc["probs_method"]) == (1.0, "top_logprobs")


def test_logprobs_that_are_accepted_but_ignored_are_noticed(tmp_path: Path) -> None:
    result, server = run(tmp_path, right)
    assert "logprobs" in server.bodies[0]
    assert all("logprobs" not in body for body in server.bodies[1:])
    assert result.summary["candidates"][0]["metrics"]["roc_auc"]["probs_method"] == "hard"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (lambda body, number: error(404, "The model `m` does not exist", code="model_not_found"), "model"),
        (lambda body, number: error(401, "bad key"), "no key was sent.*api_key_env"),
        (lambda body, number: error(503, "busy"), "is down or overloaded: HTTP 503: busy"),
        (lambda body, number: error(400, "I do not like any of this"), "refuses every request"),
    ],
)
def test_a_candidate_that_cannot_start_ends_before_any_row_of_any_candidate(
    tmp_path: Path, script: Script, said: str
) -> None:
    with serving(right) as good, serving(script) as bad:
        configured = settings(
            tmp_path,
            good.base_url,
            providers={"bad": {"base_url": bad.base_url}},
            candidates=[
                {"name": "good", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}},
                {"name": "bad", "model": "bad:m", "price": {"input": 1.0, "output": 2.0}},
            ],
        )
        with pytest.raises(CannotStart, match=said):
            pipeline.assess(configured, out=tmp_path / "run")
    assert len(good.bodies) <= 1  # its preflight row, nothing else
    assert len(bad.bodies) <= 6  # three rows, each at most once more: without a schema, or since the failure may pass


def test_a_refused_connection_is_one_line(tmp_path: Path) -> None:
    with serving(right) as server:
        address = server.base_url
    with pytest.raises(CannotStart, match="no connection"):
        pipeline.assess(settings(tmp_path, address, limits={"max_tries": 1}), out=tmp_path / "run")


def test_a_key_refused_midway_leaves_the_rest_as_failures_that_the_next_run_asks(tmp_path: Path) -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        return right(body, number) if number <= 10 else error(403, "no more")

    with serving(script) as server:
        configured = settings(tmp_path, server.base_url, 40)
        result = pipeline.assess(configured, out=tmp_path / "run")
        assert result.status == 6
        assert kinds(result)["api_error"] >= 20
        port = int(server.base_url.split(":")[2].split("/")[0])
    with serving(right, port) as server:
        result = pipeline.assess(configured, out=tmp_path / "run")
        assert (result.status, kinds(result)) == (0, {})
        assert set(map(asked, server.bodies)).isdisjoint(range(5))


def test_the_key_reaches_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")

    def script(body: dict[str, Any], number: int) -> Any:
        if asked(body) == 2:
            return error(400, "Incorrect API key provided: sk-canary-0123456789")
        return "spam sk-canary-0123456789" if asked(body) == 3 else right(body, number)

    with serving(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        data = settings(tmp_path, server.base_url).model_dump()
        data["candidates"] = [{"name": "mock", "model": "openai:gpt-5-mini"}]
        configured = config.build(data, source="test", folder=tmp_path)
        pipeline.assess(configured, out=tmp_path / "run")
        assert any("sk-canary" in str(headers) for headers in server.headers)
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in written if b"sk-canary" in file.read_bytes()]


def test_requests_stay_within_the_concurrency_asked_for(tmp_path: Path) -> None:
    async def script(body: dict[str, Any], number: int) -> Any:
        await asyncio.sleep(0.02)
        return right(body, number)

    _, server = run(tmp_path, script, n=60, limits={"concurrency": 5})
    assert 1 < server.most_in_flight <= 5


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with RunFolder(tmp_path / "run").locked():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    try:
        with serving(right) as server, pytest.raises(Exception, match="another evalft"):
            pipeline.assess(settings(tmp_path, server.base_url), out=tmp_path / "run")
    finally:
        leave.set()
        thread.join()


def test_slow_rows_are_failures_once_the_candidate_has_answered_others(tmp_path: Path) -> None:
    hang = True

    async def script(body: dict[str, Any], number: int) -> Any:
        if asked(body) < 4 and hang:
            await asyncio.sleep(1.5)
        return right(body, number)

    with serving(script) as server:
        limits = {"timeout_s": 0.3, "max_tries": 1, "min_coverage": 0.5}
        # the first rows hang: other rows are owed, and none was answered yet
        with pytest.raises(CannotStart, match="timeout_s"):
            pipeline.assess(settings(tmp_path, server.base_url, limits=limits), out=tmp_path / "run")
        hang = False
        pipeline.assess(settings(tmp_path, server.base_url, 30, limits=limits), out=tmp_path / "fast")
        hang = True
        data = settings(tmp_path, server.base_url, 30, limits=limits).model_dump()
        (tmp_path / "test.jsonl").write_text(
            "".join(
                json.dumps(row) + "\n"
                for row in [{"id": "new", "text": "message 0 again", "label": "ham"}, *rows(30)[4:]]
            )
        )
        result = pipeline.assess(config.build(data, source="test", folder=tmp_path), out=tmp_path / "run2")
    assert kinds(result) == {"timeout": 1}


def test_a_dummy_key_that_is_a_common_word_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "spam")
    with serving(right) as server:
        named = {"mock": {"base_url": server.base_url, "api_key_env": "WORD"}}
        result = pipeline.assess(settings(tmp_path, server.base_url, providers=named), out=tmp_path / "run")
    assert result.summary["candidates"][0]["metrics"]["accuracy"]["value"] == 1.0


def test_answers_of_a_resumed_run_are_in_the_cache_too(tmp_path: Path) -> None:
    with serving(right) as server:
        short = settings(tmp_path, server.base_url, 40, limits={"max_cost_usd": 0.0006})
        assert pipeline.assess(short, out=tmp_path / "run").status == 5
        pipeline.assess(settings(tmp_path, server.base_url, 40), out=tmp_path / "run")
        assert len(server.bodies) == 40
        pipeline.assess(settings(tmp_path, server.base_url, 40, task={"name": "another"}), out=tmp_path / "other")
        assert len(server.bodies) == 40


def test_rows_that_hang_are_said_while_they_are_asked_again(tmp_path: Path) -> None:
    async def script(body: dict[str, Any], number: int) -> Any:
        if asked(body) in (7, 9):
            await asyncio.sleep(0.4)
        return right(body, number)

    shown: list[str] = []
    progress = Progress(Console(file=io.StringIO(), force_terminal=True, width=80), verbose=True)

    def watch() -> None:
        while not over.wait(0.05):
            shown.extend(str(line) for line in progress._rendered().renderables)

    over, thread = threading.Event(), threading.Thread(target=watch)
    thread.start()
    try:
        with serving(script) as server:
            limits = {"timeout_s": 0.2, "max_tries": 5, "min_coverage": 0.5}
            pipeline.assess(settings(tmp_path, server.base_url, limits=limits), out=tmp_path / "run", progress=progress)
    finally:
        over.set()
        thread.join()
    assert any("2 rows are being asked again" in line for line in shown)
    assert not any("2 rows are being asked again" in line and " left" in line for line in shown)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert all(
        f"mock: row r{row}: try {tried} of at most 5: no answer within 0.2 s" in log
        for row in (7, 9)
        for tried in (4, 5)
    )
    assert "try 3" not in log
