"""Tokens predicted before anything is sent: within 10 % of what is billed, by text alone or by earlier answers."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_server import completion, serving
from evalft import checking, config, pipeline, preparing, token_counts, usage_seen
from evalft.prompts import Request

SHARED = Path(os.environ.get("EVALFT_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real data beside the clone")


@settings(deadline=None)
@given(st.text(), st.text())
def test_a_prediction_is_finite_never_negative_and_grows_with_the_text(one: str, other: str) -> None:
    whole = token_counts.estimate(f"{one}\n{other}")
    assert 0 <= token_counts.estimate(one) <= whole + 1 and whole < 3 * len(f"{one}\n{other}".encode()) + 3
    assert token_counts.estimate("") == 0


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["short", "a text of some more words than that one", "한국어 문장"]), min_size=1, max_size=30
    )
)
def test_a_sample_of_everything_is_the_sum_of_its_parts(texts: list[str]) -> None:
    requests = [Request(str(i), i, 0, ({"role": "user", "content": text},)) for i, text in enumerate(texts)]
    around = token_counts.PER_MESSAGE + token_counts.PER_REQUEST
    assert token_counts.of_requests(requests) == round(sum(map(token_counts.estimate, texts))) + around * len(texts)


def texts(name: str) -> list[str]:
    if name == "clinc150":
        return [row[0] for row in json.loads((SHARED / "clinc150" / "data_full.json").read_text())["test"]]
    if name == "goemotions":
        return [line.split("\t")[0] for line in (SHARED / "goemotions" / "test.tsv").read_text().splitlines()]
    if name == "gsm8k":
        return [json.loads(line)["question"] for line in (SHARED / "gsm8k" / "test.jsonl").read_text().splitlines()]
    if name == "answers":
        return [json.loads(line)["answer"] for line in (SHARED / "gsm8k" / "test.jsonl").read_text().splitlines()]
    file = SHARED / "self_instruct" / "user_oriented_instructions.jsonl"
    return [
        f"{row['instruction']}\n{row['instances'][0]['input']}"
        for row in map(json.loads, file.read_text().splitlines())
    ]


SETS = ("clinc150", "goemotions", "gsm8k", "answers", "self_instruct")


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_without_earlier_answers_o200k_is_predicted_within_a_tenth(name: str) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    try:
        encoding = tiktoken.get_encoding("o200k_base")
    except Exception:  # its vocabulary is downloaded on first use
        pytest.skip("the vocabulary of o200k_base is not here")
    some = random.Random(1).sample(texts(name), 200)
    counted = sum(len(encoding.encode_ordinary(text)) for text in some)
    assert sum(map(token_counts.estimate, some)) == pytest.approx(counted, rel=0.1)


def built(tmp_path: Path, rows: list[str], base_url: str = "", **candidate: Any) -> config.Config:
    lines = [json.dumps({"text": text, "label": ["yes", "no"][i % 2]}) + "\n" for i, text in enumerate(rows)]
    (tmp_path / "test.jsonl").write_text("".join(lines))
    data: dict[str, Any] = {
        "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
        "candidates": [{"name": "m", "model": "mock:m", "price": {"input": 1.0, "output": 2.0}} | candidate],
    }
    if base_url:
        data["providers"] = {"mock": {"base_url": base_url}}
    return config.build(data, source="test", folder=tmp_path)


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_after_earlier_answers_any_tokenizer_is_predicted_within_a_tenth(tmp_path: Path, name: str) -> None:
    """The server counts as a real tokenizer of 512 tokens does, which makes twice as many of a text as o200k."""
    tokenizers = pytest.importorskip("tokenizers")
    counts = tokenizers.Tokenizer.from_file(str(SHARED / "lm_stories260K" / "tokenizer.json"))

    def tokens(messages: list[dict[str, str]]) -> int:
        return sum(len(counts.encode(message["content"]).ids) + 3 for message in messages)

    def answer(body: dict[str, Any], number: int) -> Any:
        return completion("yes") | {"usage": {"prompt_tokens": tokens(body["messages"]), "completion_tokens": 1}}

    some = random.Random(2).sample(texts(name), 120)
    with serving(answer) as server:
        pipeline.assess(built(tmp_path, some[:40], server.base_url), out=tmp_path / "run")
        before = preparing.prepare(built(tmp_path, some[40:], server.base_url))
    (plan,) = before.plans
    billed = sum(tokens([dict(turn) for turn in request.messages]) for request in before.requests["m"])
    assert plan.input_tokens == pytest.approx(billed, rel=0.1)
    assert plan.usd == pytest.approx((plan.input_tokens + 2 * plan.output_tokens) / 1e6)
    assert "40 earlier answers" in plan.assumes


@needs_shared
def test_a_local_model_is_counted_with_its_own_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    some = [text for text in texts("clinc150")[::10] if len(text) < 60][:300]
    asked = built(tmp_path, some, model=f"hf:{SHARED / 'lm_stories260K'}", price=None)
    checked = checking.check(asked, out=tmp_path / "run")
    (plan,) = checked.prepared.plans
    result = pipeline.assess(asked, out=tmp_path / "run")
    lines = (result.path / "predictions" / "m.jsonl").read_text().splitlines()
    used = sum(json.loads(line)["usage"]["input_tokens"] for line in lines)
    assert plan.input_tokens == pytest.approx(used, rel=0.1)
    assert plan.minutes is not None and plan.minutes > 0 and plan.memory_gb


def seen(asked: config.Config) -> dict[str, Any]:
    return usage_seen.read(preparing.prepare(asked).config)


def test_what_was_seen_is_kept_per_endpoint_model_and_task(tmp_path: Path) -> None:
    rows = [f"message {i}" for i in range(30)]
    with serving(lambda body, number: "yes") as one, serving(lambda body, number: "no") as other:
        asked = built(tmp_path, rows, one.base_url)
        pipeline.assess(asked, out=tmp_path / "run")
        assert seen(asked)["m"].answers == 30
        assert seen(built(tmp_path, rows, other.base_url)) == {}
        assert seen(built(tmp_path, rows, one.base_url, model="mock:other")) == {}
        for change in (
            {"name": "another task"},
            {"type": "generation"},
            {"prompt": "yes or no? {{ text }}"},
            {"system": "Short."},
        ):
            assert (
                seen(
                    built(tmp_path, rows, one.base_url).model_copy(
                        update={"task": asked.task.model_copy(update=change)}
                    )
                )
                == {}
            )
        more = built(tmp_path, [*rows, "one more"], one.base_url)
        assert seen(more)["m"].answers == 30, "of the same task with other rows it is kept"


def test_a_few_answers_teach_nothing_and_a_broken_file_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALFT_CACHE", str(tmp_path / "cache"))
    with serving(lambda body, number: "yes") as server:
        few = built(tmp_path, [f"message {i}" for i in range(usage_seen.LEAST_ANSWERS - 1)], server.base_url)
        pipeline.assess(few, out=tmp_path / "run")
        assert seen(few) == {}
        for content in ("not json", "[]", '{"x": {"y": 1}}', '{"x": 3}'):
            (tmp_path / "cache" / "usage.json").write_text(content)
            assert seen(few) == {}
