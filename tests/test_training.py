"""recipes/ and training.py: small real models are trained with the real libraries, in this process or in their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_models
from evalft import hyperparameters, training
from evalft.candidates.local import LocalCandidate
from evalft.candidates.model_prompts import ModelPrompts
from evalft.config import CandidateConfig, LoraConfig, TaskConfig, TuneConfig
from evalft.errors import EvalftError, UserError
from evalft.prices import HourPrice
from evalft.prompts import Request
from evalft.recipes import command, dpo, sft, tokens
from evalft.records import Message, Pair, Prediction

pytest.importorskip("trl")

WORDS = "the bank sends a new card and a refund while the quick brown fox jumps over the lazy dog".split()
ANSWERS = ["card arrival", "refund", "weather", "card lost"]
OPTIONS = {"enable_thinking": False}
END = 2
"""</s> of the tiny models."""
COARSE_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[{{ m.role }}] {{ m.content | trim }}{{ '<pad>' if m.role == 'assistant' else '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.causal(tmp_path_factory.mktemp("base") / "model", chat_template=tiny_models.CHAT_TEMPLATE)


def messages(i: int, system: str = "") -> tuple[Message, ...]:
    head = [{"role": "system", "content": system}] if system else []
    text = " ".join(WORDS[(i * 7 + j) % len(WORDS)] for j in range(2 + i % 5))
    return (*head, {"role": "user", "content": f"{text} {i}\nLabel:"})


def sft_rows(path: Path, count: int = 8) -> Path:
    training.write_sft_rows(path, ((messages(i), ANSWERS[i % 4]) for i in range(count)))
    return path


def pairs(path: Path, count: int = 8) -> Path:
    training.write_pairs(
        path,
        (Pair(f"p{i}", messages(i), ANSWERS[i % 4], ANSWERS[(i + 1) % 4], 1.0, 0.0, "sampled") for i in range(count)),
    )
    return path


def options(method: str, **given: Any) -> Namespace:
    words = command.arguments({"batch_size": 4, "learning_rate": 0.01, "epochs": 2, **given})
    return command.parser(method).parse_args(list(words))


def train(method: str, **given: Any) -> dict[str, Any]:
    """A recipe, run in this process."""
    from evalft.recipes import lora

    read = options(method, **given)
    if method == "sft":
        lora.train("sft", read, sft.make_trainer)
    else:
        lora.train("dpo", read, lambda ready: dpo.make_trainer(ready, read.beta), dpo.check_reference)
    report: dict[str, Any] = json.loads((read.out / "training.json").read_text())
    return report


def answers(base: Path, adapter: Path | None, asked: Sequence[tuple[Message, ...]], max_tokens: int = 12) -> list[str]:
    """What the candidate says, greedily."""
    config = CandidateConfig(model=f"hf:{base}", adapter=str(adapter) if adapter else None, device="cpu")
    candidate = LocalCandidate(
        config,
        TaskConfig(type="generation"),
        price=HourPrice(1.0, 1.0, "config"),
        max_tokens=max_tokens,
        want_probs=False,
    )
    candidate.start()
    outcomes = candidate.answer([Request(f"r{i}", i, 0, turns) for i, turns in enumerate(asked)])
    assert all(isinstance(outcome, Prediction) and outcome.finish_reason == "stop" for outcome in outcomes)
    return [outcome.text or "" for outcome in outcomes]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def same(first: Path, second: Path) -> bool:
    import torch

    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------- rows -> tokens


def encoded(tokenizer: Any, rows: Sequence[tuple[tuple[Message, ...], str]]) -> list[tokens.TokenRow]:
    text_rows = [tokens.TextRow(f"rows:{i}", turns, (answer,)) for i, (turns, answer) in enumerate(rows)]
    return tokens.encode(text_rows, ModelPrompts(tokenizer, (), OPTIONS), END)


PIECES = st.sampled_from([*"abc \n:é", "card", " refund"])
TEXTS = st.lists(PIECES, min_size=1, max_size=12).map("".join).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(prompt=TEXTS, answer=TEXTS, system=st.sampled_from(["", "be brief"]), chat=st.booleans())
def test_the_tokens_trained_on_are_those_that_scoring_labels_reads(
    prompt: str, answer: str, system: str, chat: bool
) -> None:
    tokenizer = tiny_models.tokenizer(chat_template=tiny_models.CHAT_TEMPLATE if chat else None)
    turns = (*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": prompt})
    [row] = encoded(tokenizer, [(turns, answer)])
    prompts = ModelPrompts(tokenizer, [answer], OPTIONS)
    asked = prompts.rows([Request("", 0, 0, turns)])
    [(read, [branch])] = prompts.label_branches(asked, end=None)
    assert [*row.prompt, *row.answers[0]] == [*read, *branch.tokens, END]
    if chat or not prompt[-1].isspace():
        assert row.prompt == asked[0].tokens[: len(row.prompt)]


def test_a_chat_prompt_is_whole_and_begins_once() -> None:
    tokenizer = tiny_models.tokenizer(chat_template=tiny_models.CHAT_TEMPLATE)
    [row] = encoded(tokenizer, [(messages(0, system="be brief"), "refund")])
    [asked] = ModelPrompts(tokenizer, (), OPTIONS).rows([Request("", 0, 0, messages(0, system="be brief"))])
    assert row.prompt == asked.tokens
    assert row.prompt.count(tokenizer.bos_token_id) == 1
    assert row.answers[0] == [*tokenizer("refund", add_special_tokens=False)["input_ids"], END]


def test_an_answer_ends_as_the_template_ends_a_turn_where_generation_stops_there() -> None:
    tokenizer = tiny_models.tokenizer(chat_template=COARSE_TEMPLATE)
    turn_end = tokenizer.pad_token_id
    assert tokens.end_token(tokenizer, [END, turn_end], OPTIONS) == turn_end
    assert tokens.end_token(tokenizer, [END], OPTIONS) == END
    assert tokens.end_token(tiny_models.tokenizer(), [END, turn_end], OPTIONS) == END


def test_a_model_without_any_end_token_is_refused() -> None:
    tokenizer = tiny_models.tokenizer()
    tokenizer.eos_token = None
    assert tokens.end_token(tokenizer, [7], OPTIONS) == 7
    with pytest.raises(UserError, match="no end token.*eos_token in tokenizer_config.json"):
        tokens.end_token(tokenizer, [], OPTIONS)


def checked(rows: Sequence[tuple[str, ...]], most: float = 100, limit_is_context: bool = False) -> tokens.Checked:
    """Rows of one-token prompts whose answers have a token per character."""
    text_rows = [tokens.TextRow(f"rows.jsonl:{i + 1}", messages(i), row) for i, row in enumerate(rows)]
    made = [tokens.TokenRow([9], tuple([*map(ord, answer), END] for answer in row)) for row in rows]
    return tokens.check(text_rows, made, [END], most, limit_is_context)


def test_rows_that_cannot_be_learned_from_are_left_out_and_named() -> None:
    good = [("fine",)] * 300
    prepared = checked([*good, ("far too long",), (" ",), (f"a{chr(END)}b",)], most=10)
    assert (len(prepared.rows), prepared.left_out, prepared.longest) == (300, 3, 6)
    told = "\n".join(prepared.said)
    for place, reason in (("rows.jsonl:301", "too long"), ("rows.jsonl:302", "empty"), ("rows.jsonl:303", "end token")):
        assert next(line for line in prepared.said if reason in line and place in line), told
    assert checked([("a", "b")] * 200 + [("a", "a")]).left_out == 1


def test_more_than_one_in_a_hundred_left_out_stops_with_the_longest_and_the_next_step() -> None:
    rows = [("fine",)] * 98 + [("longer than this",)] * 2
    with pytest.raises(UserError, match=r"2 of 100 rows left out, too long.*18 tokens.*set tune.max_length to 18"):
        checked(rows, most=10)
    with pytest.raises(UserError, match="a base with a longer context"):
        checked(rows, most=10, limit_is_context=True)
    with pytest.raises(UserError, match="1 of 1 rows left out, an answer is empty"):
        checked([("",)])
    with pytest.raises(UserError, match="no rows"):
        checked([])


def test_both_sides_of_a_preference_must_fit() -> None:
    with pytest.raises(UserError, match="too long"):
        checked([("ok", "longer than this"), ("longer than this", "ok")], most=10)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"messages": [], "completion": "a"}',
        '{"messages": "ask", "completion": "a"}',
        '{"messages": [{"role": "user"}], "completion": "a"}',
        '{"messages": [{"role": "user", "content": "ask"}], "completion": 3}',
    ],
)
def test_a_line_that_is_no_row_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    file = sft_rows(tmp_path / "rows.jsonl", 2)
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"rows.jsonl:3: is not"):
        tokens.read(file, "sft")


def test_messages_that_the_template_refuses_are_named(tmp_path: Path) -> None:
    tokenizer = tiny_models.tokenizer(chat_template="{{ raise_exception('never') }}")
    with pytest.raises(UserError, match="rows:0: .*never"):
        encoded(tokenizer, [(messages(0), "a")])


# ---------------------------------------------------------------- what trl trains on


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainers that recipes made, kept."""
    made: list[Any] = []
    for recipe in (sft, dpo):

        def kept(*args: Any, real: Callable[..., Any] = recipe.make_trainer) -> Any:
            made.append(real(*args))
            return made[-1]

        monkeypatch.setattr(recipe, "make_trainer", kept)
    return made


