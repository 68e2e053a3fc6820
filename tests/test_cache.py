"""What an answer is known by: whatever could change it changes its key, what cannot does not, and its age is shown."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from api_server import serving
from evalft import cache, candidates, config, pipeline, preparing
from evalft.candidates import model_files
from evalft.config import CandidateConfig
from evalft.errors import CannotStart, UserError
from evalft.planning import max_tokens
from evalft.prices import HourPrice, TokenPrice
from evalft.records import Example
from evalft.reporting import view
from evalft.store import RunFolder

text = st.text(st.characters(codec="utf-8", exclude_characters="{}%#"), min_size=1, max_size=8)
number = st.floats(0.1, 1.0)

# Of each setting of a candidate: values, and what else than its answers it could change (nothing: its key changes).
API: Mapping[str, tuple[st.SearchStrategy[Any], str]] = {
    "model": (text.map("mock:{}".format), ""),
    "prompt": (text.map("{{{{ text }}}} {}".format), ""),
    "system": (text, ""),
    "shots": (st.integers(0, 3), ""),
    "temperature": (number, ""),
    "top_p": (number, ""),
    "max_tokens": (st.integers(1, 4000), ""),
    "stop": (st.lists(text, min_size=1, max_size=3), ""),
    "seed": (st.integers(0, 10**6), ""),
    "reasoning_effort": (st.sampled_from(["low", "medium", "high"]), ""),
    "extra_body": (st.dictionaries(text, st.booleans() | text, min_size=1, max_size=3), ""),
    "samples": (st.integers(1, 4), "how many answers are asked for, each with a key of its own"),
    "name": (text, "what it is called"),
    "price": (number.map(lambda usd: {"input": usd, "output": 1.0}), "what it costs"),
    "mode": (st.just("live"), "when it is asked"),
}
LOCAL_ONLY = {"adapter", "revision", "num_beams", "dtype", "device"}

TRAIN = [Example(f"t{i}", f"train {i}", "spam", {"text": f"train {i}"}) for i in range(3)]
ROWS = [Example(f"r{i}", f"row {i}", "ham", {"text": f"row {i}"}) for i in range(2)]


def made(base_url: str = "http://127.0.0.1:1/v1", *, task: Mapping[str, Any] = {}, **candidate: Any) -> config.Config:
    data = {
        "task": {"test": "x", "type": "classification", "labels": ["ham", "spam"]} | dict(task),
        "providers": {"mock": {"base_url": base_url}},
        "candidates": [{"model": "mock:m", "temperature": 0.5} | candidate],
    }
    return config.build(data, source="test", folder=Path("/nowhere"))


def keys(of: config.Config) -> dict[tuple[int, int], str]:
    """(row, repeat) -> the key under which its answer is kept."""
    (one,) = of.candidates
    asked = preparing.requests_for(of, one, ROWS, train=TRAIN)
    price: Any = HourPrice(1, 1, "test") if one.provider == "hf" else TokenPrice(1, 1, 1, "test")
    candidate = candidates.build(one, of, price=price, max_tokens=max_tokens(one, of.task, ROWS))
    return {(request.index, request.repeat): cache.key(candidate.identity(), request) for request in asked}


def test_every_setting_of_a_candidate_was_considered() -> None:
    """A new one must be put into the table: can it change an answer? Then it must change the key."""
    assert API.keys() | LOCAL_ONLY == CandidateConfig.model_fields.keys()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_setting_changes_the_key_of_an_answer_if_and_only_if_it_can_change_the_answer(data: st.DataObject) -> None:
    around = {
        name: data.draw(values, label=name)
        for name, (values, _) in API.items()
        if name not in ("model", "samples") and data.draw(st.booleans(), label=f"with {name}")
    }
    changed = data.draw(st.sampled_from(sorted(API)))
    values, only_changes = API[changed]
    one, other = data.draw(st.lists(values, min_size=2, max_size=2), label=changed)
    before, after = keys(made(**(around | {changed: one}))), keys(made(**(around | {changed: other})))
    shared = before.keys() & after.keys()
    if only_changes or one == other:
        assert all(before[place] == after[place] for place in shared)
    else:
        assert all(before[place] != after[place] for place in shared)
    assert len(set(before.values())) == len(before), "rows or repeats share an answer"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (made("http://127.0.0.1:1/v1"), made("http://127.0.0.1:2/v1")),
        (made("http://127.0.0.1:1/v1"), made("https://127.0.0.1:1/v1")),
        (made("http://127.0.0.1:1/v1"), made("http://127.0.0.1:1/v2")),
        (made(), made(task={"labels": ["spam", "ham"]})),
        (made(), made(task={"type": "multilabel"})),
        (made(), made(task={"type": "generation", "labels": None})),
        (made(), made(task={"metrics": ["roc_auc"]})),  # probabilities are asked for
        (made(), made(task={"system": "Be brief."})),
    ],
)
def test_servers_and_tasks_share_no_answers(one: config.Config, other: config.Config) -> None:
    assert not set(keys(one).values()) & set(keys(other).values())


def test_what_is_scored_and_where_the_rows_stand_does_not_change_the_key() -> None:
    assert keys(made(task={"normalize": ["lower"], "name": "n", "positive": "ham"})) == keys(made())
    assert keys(made("http://127.0.0.1:1/v1/")) == keys(made("http://127.0.0.1:1/v1"))


# ---------------------------------------------------------------- local models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_models.causal(folder / "one", seed=1)
    tiny_models.causal(folder / "two", seed=2)
    tiny_models.adapter(folder / "adapter", folder / "one", seed=1)
    tiny_models.adapter(folder / "adapter2", folder / "one", seed=2)
    return folder


def local(models: Path, model: str = "one", **more: Any) -> dict[tuple[int, int], str]:
    task = {"prompt": "{{ text }}"}
    return keys(made(task=task, **({"model": f"hf:{models / model}", "device": "cpu"} | more)))


@pytest.mark.parametrize(
    "change",
    [
        {"model": "two"},
        {"adapter": "adapter"},
        {"dtype": "bfloat16"},
        {"num_beams": 2},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"max_tokens": 3},
        {"stop": ["."]},
        {"seed": 5},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}},
        {"system": "Be brief."},
        {"shots": 1},
    ],
    ids=str,
)
def test_a_local_setting_changes_the_key(models: Path, change: dict[str, Any]) -> None:
    if "adapter" in change:
        change = {"adapter": str(models / change["adapter"])}
        other = {"adapter": str(models / "adapter2")}
        assert not set(local(models, **change).values()) & set(local(models, **other).values())
    assert not set(local(models, **change).values()) & set(local(models).values())


def test_another_device_has_answers_of_its_own(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    here = local(models)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not set(here.values()) & set(local(models, device="cuda", dtype="float32").values())


def test_two_models_that_stood_at_one_path_share_no_answers(models: Path, tmp_path: Path) -> None:
    found = []
    for model in ("one", "two"):
        shutil.copytree(models / model, tmp_path / "place")
        found.append(local(tmp_path, "place"))
        shutil.rmtree(tmp_path / "place")
    assert not set(found[0].values()) & set(found[1].values())
    assert found[0] == local(models), "the same model elsewhere has the same answers"


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [("mock:m", key, value) for key, value in
     {"adapter": "a", "revision": "r", "num_beams": 2, "dtype": "float32", "device": "cpu"}.items()]
    + [("hf:m/n", "reasoning_effort", "low")],
)  # fmt: skip
def test_a_setting_without_effect_is_refused(model: str, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"candidates.0.{key}: only"):
        made(model=model, **{key: value})


def test_a_hub_model_that_moved_on_is_not_mixed_with_what_it_was(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub itself is out of a test's reach; what it says is put in its place."""
    commit = {"one": "one@aaa", "two": "two@bbb"}
    now = "one"
    monkeypatch.setattr(model_files, "_from_hub", lambda *_: (models / now, f"owner/{commit[now]}"))
    rows = [{"id": f"r{i}", "text": f"row {i}", "label": "ham"} for i in range(2)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification", "prompt": "{{ text }}"}
    asked = config.build(
        {"task": task | {"labels": ["ham", "spam"]}, "candidates": [{"name": "it", "model": "hf:owner/model"}]},
        source="test",
        folder=tmp_path,
    )
    pipeline.assess(asked, out=tmp_path / "run")
    predictions = RunFolder(tmp_path / "run").predictions_file("it")
    predictions.write_text(predictions.read_text().splitlines(keepends=True)[0])  # a kill: one row is owed
    now = "two"
    with pytest.raises(CannotStart, match=r"owner/one@aaa.*owner/two@bbb.*--fresh"):
        pipeline.assess(asked, out=tmp_path / "run")
    now = "one"
    assert pipeline.assess(asked, out=tmp_path / "run").status == 0


# ---------------------------------------------------------------- kept, shown, measured again


def knows(body: dict[str, Any], number: int) -> str:
    return ["ham", "spam"][number % 2]


def served(folder: Path, base_url: str, count: int, **candidate: Any) -> config.Config:
    rows = [{"id": f"r{i}", "text": f"row {i}", "label": ["ham", "spam"][i % 2]} for i in range(count)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    price = {"input": 1.0, "output": 2.0}
    return config.build(
        {
            "task": {"test": "test.jsonl", "input": "text", "target": "label", "type": "classification"},
            "providers": {"mock": {"base_url": base_url}},
            "candidates": [{"name": "it", "model": "mock:m", "price": price} | candidate],
        },
        source="test",
        folder=folder,
    )


def test_repeats_are_answers_of_their_own_also_from_the_cache(tmp_path: Path) -> None:
    with serving(knows) as server:
        asked = served(tmp_path, server.base_url, 3, samples=4, temperature=1.0)
        pipeline.assess(asked, out=tmp_path / "one")
        assert len(server.bodies) == 12
        pipeline.assess(asked, out=tmp_path / "two")
        assert len(server.bodies) == 12
    texts = [
        [(o.index, o.repeat, o.text) for o in RunFolder(tmp_path / run).read_predictions("it")]
        for run in ("one", "two")
    ]
    assert texts[0] == texts[1]
    assert {text for _, _, text in texts[0]} == {"ham", "spam"}


def test_the_age_of_cached_answers_is_shown_wherever_the_run_is(tmp_path: Path) -> None:
    with serving(knows) as server:
        pipeline.assess(served(tmp_path, server.base_url, 12), out=tmp_path / "one")
        (database,) = (tmp_path / "cache").glob("*.sqlite")
        with sqlite3.connect(database) as opened:
            days = [datetime(2026, 11, day, tzinfo=UTC).timestamp() for day in (2, 20)]
            opened.execute("update responses set made = ?", [days[0]])
            opened.execute("update responses set made = ? where key = (select min(key) from responses)", [days[1]])
        opened.close()
        result = pipeline.assess(served(tmp_path, server.base_url, 14), out=tmp_path / "two")
    (entry,) = result.summary["candidates"]
    assert entry["cache"] == {"answers": 12, "of": 14, "first": "2026-11-02", "last": "2026-11-20"}
    sentence = view.read(tmp_path / "two").candidates[0].cached
    assert "12 of 14 answers" in sentence and "2026-11-02 to 2026-11-20" in sentence
    for report in ("report.md", "report.html"):
        assert "2026-11-02 to 2026-11-20" in (tmp_path / "two" / report).read_text()


def test_a_fresh_run_asks_again_and_its_answers_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    """Another model may answer under the same name and address today."""
    with serving(lambda body, number: "ham") as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        pipeline.assess(served(tmp_path, server.base_url, 4), out=tmp_path / "one")
    with serving(lambda body, number: "spam", port) as server:
        asked = served(tmp_path, server.base_url, 4)
        pipeline.assess(asked, out=tmp_path / "one", fresh=True)
        assert len(server.bodies) == 4
        pipeline.assess(asked, out=tmp_path / "two")
        assert len(server.bodies) == 4
    for run in ("one", "two"):
        assert {o.text for o in RunFolder(tmp_path / run).read_predictions("it")} == {"spam"}


def test_a_price_or_a_name_belongs_to_the_run_and_not_to_the_answers(tmp_path: Path) -> None:
    with serving(knows) as server:
        one = served(tmp_path, server.base_url, 4)
        pipeline.assess(one, out=tmp_path / "one")
        dear = served(tmp_path, server.base_url, 4, price={"input": 9.0, "output": 9.0})
        named = served(tmp_path, server.base_url, 4, name="other")
        digests = [preparing.prepare(found).digest for found in (one, dear, named)]
        pipeline.assess(named, out=tmp_path / "named")
        assert len(server.bodies) == 4
    assert digests[0] == digests[1] != digests[2]
