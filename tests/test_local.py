"""candidates/local.py: real tiny models, made here, and the small real Llama of the shared data where it is there."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny_models
from evalft.candidates.local import LocalCandidate
from evalft.candidates.model_files import find_model, reads_raw_input
from evalft.candidates.model_prompts import ModelPrompts
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import CannotStart
from evalft.prices import HourPrice
from evalft.prompts import Request
from evalft.records import Failure, Outcome, Prediction

pytest.importorskip("torch")
pytest.importorskip("transformers")

LABELS = ["card", "card arrival", "card lost", "refund", "weather", "x"]
WORDS = "the bank sends a new card and a refund while the quick brown fox jumps over the lazy dog".split()
SHARED = Path(os.environ.get("EVALFT_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
STORIES = SHARED / "lm_stories260K"


def requests(count: int, prompt: str = "{text}\nLabel:", system: str = "") -> list[Request]:
    """Rows of different lengths, from one word to 60."""
    head = [{"role": "system", "content": system}] if system else []
    made = []
    for i in range(count):
        text = " ".join(WORDS[(i * 7 + j) % len(WORDS)] for j in range(1 + (i * 13) % 60))
        made.append(Request(f"r{i}", i, 0, (*head, {"role": "user", "content": prompt.format(text=text)})))
    return made


def candidate(
    folder: Path, kind: str = "classification", labels: list[str] | None = None, **given: Any
) -> LocalCandidate:
    task = TaskConfig(type=kind, labels=LABELS if labels is None else labels)
    own = {"max_tokens": 12, "want_probs": False, "dev": ()}
    options = {name: given.pop(name, default) for name, default in own.items()}
    given.setdefault("device", "cpu")
    return LocalCandidate(
        CandidateConfig(model=f"hf:{folder}", **given), task, price=HourPrice(3600.0, 3600.0, "config"), **options
    )


def started(*args: Any, **given: Any) -> LocalCandidate:
    made = candidate(*args, **given)
    made.start()
    return made


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models this small lose more to waiting for a second thread than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@lru_cache(maxsize=4)
def reference_model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def naive_log_likelihood(model: Any, tokens: list[int], start: int) -> float:
    """One full forward over one sequence, no padding, no cache."""
    import torch

    with torch.no_grad():
        logp = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(float(logp[i - 1, tokens[i]]) for i in range(start, len(tokens)))


def naive_probs(model: Any, prompt: list[int], labels: list[list[int]]) -> list[float]:
    scores = np.array([naive_log_likelihood(model, [*prompt, *label], len(prompt)) for label in labels])
    shares = np.exp(scores - scores.max())
    return list(shares / shares.sum())


def probs_of(outcomes: list[Outcome]) -> list[list[float]]:
    assert all(isinstance(outcome, Prediction) and outcome.probs for outcome in outcomes)
    return [list(outcome.probs.values()) for outcome in outcomes]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def learned_positions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal(tmp_path_factory.mktemp("gpt2"), family="gpt2")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal(tmp_path_factory.mktemp("chat"), chat_template=tiny_models.CHAT_TEMPLATE)


@pytest.fixture(params=["plain", "learned_positions", "chat"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    return request.getfixturevalue(request.param)


# ---------------------------------------------------------------- label log-likelihoods


def test_label_probabilities_equal_one_full_forward_per_label(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = requests(7)
    outcomes = started(folder).answer(asked)
    for request, got in zip(asked, probs_of(outcomes), strict=True):
        if tokenizer.chat_template:
            prompt = tokenizer.apply_chat_template(
                list(request.messages), add_generation_prompt=True, return_dict=False
            )
            labels = [tokenizer(label, add_special_tokens=False)["input_ids"] for label in LABELS]
        else:
            text = request.messages[0]["content"]
            prompt = tokenizer(text)["input_ids"]
            labels = [tokenizer(f"{text} {label}")["input_ids"][len(prompt) :] for label in LABELS]
        labels[0] = [*labels[0], tokenizer.eos_token_id]  # "card" begins "card arrival" and "card lost"
        assert got == pytest.approx(naive_probs(reference_model(folder), prompt, labels), abs=1e-4)


def test_the_label_of_largest_probability_is_the_answer(plain: Path) -> None:
    for outcome in started(plain).answer(requests(9)):
        assert isinstance(outcome, Prediction) and outcome.probs
        assert outcome.labels == (max(outcome.probs, key=outcome.probs.__getitem__),)
        assert sum(outcome.probs.values()) == pytest.approx(1)
        assert outcome.probs_method == "log_likelihood" and outcome.text is None


def test_label_probabilities_do_not_depend_on_the_batch_or_on_chunks(folder: Path) -> None:
    asked = requests(9)
    model = started(folder)
    together = probs_of(model.answer(asked))
    alone = [probs_of(model.answer([request]))[0] for request in asked]
    model._budget_tokens = 1  # one branch at a time
    chunked = probs_of(model.answer(asked))
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, chunked, atol=1e-5)


def test_a_model_whose_cache_cannot_branch_gives_the_same_probabilities(folder: Path) -> None:
    model = started(folder)
    shared = probs_of(model.answer(requests(11)))
    model._causal.branches = model._causal.trees = False
    np.testing.assert_allclose(probs_of(model.answer(requests(11))), shared, atol=1e-5)


def test_77_labels_of_several_tokens(plain: Path) -> None:
    labels = sorted({f"{a} {b}" for a in WORDS for b in WORDS})[:77]
    model = started(plain, labels=labels)
    together = probs_of(model.answer(requests(6)))
    assert np.array(together).shape == (6, 77)
    np.testing.assert_allclose(together, [probs_of(model.answer([r]))[0] for r in requests(6)], atol=1e-5)


def test_labels_of_one_token_need_no_second_pass(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = started(plain, labels=["x", "y", "z"])
    assert all(len(tokens) == 1 for tokens in model._prompts.encode([" x", " y", " z"], special=False))
    passes: list[object] = []
    forward = model._causal.forward
    monkeypatch.setattr(model._causal, "forward", lambda *args, **given: (passes.append(1), forward(*args, **given))[1])
    assert len(probs_of(model.answer(requests(5)))) == 5
    assert len(passes) == 1


def test_what_labels_begin_with_is_read_once() -> None:
    from evalft.candidates.log_likelihood import Branch, split

    branches = [Branch((1, 2, 3)), Branch((1, 2, 4, 6)), Branch((1, 5)), Branch((1, 2, 3, 9)), Branch((7,))]
    (part,) = split(branches, 9)
    assert sorted(part.tree.tokens) == [1, 2, 3, 4]
    assert [part.tree.tokens for part in split(branches, 0)] == [(1, 2, 4), (1, 2, 3)]


def test_white_space_at_the_prompts_end_belongs_to_the_label(plain: Path) -> None:
    model = started(plain)
    without = probs_of(model.answer(requests(4, "{text}\nLabel:")))
    np.testing.assert_allclose(probs_of(model.answer(requests(4, "{text}\nLabel: "))), without, atol=1e-5)


def test_shots_and_system_are_plain_text_without_a_chat_template(plain: Path) -> None:
    model = started(plain)
    turns = (("system", "Be brief."), ("user", "2 plus 2"), ("assistant", "4"), ("user", "1 plus 1"))
    messages = tuple({"role": role, "content": content} for role, content in turns)
    assert model._prompts.render(messages) == "Be brief.\n\n2 plus 2\n4\n\n1 plus 1\n"
    label = tuple({**turn, "content": turn["content"] + "\nLabel:"} for turn in messages[1:2])
    assert model._prompts.render((*label, messages[2], *label)) == "2 plus 2\nLabel: 4\n\n2 plus 2\nLabel:"


# ---------------------------------------------------------------- generation


def test_greedy_answers_do_not_depend_on_the_batch(folder: Path) -> None:
    model = started(folder, "generation")
    asked = requests(9, "{text}")
    together = [outcome.text for outcome in model.answer(asked)]
    assert together == [model.answer([request])[0].text for request in asked]
    assert len(set(together)) > 3


def test_plain_text_answers_stop_at_the_first_newline_and_chat_ones_do_not(plain: Path, chat: Path) -> None:
    for folder, stops in ((plain, True), (chat, False)):
        model = started(folder, "generation", max_tokens=80)
        texts = [outcome.text or "" for outcome in model.answer(requests(16, "{text}"))]
        assert any("\n" in text for text in texts) is not stops
        if stops:
            cut = [outcome for outcome in model.answer(requests(16, "{text}")) if outcome.finish_reason == "stop"]
            assert cut and all(outcome.usage and outcome.usage.output_tokens < 80 for outcome in cut)


def test_a_stop_string_cuts_the_answer(chat: Path) -> None:
    asked = requests(6, "{text}")
    whole = [outcome.text or "" for outcome in started(chat, "generation", max_tokens=30).answer(asked)]
    stop = whole[0][4:7]
    cut = started(chat, "generation", max_tokens=30, stop=[stop]).answer(asked)
    assert [outcome.text for outcome in cut] == [text.partition(stop)[0] for text in whole]
    assert cut[0].finish_reason == "stop"


def test_an_answer_cut_by_the_token_limit_is_truncated_and_keeps_its_text(chat: Path) -> None:
    outcomes = started(chat, "generation", max_tokens=3).answer(requests(8, "{text}"))
    cut = [outcome for outcome in outcomes if outcome.finish_reason == "length"]
    assert cut
    assert all(isinstance(outcome, Failure) and outcome.failure == "truncated" and outcome.text for outcome in cut)
    assert all(outcome.usage and outcome.usage.output_tokens == 3 for outcome in cut)


def test_an_end_token_ends_the_answer(chat: Path, tmp_path: Path) -> None:
    """Any of several end tokens does: the sixth generated token is made one of them."""
    asked = requests(3, "{text}")
    model = started(chat, "generation", max_tokens=20)
    (made,) = model._decoding.generate(model._causal, [model._rows(asked)[0].tokens], 20)
    new = made.tokens
    end = new[5]
    folder = tmp_path / "ends"
    shutil.copytree(chat, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, end], "pad_token_id": 0}))
    ended = started(folder, "generation", max_tokens=20).answer(asked)[0]
    assert ended.finish_reason == "stop"
    assert ended.text == model._prompts.decode([new[: new.index(end)]])[0]


def test_the_models_own_sampling_defaults_are_not_used_and_said(chat: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(chat, folder)
    own = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "eos_token_id": 2, "pad_token_id": 0}
    (folder / "generation_config.json").write_text(json.dumps(own))
    model = candidate(folder, "generation")
    assert any("repetition_penalty" in choice for choice in model.start())
    asked = requests(6, "{text}")
    greedy = [outcome.text for outcome in started(chat, "generation").answer(asked)]
    assert [outcome.text for outcome in model.answer(asked)] == greedy


def test_sampling_is_repeatable_by_seed_and_differs_by_repeat(chat: Path) -> None:
    asked = requests(5, "{text}")
    again = [Request(request.id, request.index, 1, request.messages) for request in asked]
    texts = []
    for seed, some in ((1, asked), (1, asked), (2, asked), (1, again)):
        model = started(chat, "generation", temperature=1.0, top_p=0.9, seed=seed)
        texts.append([outcome.text for outcome in model.answer(some)])
    assert texts[0] == texts[1]
    assert texts[0] != texts[2] and texts[0] != texts[3]


def test_beam_search_answers(chat: Path) -> None:
    asked = requests(5, "{text}")
    model = started(chat, "generation", num_beams=3)
    together = [outcome.text for outcome in model.answer(asked)]
    assert together == [model.answer([request])[0].text for request in asked]


def test_a_prompt_longer_than_the_context_fails_alone(folder: Path) -> None:
    for kind in ("generation", "classification"):
        model = started(folder, kind)
        asked = requests(3, "{text}")
        long = Request("long", 9, 0, ({"role": "user", "content": "fox " * 900},))
        outcomes = model.answer([asked[0], long, asked[1]])
        failed = outcomes[1]
        assert isinstance(failed, Failure) and failed.failure == "api_error" and "256" in failed.message
        assert [outcome.id for outcome in outcomes] == ["r0", "long", "r1"]
        assert [(o.text, getattr(o, "labels", None)) for o in (outcomes[0], outcomes[2])] == [
            (o.text, getattr(o, "labels", None)) for o in model.answer(asked[:2])
        ]


def test_a_prompt_near_the_contexts_end_has_the_room_that_is_left(learned_positions: Path) -> None:
    model = started(learned_positions, "generation", max_tokens=40)
    text = "fox " * 400
    while len(model._prompts.encode([text], special=True)[0]) > 250:
        text = text[:-1]
    room = 256 - len(model._prompts.encode([text], special=True)[0])
    request = Request("near", 0, 0, ({"role": "user", "content": text},))
    outcome = model.answer([*requests(2, "{text}"), request])[2]
    assert outcome.usage and outcome.usage.output_tokens <= room < 40


def test_what_the_chat_template_refuses_is_a_failure_of_its_row(tmp_path: Path) -> None:
    template = (
        "{% if 'dog' in messages[0].content %}{{ raise_exception('no dogs') }}{% endif %}" + tiny_models.CHAT_TEMPLATE
    )
    model = started(tiny_models.causal(tmp_path / "m", chat_template=template))
    asked = [Request(str(i), i, 0, ({"role": "user", "content": text},)) for i, text in enumerate(("a fox", "a dog"))]
    (batch,) = model.batches(asked)
    by_id = {outcome.id: outcome for outcome in model.answer(batch)}
    assert isinstance(by_id["0"], Prediction)
    assert isinstance(by_id["1"], Failure) and "no dogs" in by_id["1"].message


def test_a_template_without_system_role_gets_the_system_text_in_the_user_turn(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}[{{ m.content }}]{% endfor %}"
    )
    model = candidate(tiny_models.causal(tmp_path / "m", chat_template=template))
    assert any("no system role" in choice for choice in model.start())
    assert model._prompts.render(requests(1, "hi", system="Be brief.")[0].messages) == "[Be brief.\n\nhi]"


# ---------------------------------------------------------------- multi-label


def test_p_yes_equals_full_forwards_and_is_given_only_when_asked(folder: Path) -> None:
    import torch

    model = started(folder, "multilabel", want_probs=True)
    row, *_ = model._prompts.rows(requests(1))
    prompt, branches = model._prompts.probe_branches(row)
    with torch.inference_mode():
        (probs,) = model._p_yes([row])
    assert probs is not None and list(probs) == LABELS
    for i, label in enumerate(LABELS):
        yes, no = (
            naive_log_likelihood(reference_model(folder), [*prompt, *branch.tokens], len(prompt) + branch.start)
            for branch in branches[2 * i : 2 * i + 2]
        )
        assert probs[label] == pytest.approx(1 / (1 + np.exp(no - yes)), abs=1e-4)
        assert f'"{label}" apply' in model._prompts.decode([[*prompt, *branches[2 * i].tokens]])[0]
    asked = requests(12)
    plain_probs = [getattr(o, "probs", None) for o in started(folder, "multilabel").answer(asked)]
    assert plain_probs == [None] * 12


def test_p_yes_joins_answers_that_could_be_read(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = started(plain, "multilabel", want_probs=True)
    texts = iter(["card, refund", "gibberish", "none"])
    monkeypatch.setattr(model._decoding, "read", lambda new: (next(texts), "stop", 3))
    first, second, third = model.answer(requests(3))
    assert isinstance(first, Prediction) and first.labels == ("card", "refund") and first.probs_method == "p_yes"
    assert isinstance(second, Failure) and second.failure == "unparsable" and second.text == "gibberish"
    assert isinstance(third, Prediction) and third.labels == () and third.probs and set(third.probs) == set(LABELS)


# ---------------------------------------------------------------- sequence classifiers


def test_a_sequence_classifier_gives_softmax_and_takes_only_the_users_text(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = tiny_models.classifier(tmp_path / "m", LABELS[::-1])
    asked = requests(9, "{text}", system="ignored")
    got = started(folder).answer(asked)
    reference = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    made = tiny_models.tokenizer()
    for request, outcome in zip(asked, got, strict=True):
        with torch.no_grad():
            logits = reference(torch.tensor([made(request.messages[-1]["content"])["input_ids"]])).logits[0]
        assert isinstance(outcome, Prediction) and outcome.probs and outcome.probs_method == "softmax"
        assert outcome.labels == (LABELS[::-1][int(logits.argmax())],)
        assert [outcome.probs[label] for label in LABELS[::-1]] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
    assert reads_raw_input(str(folder)) and not reads_raw_input(str(tmp_path))


def test_a_multilabel_classifier_gives_sigmoids_and_chooses_cut_offs_on_dev(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path / "m", LABELS)
    asked = requests(30, "{text}")
    outcomes = started(folder, "multilabel").answer(asked)
    for outcome in outcomes:
        assert isinstance(outcome, Prediction) and outcome.probs and outcome.probs_method == "sigmoid"
        assert outcome.labels == tuple(label for label in LABELS if outcome.probs[label] >= 0.5)
    # truth: the ten rows that "card" suits best, whatever 0.5 says; a fitting cut-off finds exactly those
    ranked = sorted(outcomes, key=lambda outcome: -outcome.probs["card"])  # type: ignore[union-attr,index]
    right = {outcome.index for outcome in ranked[:10]}
    dev = [(request, ["card"] if request.index in right else []) for request in asked]
    model = candidate(folder, "multilabel", dev=dev)
    assert any("30 dev rows" in choice for choice in model.start())
    cut = {outcome.index for outcome in model.answer(asked) if "card" in (outcome.labels or ())}  # type: ignore[union-attr]
    assert cut == right


def test_a_classifier_with_other_labels_cannot_start(tmp_path: Path) -> None:
    folder = tiny_models.classifier(tmp_path / "m", ["spam", "ham"])
    with pytest.raises(CannotStart, match=r"spam, ham.*card arrival"):
        candidate(folder).start()


# ---------------------------------------------------------------- adapters


def test_an_adapter_changes_the_answers_as_peft_does(plain: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = tiny_models.adapter(tmp_path / "lora", plain)
    asked = requests(3)
    labels = ["refund", "weather", "x"]
    model = started(plain, adapter=str(folder), labels=labels)
    adapted = probs_of(model.answer(asked))
    assert np.abs(np.array(adapted) - np.array(probs_of(started(plain, labels=labels).answer(asked)))).max() > 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(plain), str(folder)).eval()
    for (prompt, branches), got in zip(model._prompts.label_branches(model._rows(asked), end=2), adapted, strict=True):
        tokens = [list(branch.tokens) for branch in branches]
        assert got == pytest.approx(naive_probs(reference, prompt, tokens), abs=1e-4)


def test_an_adapter_of_another_model_cannot_start(plain: Path, learned_positions: Path, tmp_path: Path) -> None:
    folder = tiny_models.adapter(tmp_path / "lora", plain)
    with pytest.raises(CannotStart, match="does not fit"):
        candidate(learned_positions, adapter=str(folder)).start()
    config = json.loads((plain / "config.json").read_text()) | {"num_hidden_layers": 1}
    import transformers

    shallow = tmp_path / "shallow"
    transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**config)).save_pretrained(shallow)
    tiny_models.tokenizer().save_pretrained(shallow)
    with pytest.raises(CannotStart, match="no counterpart"):
        candidate(shallow, adapter=str(folder)).start()


# ---------------------------------------------------------------- what cannot start


def test_what_cannot_start_says_why_in_one_line(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def copy(name: str) -> Path:
        shutil.copytree(plain, tmp_path / name)
        return tmp_path / name

    def rewrite(name: str, **changes: object) -> Path:
        folder = copy(name)
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    pickled = copy("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cut = copy("cut")
    (cut / "model.safetensors").write_bytes((plain / "model.safetensors").read_bytes()[:5000])
    pointer = copy("pointer")
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    bare = copy("bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    no_config = copy("no_config")
    (no_config / "config.json").unlink()
    cases = {
        tmp_path / "nowhere": "there is no folder",
        no_config: "no config.json",
        pickled: "pickled weights",
        cut: "not a whole safetensors file",
        pointer: "not a whole safetensors file",
        bare: "no tokenizer",
        rewrite("own_code", model_type="mine", auto_map={"AutoModel": "mine.Mine"}): "trust_remote_code",
        rewrite("unknown", model_type="mine"): "does not know the architecture 'mine'",
        rewrite("deeper", num_hidden_layers=3): "random numbers",
        rewrite("wider", hidden_size=64): "cannot be loaded",
        Path("somebody/some-model-that-nobody-made"): "could not be fetched",
        tiny_models.adapter(tmp_path / "lora", plain): "is an adapter",
    }
    for folder, said in cases.items():
        with pytest.raises(CannotStart, match=said) as raised:
            candidate(folder).start()
        assert "\n" not in str(raised.value) and ";" in str(raised.value), raised.value
    with pytest.raises(CannotStart, match="there is no folder"):
        candidate(plain, adapter=str(tmp_path / "nowhere")).start()
    with pytest.raises(CannotStart, match="device npu is not there"):
        candidate(plain, device="npu").start()


def test_a_model_larger_than_the_memory_cannot_start(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalft.candidates.local.available_memory_bytes", lambda: 1000)
    with pytest.raises(CannotStart, match="GiB are free on cpu"):
        candidate(plain).start()


def test_a_missing_extra_names_the_install_command(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CannotStart, match=r"pip install 'evalft\[local\]'"):
        candidate(plain).start()


# ---------------------------------------------------------------- batches, memory, money, identity


def test_batches_hold_every_request_once_longest_first_within_the_budget(plain: Path) -> None:
    model = started(plain)
    asked = requests(90)
    batches = list(model.batches(asked))
    assert sorted(request.index for batch in batches for request in batch) == list(range(90))
    lengths = [[len(row.tokens) for row in model._rows(batch)] for batch in batches]
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)
    model._budget_tokens = 300
    assert all(
        len(row) * max(row) <= 300 for row in ([len(r.tokens) for r in model._rows(b)] for b in model.batches(asked))
    )


def test_a_batch_that_does_not_fit_is_halved_and_a_row_that_does_not_is_a_failure(
    chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = started(chat, "generation", max_tokens=20)
    asked = requests(11, "{text}")
    expected = [outcome.text for outcome in model.answer(asked)]
    read_prompts, sizes = model._causal.read_prompts, []

    def small(prompts: Any) -> Any:
        sizes.append(len(prompts))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return read_prompts(prompts)

    monkeypatch.setattr(model._causal, "read_prompts", small)
    assert [outcome.text for outcome in model.answer(asked)] == expected
    assert max(sizes) == 11 and sizes.count(3) + sizes.count(2) >= 3
    assert max(len(batch) for batch in model.batches(requests(30))) <= 3  # later batches start where it went well

    def never(_prompts: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model._causal, "read_prompts", never)
    failed = model.answer(asked[:3])
    assert [getattr(outcome, "failure", None) for outcome in failed] == ["out_of_memory"] * 3


def test_label_passes_that_do_not_fit_are_halved(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = started(plain)
    expected = probs_of(model.answer(requests(4)))
    read_trees = model._causal.read_trees

    def small(read: Any, rows: list[int], trees: list[Any]) -> Any:
        if len(rows) > 2:
            raise MemoryError
        return read_trees(read, rows, trees)

    monkeypatch.setattr(model._causal, "read_trees", small)
    np.testing.assert_allclose(probs_of(model.answer(requests(4))), expected, atol=1e-5)


def test_what_a_model_raises_is_a_failure_not_a_crash(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    model = started(plain)

    def broken(*_args: object, **_given: object) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered\nmore")

    monkeypatch.setattr(model._causal, "forward", broken)
    attempts = asyncio.run(model.predict(requests(2)))
    assert [getattr(attempt.outcome, "failure", None) for attempt in attempts] == ["api_error"] * 2
    assert "device-side assert" in attempts[0].outcome.message  # type: ignore[union-attr]


def test_numbers_that_are_not_finite_are_a_failure(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = started(plain)
    forward = model._causal.forward

    def overflow(*args: Any, **given: Any) -> Any:
        output = forward(*args, **given)
        output.logits = output.logits * float("nan")
        return output

    monkeypatch.setattr(model._causal, "forward", overflow)
    (failed,) = model.answer(requests(1))
    assert isinstance(failed, Failure) and failed.failure == "bad_response"


def test_cost_is_the_batchs_time_at_the_hourly_price_shared_by_its_rows(plain: Path) -> None:
    outcomes = started(plain).answer(requests(8))  # 3,600 USD per hour: one USD per second
    latencies = {outcome.latency_s for outcome in outcomes}
    assert len(latencies) == 1
    latency_s = latencies.pop()
    assert latency_s and latency_s > 0
    assert {outcome.batch for outcome in outcomes} == {min(outcome.index for outcome in outcomes)}, (
        "they name their batch"
    )
    assert latency_s <= sum(outcome.cost_usd for outcome in outcomes) < latency_s + 0.5


def test_identity_follows_contents_not_places(plain: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "moved"
    shutil.copytree(plain, elsewhere)
    assert candidate(elsewhere).identity() == candidate(plain).identity()
    (elsewhere / "README.md").write_text("a card changes no answer")
    assert candidate(elsewhere).identity() == candidate(plain).identity()
    for name in ("config.json", "tokenizer.json"):
        (elsewhere / name).write_text((elsewhere / name).read_text() + " ")
        assert candidate(elsewhere).identity() != candidate(plain).identity()
        shutil.copy(plain / name, elsewhere / name)
    for change in ({"stop": ["a"]}, {"temperature": 0.5}, {"dtype": "bfloat16"}, {"max_tokens": 13}, {"labels": ["x"]}):
        assert candidate(plain, **change).identity() != candidate(plain).identity(), change
    json.dumps(candidate(plain).identity())


def test_parameters_are_counted_from_the_files(plain: Path) -> None:
    model = started(plain)._model
    counted = find_model(str(plain), None, "here").parameters
    tied = {id(parameter): parameter.numel() for parameter in model.parameters()}
    assert counted == sum(tied.values())


# ---------------------------------------------------------------- a real pre-trained Llama


@pytest.fixture
def stories() -> Path:
    if not (STORIES / "model.safetensors").is_file():
        pytest.skip("the shared data has no lm_stories260K")
    return STORIES


def test_the_real_llama_scores_labels_as_full_forwards_do(stories: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stories)
    labels = ["happy", "sad", "happy and sad", "afraid"]
    asked = [
        Request(str(i), i, 0, ({"role": "user", "content": f"{text} {name} was very"},))
        for i, (text, name) in enumerate([("Once upon a time", "Lily"), ("Tom lost his red ball. He cried and", "Tom")])
    ]
    outcomes = started(stories, labels=labels).answer(asked)
    for request, got in zip(asked, probs_of(outcomes), strict=True):
        text = request.messages[0]["content"]
        prompt = tokenizer(text)["input_ids"]
        branches = [tokenizer(f"{text} {label}")["input_ids"][len(prompt) :] for label in labels]
        branches[0] = [*branches[0], tokenizer.eos_token_id]
        assert got == pytest.approx(naive_probs(reference_model(stories), prompt, branches), abs=1e-4)
    assert isinstance(outcomes[1], Prediction) and outcomes[1].labels == ("sad",)


def test_the_real_llama_tells_the_same_story_in_any_batch(stories: Path) -> None:
    starts = [
        "Once upon a time",
        "One day, a little girl named Lily found a",
        "Tom and Sue went to the park. They saw a big",
    ]
    asked = [Request(str(i), i, 0, ({"role": "user", "content": text},)) for i, text in enumerate(starts)]
    model = started(stories, "generation", max_tokens=25)
    together = [outcome.text for outcome in model.answer(asked)]
    assert together == [model.answer([request])[0].text for request in asked]
    assert all(text and len(text) > 20 and not text.startswith(" ") for text in together)


def test_a_context_too_short_for_every_prompt_cannot_start(plain: Path) -> None:
    model = started(plain)
    with pytest.raises(CannotStart, match="too long"):
        model.check_room([Request("a", 0, 0, ({"role": "user", "content": "word " * 2000},))])
    model.check_room(requests(2))


@given(
    words=st.lists(st.sampled_from([*WORDS, "\n", ":", "  ", "Label:", "x1", "é"]), min_size=1, max_size=25),
    end=st.sampled_from(["", " ", "\n", ":", "\nLabel:", "\nLabel: "]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_have_the_tokens_they_have_in_one_text_with_the_whole_prompt(
    tokenizers: list[ModelPrompts], words: list[str], end: str
) -> None:
    text = " ".join(words) + end
    for prompts in tokenizers:
        (row,) = prompts.rows([Request("a", 0, 0, ({"role": "user", "content": text},))])
        ((prompt, branches),) = prompts.label_branches([row], end=None)
        gap = text[len(text.rstrip()) :] or " "
        for label, branch in zip(LABELS, branches, strict=True):
            assert [*prompt, *branch.tokens] == prompts.encode([text.rstrip() + gap + label], special=True)[0]


@pytest.fixture(scope="module")
def tokenizers(plain: Path) -> list[ModelPrompts]:
    """One that splits words beforehand, and, where the shared data is there, one that does not."""
    from transformers import AutoTokenizer

    folders = [plain, *([STORIES] if (STORIES / "tokenizer.json").is_file() else [])]
    return [ModelPrompts(AutoTokenizer.from_pretrained(folder), LABELS, {}) for folder in folders]