def expected_rows(base: Path, file: Path, method: str) -> list[tokens.TokenRow]:
    from transformers import AutoTokenizer

    prompts = ModelPrompts(AutoTokenizer.from_pretrained(base), (), OPTIONS)
    return tokens.encode(tokens.read(file, method), prompts, END)


def test_sft_trains_on_these_tokens_with_the_end_in_the_loss(base: Path, tmp_path: Path, trainers: list[Any]) -> None:
    file = sft_rows(tmp_path / "rows.jsonl")
    report = train("sft", base=base, data=file, out=tmp_path / "out")
    [trainer] = trainers
    rows = expected_rows(base, file, "sft")
    for place, row in enumerate(rows):
        batch = trainer.data_collator([trainer.train_dataset[place]])
        assert batch["input_ids"][0].tolist() == [*row.prompt, *row.answers[0]]
        assert batch["labels"][0].tolist() == [-100] * len(row.prompt) + row.answers[0]
        assert batch["labels"][0, -1] == END
    assert len(trainer.train_dataset) == len(rows) == report["rows"]
    assert report["completion_tokens"] == sum(len(row.answers[0]) for row in rows)
    assert report["max_length"] == max(row.length for row in rows)


def test_dpo_trains_on_these_tokens_with_the_end_of_both_sides(base: Path, tmp_path: Path, trainers: list[Any]) -> None:
    file = pairs(tmp_path / "pairs.jsonl")
    train("dpo", base=base, data=file, out=tmp_path / "out", learning_rate=1e-4)
    [trainer] = trainers
    for place, row in enumerate(expected_rows(base, file, "dpo")):
        batch = trainer.data_collator([trainer.train_dataset[place]])
        for side, answer in enumerate(row.answers):
            length = len(row.prompt) + len(answer)
            assert batch["input_ids"][side, :length].tolist() == [*row.prompt, *answer]
            assert batch["completion_mask"][side].nonzero().flatten().tolist() == [*range(len(row.prompt), length)]
            assert batch["input_ids"][side, length - 1] == END


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(tiny_models.CHAT_TEMPLATE, id="chat"),
        pytest.param(None, id="plain text", marks=pytest.mark.slow),
    ],
)
def test_the_candidate_answers_what_it_was_taught_and_stops(template: str | None, tmp_path: Path) -> None:
    base = tiny_models.causal(tmp_path / "base", chat_template=template)
    file = sft_rows(tmp_path / "rows.jsonl", 4)
    report = train("sft", base=base, data=file, out=tmp_path / "out", epochs=60)
    assert report["loss_last"] < report["loss_first"] / 10
    assert answers(base, tmp_path / "out", [messages(i) for i in range(4)]) == ANSWERS


