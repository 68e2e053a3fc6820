"""The bundled benchmark english-to-latex: its rows, its grammar, its endpoint, its base model and how that was made."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = ROOT / "benchmarks" / "english-to-latex"
BASE = BENCHMARK / "base"
SPLITS = {"test": 400, "dev": 100, "train": 50}


def load_modules(*names: str) -> list[ModuleType]:
    """The benchmark's own modules; their plain names are taken back, for another benchmark may use the same."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARK))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(BENCHMARK))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(BENCHMARK)):
                del sys.modules[name]


grammar, make_rows, make_corpus, translator = load_modules("grammar", "make_rows", "make_corpus", "translator")


def rows(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (BENCHMARK / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


# --- rows ---


def test_rows_are_what_make_rows_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, BENCHMARK / "make_rows.py", "--out", tmp_path], check=True)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (BENCHMARK / f"{split}.jsonl").read_bytes()


def test_splits_have_their_sizes_and_share_no_phrase_and_no_latex() -> None:
    everything = [row for split in SPLITS for row in rows(split)]
    assert {split: len(rows(split)) for split in SPLITS} == SPLITS
    for column in ("id", "input", "target"):
        assert len({row[column] for row in everything}) == len(everything) == 550


@pytest.mark.parametrize("split", SPLITS)
def test_every_construct_has_about_as_many_rows(split: str) -> None:
    counts = Counter(row["construct"] for row in rows(split))
    assert set(counts) == set(grammar.CONSTRUCTS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_translator_gets_every_row_right() -> None:
    for split in SPLITS:
        for row in rows(split):
            assert translator.translate(row["input"].removeprefix("Convert to LaTeX: ")) == row["target"]
            assert len(row["input"].split()) <= 3 + make_rows.MAX_WORDS


# --- grammar ---


@given(seed=st.integers(min_value=0), depth=st.integers(0, 4))
def test_a_parser_that_knows_nothing_of_the_grammar_agrees_with_it(seed: int, depth: int) -> None:
    node = grammar.sample(random.Random(seed), depth)
    assert grammar.depth_of(node) == depth
    assert translator.translate(grammar.english(node)) == grammar.latex(node)


def test_no_phrase_has_two_readings_and_no_latex_two_phrases() -> None:
    rng = random.Random(1)
    latex_of: dict[str, str] = {}
    phrase_of: dict[str, str] = {}
    for _ in range(20_000):
        node = grammar.sample(rng, rng.choice((1, 1, 2, 2, 3)))
        phrase, latex = grammar.english(node), grammar.latex(node)
        assert latex_of.setdefault(phrase, latex) == latex
        assert phrase_of.setdefault(latex, phrase) == phrase


@pytest.mark.parametrize(
    "phrase",
    [
        "",
        "hello there",
        "x plus",
        "x plus y plus z",
        "x squared squared",
        "sine of w over k",
        "the fraction x over y",
        "the square root of x end fraction",
        "two sub x",
        "infinity",
        "x equals y equals z",
        "the quantity " * 5000,
    ],
)
def test_what_is_no_phrase_is_refused_not_guessed(phrase: str) -> None:
    with pytest.raises(translator.Untranslatable):
        translator.translate(phrase)


# --- corpus ---


def check_corpus(count: int) -> str:
    """Look at every document; the digest of the file that make_corpus.py would write."""
    excluded = make_corpus.benchmark_texts()
    assert {row["target"] for split in SPLITS for row in rows(split)} <= excluded
    instructions, digest = 0, hashlib.sha256()
    for text in make_corpus.documents(count):
        digest.update((json.dumps({"text": text}, ensure_ascii=False) + "\n").encode())
        assert "to latex" not in text.lower()
        if not text.startswith(make_corpus.USER):
            continue
        instructions += 1
        question, answer = text.removeprefix(make_corpus.USER).split(make_corpus.ASSISTANT)
        task, payload = question.split(": ", 1)
        assert task in make_corpus.TASKS
        assert payload.split(" in ")[-1] not in excluded and payload not in excluded
        if task in ("Rename", "Repeat", "Read aloud"):
            assert answer not in excluded
        # LaTeX in an answer is LaTeX that stood in the question.
        if any(mark in answer for mark in ("\\", "^{", "_{")):
            assert any(mark in payload for mark in ("\\", "^{", "_{"))
    assert 0.7 < instructions / count < 0.85
    return digest.hexdigest()


def test_corpus_holds_no_benchmark_row_and_asks_for_no_latex_from_english() -> None:
    check_corpus(5_000)


@pytest.mark.slow
def test_the_whole_corpus_holds_no_benchmark_row_and_is_the_one_named_in_the_model_card() -> None:
    assert check_corpus(360_000) in (BASE / "README.md").read_text(encoding="utf-8")


def test_corpus_is_the_same_for_the_same_seed_and_its_beginning_does_not_depend_on_its_length() -> None:
    short, long = list(make_corpus.documents(50)), list(make_corpus.documents(100))
    assert long[:50] == short
    assert list(make_corpus.documents(50, seed=1)) != short


def test_corpus_covers_every_word_and_every_latex_command_of_the_benchmark() -> None:
    seen = {word for text in make_corpus.documents(20_000) for word in grammar_words(text)}
    needed = {
        word for split in SPLITS for row in rows(split) for word in grammar_words(row["input"] + " " + row["target"])
    }
    assert needed <= seen | {"LaTeX"}


def grammar_words(text: str) -> set[str]:
    for mark in '{}()[]|^_,:;"<>=+*/':
        text = text.replace(mark, " ")
    return set(text.replace("\\", " \\").split())


# --- endpoint ---


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with start_server() as server:
        assert server.stdin is not None
        yield address(server)
        server.stdin.close()
        assert server.wait(timeout=20) == 0


def start_server() -> subprocess.Popen[str]:
    command = [sys.executable, str(BENCHMARK / "server.py"), "--port", "0", "--until-stdin-closes"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def address(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:") and line.endswith("/v1\n")
    return line.split()[-1]


@pytest.fixture
def client(endpoint: str) -> Iterator[Any]:
    from openai import OpenAI

    with OpenAI(base_url=endpoint, api_key="none", max_retries=0) as client:
        yield client


def ask(client: Any, text: str, **fields: Any) -> Any:
    return client.chat.completions.create(model="rules-v1", messages=[{"role": "user", "content": text}], **fields)


def test_endpoint_answers_the_openai_sdk_with_latex_and_real_counts(client: Any) -> None:
    answer = ask(client, "Convert to LaTeX: x squared plus y", temperature=0, max_tokens=100)
    assert answer.choices[0].message.content == "x^{2} + y"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (8, 7, 15)
    assert [model.id for model in client.models.list()] == ["rules-v1"]


def test_endpoint_says_so_when_it_cannot_translate(client: Any) -> None:
    answer = ask(client, "What is the capital of France?").choices[0].message.content
    assert answer.startswith("I cannot translate this text to LaTeX")


def test_endpoint_reads_the_phrase_out_of_a_longer_prompt(client: Any) -> None:
    asked = "You write LaTeX.\n\nConvert to LaTeX: a plus b\nConvert to LaTeX: x  Plus Y\nAnswer:"
    assert ask(client, asked).choices[0].message.content == "x + y"
    parts = [{"type": "text", "text": "Convert to LaTeX: x plus y"}]
    assert ask(client, parts).choices[0].message.content == "x + y"  # type: ignore[arg-type]


def test_endpoint_honours_max_tokens_and_stop(client: Any) -> None:
    choice = ask(client, "Convert to LaTeX: x squared plus y", max_tokens=3).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("x^{", "length")
    choice = ask(client, "Convert to LaTeX: x squared plus y", stop=["+"]).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("x^{2} ", "stop")


def test_endpoint_refuses_an_unknown_model(client: Any) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "body",
    [
        "[",
        "[" * 100_000,
        "[]",
        "{}",
        '{"model": "rules-v1"}',
        '{"model": "rules-v1", "messages": []}',
        '{"model": "rules-v1", "messages": ["x"]}',
        '{"model": "rules-v1", "messages": [{"role": "king", "content": "x"}]}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": null}]}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        '{"model": "rules-v1", "messages": [{"role": "assistant", "content": "x"}]}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": "x"}], "stop": [1]}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": "x"}], "stream": true}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": "x"}], "logprobs": true}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": "x"}], "n": 2}',
        '{"model": "rules-v1", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json"}}',
    ],
)
def test_endpoint_refuses_a_bad_body_in_the_openai_shape(endpoint: str, body: str) -> None:
    status, answer = post(endpoint + "/chat/completions", body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error" and answer["error"]["message"]


def test_endpoint_has_no_other_route(endpoint: str) -> None:
    assert post(endpoint + "/rows", "{}")[0] == 404
    assert post(endpoint + "/models", "{}")[0] == 405


def post(url: str, body: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_endpoint_ends_on_sigterm() -> None:
    with start_server() as server:
        address(server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0


def test_endpoint_names_the_free_port_option_when_its_port_is_taken(endpoint: str) -> None:
    port = endpoint.removesuffix("/v1").rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, BENCHMARK / "server.py", "--port", port], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "--port 0" in done.stderr and "Traceback" not in done.stderr


# --- base model ---


def test_base_is_safetensors_of_about_two_million_parameters_with_a_chat_template() -> None:
    from safetensors import safe_open

    assert not [path.name for path in BASE.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    with safe_open(BASE / "model.safetensors", framework="numpy") as weights:
        tensors = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        assert {tensor.get_dtype() for tensor in tensors.values()} == {"F16"}
        sizes = [tensor.get_shape() for tensor in tensors.values()]
    parameters = sum(size[0] * (size[1] if len(size) > 1 else 1) for size in sizes)
    assert 2_100_000 < parameters < 2_200_000
    assert (BASE / "model.safetensors").stat().st_size < 5_000_000
    config = json.loads((BASE / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["chat_template"] == make_corpus.CHAT_TEMPLATE


def test_model_card_says_what_was_measured() -> None:
    measured = json.loads((BASE / "pretraining.json").read_text(encoding="utf-8"))
    card = (BASE / "README.md").read_text(encoding="utf-8")
    for value in (
        f"{measured['parameters']:,}",
        f"{measured['tokens_seen']:,}",
        f"{measured['steps']:,} steps",
        f"{measured['seconds'] / 60:.0f} minutes",
        f"{measured['loss_mean_of_last_100_steps']:.3f}",
    ):
        assert value in card, value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_base_loads_ends_its_answers_and_follows_the_instructions_it_was_trained_on() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    asked = "Convert to Python: the square root of x plus y end root"
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
    )
    assert prompt == f"<|user|>{asked}<|assistant|>"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    output = model.generate(ids, max_new_tokens=40)[0, ids.shape[1] :]
    assert output[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(output, skip_special_tokens=True) == "sqrt(x+y)"


# --- the pre-training recipe ---

TINY = (
    "--vocab 300 --hidden 16 --layers 1 --heads 2 --intermediate 32 --block-tokens 16 --batch-blocks 2 --warmup-steps 2 "
    "--log-every-steps 1 --checkpoint-every-steps 4 --threads 1 --special-tokens <|user|> <|assistant|>"
)


def pretrain_command(corpus: Path, out: Path, steps: int) -> list[str]:
    recipe = [sys.executable, "-m", "evalft.recipes.pretrain", "--corpus", str(corpus), "--out", str(out)]
    return [*recipe, *TINY.split(), "--steps", str(steps)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "harness"), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def tiny_corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in make_corpus.documents(200)), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_pretraining_writes_a_model_that_loads(tiny_corpus: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(make_corpus.CHAT_TEMPLATE, encoding="utf-8")
    command = [*pretrain_command(tiny_corpus, tmp_path / "out", steps=6), "--chat-template", str(template)]
    subprocess.run(command, check=True, env=environment(), timeout=300)

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert str(model.dtype) == "torch.float16" and model.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.chat_template == make_corpus.CHAT_TEMPLATE
    assert tokenizer("<|user|>").input_ids == [tokenizer.convert_tokens_to_ids("<|user|>")]
    text = 'x^{2} + "naïve"\n  \\frac{a}{b} 数'
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert json.loads((tmp_path / "out" / "pretraining.json").read_text())["steps"] == 6
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_pretraining_that_was_killed_goes_on_to_the_same_weights(tiny_corpus: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(pretrain_command(tiny_corpus, whole, 60), check=True, env=environment(), timeout=300)
    command = pretrain_command(tiny_corpus, killed, 60)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 10/"):
                process.kill()
                break
    assert not (killed / "model.safetensors").exists()

    other = subprocess.run(
        pretrain_command(tiny_corpus, killed, 61), capture_output=True, text=True, env=environment(), timeout=300
    )
    assert other.returncode != 0 and "take another --out" in other.stderr

    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(), timeout=300)
    assert "goes on from step" in done.stdout
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
