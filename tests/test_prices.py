"""What an answer cost: the provider's own count of its tokens, at the day's price for how it was asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import data_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from api_server import completion, serving
from evalft import config, pipeline, prices
from evalft.candidates.usage import read_usage
from evalft.config import CandidateConfig
from evalft.errors import UserError
from evalft.prices import HourPrice, TokenPrice, token_price
from evalft.records import Usage
from evalft.reporting import view

OPENAI = next(provider for provider in data_snapshot.get_snapshot().providers if provider.id == "openai")


def priced_models() -> list[str]:
    """Models of text whose price has nothing but tokens in it."""
    tokens = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"}
    found = []
    for model in OPENAI.models:
        price = model.get_prices(datetime.now(UTC))
        named = {name for name, value in price.__dict__.items() if value is not None and name.endswith("mtok")}
        by_its_name = model.is_match(model.id)  # fine-tuned models are matched with the name of their owner
        if {"input_mtok", "output_mtok"} <= named <= tokens and by_its_name:
            found.append(model.id)
    return found


MODELS = priced_models()
LONG = [name for name in MODELS if token_price(CandidateConfig(model=f"openai:{name}")).tiers]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(MODELS) | st.sampled_from(LONG),
    st.integers(0, 600_000) | st.sampled_from([200_000, 200_001, 272_000, 272_001]),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([{}, {"processing": "batch"}, {"service_tier": "flex"}, {"service_tier": "priority"}]),
)
def test_costs_are_those_of_the_price_lists_own_calculation(
    name: str, given_tokens: int, made: int, cached_share: float, written_share: float, context: dict[str, str]
) -> None:
    cached = int(given_tokens * cached_share)
    written = int((given_tokens - cached) * written_share)
    settings: dict[str, Any] = {"mode": "batch"} if "processing" in context else {}
    settings |= {"extra_body": context} if "service_tier" in context else {}
    candidate = CandidateConfig(model=f"openai:{name}", **settings)
    provider, model = data_snapshot.get_snapshot().find_provider_model(name, None, "openai", None)
    if context and context not in [variant.when for variant in model.price_variants or ()]:
        with pytest.raises(UserError, match="is not known"):
            token_price(candidate)
        return
    expected = model.calc_price(
        ListedUsage(
            input_tokens=given_tokens, output_tokens=made, cache_read_tokens=cached, cache_write_tokens=written
        ),
        provider,
        price_context=context,
    )
    found = token_price(candidate).cost_usd(Usage(given_tokens, made, cached, cache_write_tokens=written))
    assert found == pytest.approx(float(expected.total_price), rel=1e-9, abs=1e-12)


def test_long_inputs_are_priced_by_their_tier_and_not_by_the_base() -> None:
    price = token_price(CandidateConfig(model=f"openai:{LONG[0]}"))
    (tier, *_) = price.tiers
    assert price.cost_usd(Usage(tier.above, 0)) == pytest.approx(tier.above * price.input / 1e6)
    assert price.cost_usd(Usage(tier.above + 1, 0)) == pytest.approx((tier.above + 1) * tier.input / 1e6)
    assert tier.input > price.input


@pytest.mark.parametrize(
    "candidate",
    [
        {"model": "openai:no-such-model"},
        {"model": "mock:gpt-5-mini"},
        {"model": "openai:gpt-4o", "mode": "batch", "extra_body": {"service_tier": "flex"}},
        {"model": "openai:gpt-5-mini", "extra_body": {"service_tier": "scale"}},
        {"model": "openai:no-such-model", "price": {"input": 1.0}},
    ],
)
def test_an_unknown_price_is_an_error_that_names_the_override(candidate: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"is not known; .*price: \{input: .*--set 'candidates.0.price="):
        token_price(CandidateConfig.model_validate(candidate))


def test_the_price_of_the_config_wins_and_what_it_leaves_out_is_not_made_cheaper() -> None:
    found = token_price(CandidateConfig.model_validate({"model": "openai:gpt-5-mini", "price": {"input": 9.0}}))
    listed = token_price(CandidateConfig(model="openai:gpt-5-mini"))
    assert (found.input, found.cached, found.output, found.source) == (9.0, 9.0, listed.output, "config")
    assert found.cost_usd(Usage(100, 0, cache_write_tokens=50)) == pytest.approx(100 * 9.0 / 1e6)


@pytest.mark.parametrize(
    "price",
    [token_price(CandidateConfig(model=f"openai:{LONG[0]}")), HourPrice(2.5, 0.1, "config")],
    ids=["tokens", "hour"],
)
def test_a_price_is_read_back_as_it_was_written(price: TokenPrice | HourPrice) -> None:
    assert prices.from_data(json.loads(json.dumps(price.as_data()))) == price


def test_a_price_written_by_an_earlier_version_is_read() -> None:
    old = {"input": 1.0, "output": 2.0, "cached": 0.5, "source": "config"}
    assert prices.from_data(old) == TokenPrice(1.0, 2.0, 0.5, "config")


# ---------------------------------------------------------------- usage, as each provider documents it

BODIES: dict[str, tuple[dict[str, Any], Usage]] = {
    "OpenAI chat completions": (
        {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
         "prompt_tokens_details": {"cached_tokens": 1920},
         "completion_tokens_details": {"reasoning_tokens": 200, "accepted_prediction_tokens": 0}},
        Usage(2006, 300, cached_tokens=1920, reasoning_tokens=200),
    ),
    "OpenAI chat completions that write the cache": (
        {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
         "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 900}},
        Usage(2006, 300, cached_tokens=1000, cache_write_tokens=900),
    ),
    "OpenAI responses": (
        {"input_tokens": 36, "input_tokens_details": {"cached_tokens": 12}, "output_tokens": 87,
         "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 123},
        Usage(36, 87, cached_tokens=12, reasoning_tokens=64),
    ),
    "Anthropic messages": (
        {"input_tokens": 50, "cache_read_input_tokens": 100_000, "cache_creation_input_tokens": 248,
         "cache_creation": {"ephemeral_5m_input_tokens": 248, "ephemeral_1h_input_tokens": 0}, "output_tokens": 503},
        Usage(50 + 100_000 + 248, 503, cached_tokens=100_000, cache_write_tokens=248),
    ),
    "Google generateContent": (
        {"promptTokenCount": 1008, "cachedContentTokenCount": 900, "candidatesTokenCount": 20, "thoughtsTokenCount": 400,
         "totalTokenCount": 1428},
        Usage(1008, 420, cached_tokens=900, reasoning_tokens=400),
    ),
    "Google generateContent, all thoughts": (
        {"promptTokenCount": 8, "thoughtsTokenCount": 60, "totalTokenCount": 68},
        Usage(8, 60, reasoning_tokens=60),
    ),
    "Gemini's OpenAI-compatible endpoint": (
        {"prompt_tokens": 8, "completion_tokens": 20, "total_tokens": 428},
        Usage(8, 420, reasoning_tokens=400),
    ),
    "xAI": (
        {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, "prompt_tokens_details": {"cached_tokens": 6},
         "completion_tokens_details": {"reasoning_tokens": 94}},
        Usage(32, 103, cached_tokens=6, reasoning_tokens=94),
    ),
    "reasoning left out and no total": (
        {"prompt_tokens": 32, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 94}},
        Usage(32, 103, reasoning_tokens=94),
    ),
    "DeepSeek": (
        {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107, "prompt_cache_hit_tokens": 64,
         "prompt_cache_miss_tokens": 36},
        Usage(100, 7, cached_tokens=64),
    ),
    "details of null": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": None, "prompt_tokens_details": None},
        Usage(10, 5),
    ),
    "more cached than there were": (
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 99}},
        Usage(10, 5, cached_tokens=10),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_each_providers_usage_is_read_as_it_documents_it(name: str) -> None:
    body, usage = BODIES[name]
    assert read_usage(body) == usage


@pytest.mark.parametrize(
    "body",
    [None, 5, [], {}, {"prompt_tokens": 5}, {"prompt_tokens": "5", "completion_tokens": 5},
     {"prompt_tokens": -1, "completion_tokens": 5}, {"prompt_tokens": True, "completion_tokens": 5},
     {"input_tokens": 5, "cache_read_input_tokens": 5}, {"promptTokenCount": None}],
)  # fmt: skip
def test_a_usage_that_does_not_say_both_is_none(body: object) -> None:
    assert read_usage(body) is None


number = st.none() | st.integers(-5, 10**12) | st.booleans() | st.text(max_size=3) | st.floats()
name = st.sampled_from(
    "prompt_tokens completion_tokens total_tokens input_tokens output_tokens cached_tokens cache_read_input_tokens "
    "cache_creation_input_tokens promptTokenCount candidatesTokenCount thoughtsTokenCount".split()
)
details = st.sampled_from(["prompt_tokens_details", "completion_tokens_details", "input_tokens_details"])
part = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "cache_write_tokens"]), number)


@given(st.dictionaries(name, number), st.dictionaries(details, part | number))
def test_whatever_a_server_says_the_parts_never_exceed_the_whole(body: dict[str, Any], more: dict[str, Any]) -> None:
    found = read_usage(body | more)
    if found is not None:
        assert found.cached_tokens + found.cache_write_tokens <= found.input_tokens
        assert 0 <= found.reasoning_tokens <= found.output_tokens
        assert TokenPrice(1.0, 2.0, 0.1, "test", cache_write=1.25).cost_usd(found) >= 0


# ---------------------------------------------------------------- through assess


def assess(folder: Path, base_url: str, monkeypatch: pytest.MonkeyPatch, **candidate: Any) -> dict[str, Any]:
    rows = [{"id": f"r{i}", "text": f"message {i}", "label": ["ham", "spam"][i % 2]} for i in range(4)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", base_url)
    made = config.build(
        {
            "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
            "candidates": [{"name": "it", "model": "openai:gpt-5-mini"} | candidate],
        },
        source="test",
        folder=folder,
    )
    return dict(pipeline.assess(made, out=folder / "run").summary)


@pytest.mark.parametrize(
    "name", ["Anthropic messages", "Google generateContent", "Gemini's OpenAI-compatible endpoint"]
)
def test_cost_per_query_is_that_of_the_usage_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body, usage = BODIES[name]
    where = "usageMetadata" if "promptTokenCount" in body else "usage"

    def says(_body: dict[str, Any], _number: int) -> Any:
        answer = completion("ham")
        del answer["usage"]
        return answer | {where: body}

    with serving(says) as server:
        summary = assess(tmp_path, server.base_url, monkeypatch)
    price = token_price(CandidateConfig(model="openai:gpt-5-mini"))
    (entry,) = summary["candidates"]
    assert entry["cost_per_query_usd"]["value"] == pytest.approx(price.cost_usd(usage))
    assert entry["cost_per_query_usd"]["reason"] is None


def test_the_price_its_source_and_its_day_stand_in_manifest_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda body, _: "ham") as server:
        summary = assess(tmp_path, server.base_url, monkeypatch)
    price = summary["candidates"][0]["price"]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert price["source"].startswith("genai-prices ") and price["date"] == manifest["created"][:10]
    assert manifest["prices"]["it"]["source"] == price["source"]
    assert {"source", "date"} <= dict(view.read(tmp_path / "run").candidates[0].price).keys()


def test_answers_keep_the_price_of_their_day_and_take_one_that_the_config_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda body, _: "ham") as server:
        first = assess(tmp_path, server.base_url, monkeypatch)["candidates"][0]
        file = tmp_path / "run" / "manifest.json"
        manifest = json.loads(file.read_text())
        manifest["prices"]["it"] |= {"input": 77.0, "source": "genai-prices 0.0.1"}  # the list has changed since
        file.write_text(json.dumps(manifest))
        later = assess(tmp_path, server.base_url, monkeypatch)["candidates"][0]
        own = assess(tmp_path, server.base_url, monkeypatch, price={"input": 5.0, "output": 7.0})["candidates"][0]
    assert later["cost_per_query_usd"] == first["cost_per_query_usd"]
    assert (later["cost_per_query_usd"]["basis"], later["price"]["input"]) == ("usage", 77.0)
    assert own["cost_per_query_usd"]["value"] == pytest.approx((10 * 5.0 + 5 * 7.0) / 1e6)
    assert (own["cost_per_query_usd"]["basis"], own["price"]["input"]) == ("override", 5.0)