# ---------------------------------------------------------------- the adapter folder


def test_the_folder_holds_the_adapter_its_progress_and_what_was_chosen(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = train("sft", base=base, data=sft_rows(tmp_path / "rows.jsonl", 10), out=out, epochs=3, lora_r=4)
    assert {file.name for file in out.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "progress.jsonl",
        "training.json",
    }
    lines = [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, 10)]  # 3 epochs of 4 + 4 + 2 rows
    assert all(line["steps"] == 9 and {"loss", "epoch", "learning_rate", "seconds"} <= line.keys() for line in lines)
    assert (report["loss_first"], report["loss_last"]) == (lines[0]["loss"], lines[-1]["loss"])
    assert report["precision"] == "float32" and any("float32" in line for line in report["choices"])
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert report["trainable_parameters"] == sum(tensor.numel() for tensor in weights(out).values())


def test_every_linear_layer_but_the_output_is_trained_unless_named(base: Path, tmp_path: Path) -> None:
    file = sft_rows(tmp_path / "rows.jsonl")
    report = train("sft", base=base, data=file, out=tmp_path / "all", epochs=1)
    assert set(report["lora"]["targets"]) == set("q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split())
    report = train("sft", base=base, data=file, out=tmp_path / "some", epochs=1, lora_targets=["q_proj", "up_proj"])
    assert report["lora"]["targets"] == ["q_proj", "up_proj"]
    for name in ("c_attn", "lm_head"):
        with pytest.raises(UserError, match=f"tune.lora.targets: .* named {name}; it has down_proj"):
            train("sft", base=base, data=file, out=tmp_path / "none", lora_targets=[name])


def test_a_batch_holds_as_many_rows_as_asked_however_many_fit_at_a_time(
    base: Path, tmp_path: Path, trainers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from evalft.recipes import lora

    file = sft_rows(tmp_path / "rows.jsonl", 12)
    together = train("sft", base=base, data=file, out=tmp_path / "together", batch_size=6)
    monkeypatch.setattr(lora, "available_memory_bytes", lambda: 0)
    alone = train("sft", base=base, data=file, out=tmp_path / "alone", batch_size=6)
    assert [trainer.args.per_device_train_batch_size for trainer in trainers] == [6, 1]
    assert together["steps"] == alone["steps"] == 4
    assert alone["loss_last"] == pytest.approx(together["loss_last"], rel=1e-3)
    assert "1 rows at a time, 6 times per step and process" in alone["choices"]


def test_rows_are_halved_where_memory_does_not_suffice(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sft.make_trainer

    def narrow(ready: Any) -> Any:
        if ready.arguments["per_device_train_batch_size"] > 1:
            raise RuntimeError("CUDA out of memory")
        return real(ready)

    monkeypatch.setattr(sft, "make_trainer", narrow)
    report = train("sft", base=base, data=sft_rows(tmp_path / "rows.jsonl"), out=tmp_path / "out")
    assert "1 rows at a time, 4 times per step and process" in report["choices"]

    def never(ready: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(sft, "make_trainer", never)
    with pytest.raises(UserError, match="out of memory on cpu with 1 rows of up to .* tokens"):
        train("sft", base=base, data=tmp_path / "rows.jsonl", out=tmp_path / "other")


def test_a_training_that_diverges_ends_with_the_learning_rate(base: Path, tmp_path: Path) -> None:
    file, remedy = sft_rows(tmp_path / "rows.jsonl"), r"learning rate 1e\+39 is too high; lower tune.learning_rate"
    with pytest.raises(UserError, match=rf"the loss is nan at step 3: the {remedy}"):
        train("sft", base=base, data=file, out=tmp_path / "out", learning_rate=1e39)
    # its last step: no loss is seen behind it
    with pytest.raises(UserError, match=f"weights are not finite: the {remedy}"):
        train("sft", base=base, data=file, out=tmp_path / "out", learning_rate=1e39, epochs=1)
    assert not (tmp_path / "out" / "training.json").exists()


def test_what_cannot_be_in_force_is_refused(base: Path, tmp_path: Path) -> None:
    file = sft_rows(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match="tune.precision: float16 cannot be trained on a CPU"):
        train("sft", base=base, data=file, out=tmp_path / "out", precision="float16")
    with pytest.raises(UserError, match="tune.max_length: 257 is more than the base's context of 256"):
        train("sft", base=base, data=file, out=tmp_path / "out", max_length=257)


def test_a_batch_that_processes_cannot_share_is_refused(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="4 rows cannot be shared by 3 processes; set tune.processes to 2"):
        train("sft", base=base, data=sft_rows(tmp_path / "rows.jsonl"), out=tmp_path / "out")


# ---------------------------------------------------------------- DPO


@pytest.mark.slow
def test_dpo_goes_on_from_the_adapter_and_prefers_the_chosen(base: Path, tmp_path: Path) -> None:
    start = tmp_path / "sft"
    train("sft", base=base, data=sft_rows(tmp_path / "rows.jsonl", 4), out=start, epochs=60, lora_r=4)
    file = pairs(tmp_path / "pairs.jsonl", 4)
    report = train("dpo", base=base, adapter=start, data=file, out=tmp_path / "dpo", epochs=10, learning_rate=1e-3)
    assert report["reference_gap"] < 1e-3
    assert report["lora"]["r"] == 4 and any(str(start) in line for line in report["choices"])
    lines = [json.loads(line) for line in (tmp_path / "dpo" / "progress.jsonl").read_text().splitlines()]
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-3)  # policy and reference are one
    assert lines[-1]["rewards/margins"] > 0.01 and lines[-1]["rewards/accuracies"] == 1
    # one plain adapter, of the shape that it started from
    assert not [path for path in (tmp_path / "dpo").iterdir() if path.is_dir()]
    assert weights(tmp_path / "dpo").keys() == weights(start).keys()
    assert not same(start, tmp_path / "dpo")
    assert answers(base, tmp_path / "dpo", [messages(i) for i in range(4)]) == ANSWERS


def test_a_reference_that_is_not_where_training_starts_stops_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    real = dpo.make_trainer

    def spoiled(*args: Any) -> Any:
        trainer = real(*args)
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if ".ref." in name:
                    parameter.mul_(1.1)
        return trainer

    monkeypatch.setattr(dpo, "make_trainer", spoiled)
    start = tiny_models.adapter(tmp_path / "start", base)
    with pytest.raises(UserError, match="the reference is not the model that training starts from"):
        train("dpo", base=base, adapter=start, data=pairs(tmp_path / "pairs.jsonl"), out=tmp_path / "out")


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    start = tiny_models.adapter(tmp_path / "start", base)
    config = json.loads((start / "adapter_config.json").read_text())
    (start / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["up_proj"]}))
    with pytest.raises(UserError, match="--adapter: .*start"):
        train("dpo", base=base, adapter=start, data=pairs(tmp_path / "pairs.jsonl"), out=tmp_path / "out")


# ---------------------------------------------------------------- stopping and going on


class Killed(BaseException):
    pass


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The next training ends after so many steps, as if killed; 0: none does."""
    from evalft.recipes import lora

    real = lora._Progress.on_log

    def set_last(step: int) -> None:
        def on_log(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
            real(self, args, state, control, **given)
            if step and state.global_step == step:
                raise Killed

        monkeypatch.setattr(lora._Progress, "on_log", on_log)

    return set_last


@pytest.mark.parametrize(
    ("method", "last"),
    [
        ("sft", 8),
        pytest.param("dpo", 8, marks=pytest.mark.slow),
        pytest.param("sft", 13, marks=pytest.mark.slow),  # the checkpoint before ends an epoch
        pytest.param("dpo", 13, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_training_ends_in_the_same_weights(
    method: str,
    last: int,
    base: Path,
    tmp_path: Path,
    kill_after: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: dict[str, Any] = {"base": base, "epochs": 8, "learning_rate": 1e-3}
    if method == "sft":
        given |= {"data": sft_rows(tmp_path / "rows.jsonl", 12), "lora_dropout": 0.2}
    else:
        given |= {"data": pairs(tmp_path / "pairs.jsonl", 12), "adapter": tiny_models.adapter(tmp_path / "a", base)}
    whole = train(method, **given, out=tmp_path / "whole")
    kill_after(last)
    with pytest.raises(Killed):
        train(method, **given, out=tmp_path / "stopped")
    kill_after(0)
    capsys.readouterr()
    report = train(method, **given, out=tmp_path / "stopped")
    saved = last - 1 - (last - 1) % 2  # every 2nd of the 24 steps
    assert f"went on from step {saved}" in report["choices"]
    assert capsys.readouterr().out.startswith(f"step {saved + 1}/24 ")  # the steps before are not done again
    assert same(tmp_path / "whole", tmp_path / "stopped")
    assert report["loss_last"] == whole["loss_last"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "stopped" / "progress.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 25)]


@pytest.mark.slow
def test_a_half_written_checkpoint_is_passed_over(
    base: Path, tmp_path: Path, kill_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "base": base,
        "data": sft_rows(tmp_path / "rows.jsonl", 12),
        "epochs": 8,
        "lora_dropout": 0.2,
    }
    train("sft", **given, out=tmp_path / "whole")
    kill_after(7)
    with pytest.raises(Killed):
        train("sft", **given, out=tmp_path / "stopped")
    kill_after(0)
    checkpoints = tmp_path / "stopped" / "checkpoints"
    half = shutil.copytree(checkpoints / "checkpoint-6", checkpoints / "checkpoint-8")
    (half / "whole").unlink()
    (half / "optimizer.pt").write_bytes(b"half")
    report = train("sft", **given, out=tmp_path / "stopped")
    assert "went on from step 6" in report["choices"]
    assert same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.slow
def test_checkpoints_of_other_settings_are_thrown_away_and_that_is_said(
    base: Path, tmp_path: Path, kill_after: Callable[[int], None]
) -> None:
    given: dict[str, Any] = {"base": base, "data": sft_rows(tmp_path / "rows.jsonl", 12), "epochs": 8}
    kill_after(7)
    with pytest.raises(Killed):
        train("sft", **given, out=tmp_path / "out")
    kill_after(0)
    report = train("sft", **given, out=tmp_path / "out", seed=1)
    assert "checkpoints of other settings or data were thrown away" in report["choices"]
    assert not any("went on" in line for line in report["choices"])


def test_a_finished_training_is_known_by_content(base: Path, tmp_path: Path) -> None:
    file, out = sft_rows(tmp_path / "rows.jsonl"), tmp_path / "out"
    train("sft", base=base, data=file, out=out)
    moved = shutil.copytree(base, tmp_path / "moved")
    digest = command.digest(options("sft", base=moved, data=shutil.copy(file, tmp_path / "copy.jsonl"), out=out))
    assert command.finished(out, digest)
    assert not command.finished(out, command.digest(options("sft", base=base, data=file, out=out, seed=1)))
    sft_rows(file, 9)
    assert not command.finished(out, command.digest(options("sft", base=base, data=file, out=out)))
    (out / "adapter_model.safetensors").unlink()
    assert not command.finished(out, digest)


# ---------------------------------------------------------------- in a process of its own


def settings_for(rows: int, **given: Any) -> hyperparameters.Settings:
    given = {"epochs": 4, "learning_rate": 0.01, "batch_size": 4, "lora": LoraConfig(dropout=0.1), **given}
    return hyperparameters.sft(TuneConfig(**given), rows=rows, hidden_size=32)


def in_a_process(base: Path, data: Path, out: Path, rows: int = 8, **given: Any) -> tuple[Any, list[Any]]:
    lines: list[Any] = []
    processes = given.pop("processes", 1)
    report = training.train(
        settings_for(rows, **given),
        base=str(base),
        revision=None,
        data=data,
        out=out,
        processes=processes,
        template_options=OPTIONS,
        notify=lines.append,
    )
    return report, lines


@pytest.mark.slow
def test_training_tells_every_step_and_is_not_done_twice(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sft_rows(tmp_path / "rows.jsonl")
    report, lines = in_a_process(base, file, tmp_path / "out")
    assert [line["step"] for line in lines] == [*range(1, 9)]
    assert report == json.loads((tmp_path / "out" / "training.json").read_text())
    assert "step 8/8" in (tmp_path / "out" / "log.txt").read_text()
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is started
    assert in_a_process(base, file, tmp_path / "out") == (report, [])


@pytest.mark.slow
def test_what_the_recipe_refuses_is_the_users_one_line(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        in_a_process(base, sft_rows(tmp_path / "rows.jsonl"), tmp_path / "out", max_length=5)
    [fault] = raised.value.faults
    assert fault.startswith("8 of 8 rows left out, too long") and "set tune.max_length to" in fault


@pytest.mark.slow
def test_a_recipe_that_dies_names_its_log(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EvalftError, match="ended with status 1; its output is in .*log.txt") as raised:
        in_a_process(base, sft_rows(tmp_path / "rows.jsonl"), tmp_path / "out")
    assert not isinstance(raised.value, UserError)
    assert "broken" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.slow
def test_two_processes_make_the_batches_of_one(base: Path, tmp_path: Path) -> None:
    import torch

    file = sft_rows(tmp_path / "rows.jsonl")
    one, _ = in_a_process(base, file, tmp_path / "one", lora=LoraConfig(dropout=0.0))
    two, lines = in_a_process(base, file, tmp_path / "two", lora=LoraConfig(dropout=0.0), processes=2)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert [line["step"] for line in lines] == [*range(1, one["steps"] + 1)]
    assert two["loss_last"] == pytest.approx(one["loss_last"], rel=0.05)
    for name, tensor in weights(tmp_path / "one").items():
        assert torch.allclose(tensor, weights(tmp_path / "two")[name], atol=5e-3), name


def started(method: str, base: Path, data: Path, out: Path, **given: Any) -> subprocess.Popen[bytes]:
    words = command.arguments({"base": base, "data": data, "out": out, "batch_size": 4, **given})
    environment = {**os.environ, "PYTHONPATH": str(Path(training.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", f"evalft.recipes.{method}", *words], env=environment)


def wait_for_step(out: Path, step: int) -> None:
    for _ in range(6000):
        file = out / "progress.jsonl"
        if file.is_file() and len(file.read_text().splitlines()) >= step:
            return
        time.sleep(0.05)
    raise AssertionError("no progress within five minutes")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kills"), [("sft", (5, 18, 33)), ("dpo", (18,))])
def test_killed_anywhere_the_same_command_ends_in_the_same_weights(
    method: str, kills: tuple[int, ...], base: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"base": base, "epochs": 15, "learning_rate": 1e-3}
    if method == "sft":
        given |= {"data": sft_rows(tmp_path / "rows.jsonl", 12), "lora_dropout": 0.2}
    else:
        given |= {"data": pairs(tmp_path / "pairs.jsonl", 12), "adapter": tiny_models.adapter(tmp_path / "a", base)}
    assert started(method, **given, out=tmp_path / "whole").wait() == 0
    for step in kills:
        process = started(method, **given, out=tmp_path / "killed")
        wait_for_step(tmp_path / "killed", step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert started(method, **given, out=tmp_path / "killed").wait() == 0
    assert same(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_training_ends_with_the_process_that_asked_for_it(base: Path, tmp_path: Path) -> None:
    parent = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_training as here
here.in_a_process(Path({str(base)!r}), Path({str(tmp_path / "rows.jsonl")!r}), Path({str(tmp_path / "out")!r}), epochs=500.0)
"""
    sft_rows(tmp_path / "rows.jsonl")
    process = subprocess.Popen([sys.executable, "-c", parent])
    wait_for_step(tmp_path / "out", 3)
    process.kill()
    process.wait()
    progress = tmp_path / "out" / "progress.jsonl"
    time.sleep(3)
    done = progress.read_text()
    time.sleep(3)
    assert progress.read_text() == done


def test_messages_of_any_mapping_are_written_whole(tmp_path: Path) -> None:
    from types import MappingProxyType

    training.write_sft_rows(tmp_path / "rows.jsonl", [([MappingProxyType({"role": "user", "content": "é"})], "a")])
    [row] = tokens.read(tmp_path / "rows.jsonl", "sft")
    assert row.messages == ({"role": "user", "content": "é"},) and row.answers == ("a",)


def test_keys_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "SOME_TOKEN", "HF_TOKEN", "PLAIN"):
        monkeypatch.setenv(name, "x")
    handed = training._environment()
    assert {"HF_TOKEN", "PLAIN"} <= handed.keys()
    assert not {"OPENAI_API_KEY", "SOME_TOKEN"} & handed.keys()


def test_without_the_extra_the_command_that_installs_it_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "missing_extra", lambda: True)
    with pytest.raises(UserError, match=r"training needs trl and peft; pip install 'evalft\[train\]'"):
        in_a_process(base, sft_rows(tmp_path / "rows.jsonl"), tmp_path / "out")
