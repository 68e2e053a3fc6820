"""candidates/causal_model.py, log_likelihood.py and greedy decoding, on random tiny models of different make."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from evalft.candidates import causal_model, log_likelihood  # noqa: E402
from evalft.candidates.causal_model import CausalModel, Tree  # noqa: E402
from evalft.candidates.log_likelihood import Branch, log_likelihoods, split  # noqa: E402
from evalft.candidates.model_decoding import Decoding  # noqa: E402
from evalft.config import CandidateConfig  # noqa: E402

VOCABULARY = 40
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
}
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=128, initializer_range=0.4
    ),
    "mistral, a window of 9": lambda: transformers.MistralConfig(**SMALL, sliding_window=9),
    "mistral, a window of 100": lambda: transformers.MistralConfig(**SMALL, sliding_window=100),
    "qwen2, one layer in two with a window": lambda: transformers.Qwen2Config(
        **SMALL, use_sliding_window=True, sliding_window=7, max_window_layers=1
    ),
    "bloom, positions as biases": lambda: transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=16, n_layer=2, n_head=4, initializer_range=0.4
    ),
    "mamba, a recurrent state": lambda: transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=4, initializer_range=0.4
    ),
}
ATTENTION_IN_TREES = ("llama", "gpt2", "mistral, a window of 100")

tokens = st.integers(3, VOCABULARY - 1)
texts = st.lists(tokens, min_size=1, max_size=6)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@lru_cache
def model_of(family: str) -> CausalModel:
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
    with torch.inference_mode():
        return CausalModel(made, pad_token=0)


def naive(model: CausalModel, prompt: list[int], branch: Branch) -> float:
    """One forward over one text, no padding, no cache, no mask."""
    with torch.inference_mode():
        log_p = model.model(torch.tensor([[*prompt, *branch.tokens]])).logits[0].log_softmax(-1)
    begin = len(prompt)
    return sum(float(log_p[begin + i - 1, branch.tokens[i]]) for i in range(branch.start, len(branch.tokens)))


@st.composite
def asked(draw: st.DrawFn) -> tuple[list[int], list[tuple[list[int], list[Branch]]]]:
    """A beginning, and prompts that begin with it, each with branches that often share theirs."""
    beginning = draw(st.lists(tokens, max_size=5))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        prompt = [*beginning, *draw(texts)]
        heads = draw(st.lists(st.lists(tokens, max_size=3), min_size=1, max_size=3))
        branches = []
        for _ in range(draw(st.integers(1, 6))):
            branch = (*draw(st.sampled_from(heads)), *draw(texts))
            branches.append(Branch(branch, draw(st.integers(0, len(branch) - 1))))
        rows.append((prompt, branches))
    return beginning, rows


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given_rows=asked(),
    tree_tokens=st.sampled_from([3, 8, 64]),
    max_tokens=st.sampled_from([1, 60, 10_000]),
    worth_a_pass=st.sampled_from([2, 256]),
)
def test_log_likelihoods_equal_one_forward_per_text(
    family: str, given_rows: Any, tree_tokens: int, max_tokens: int, worth_a_pass: int
) -> None:
    beginning, rows = given_rows
    model = model_of(family)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_likelihood, "TREE_TOKENS", tree_tokens)
        patched.setattr(causal_model, "WORTH_A_PASS", worth_a_pass)
        model.share(beginning)
        found = log_likelihoods(model, rows, max_tokens)
    for (prompt, branches), sums in zip(rows, found, strict=True):
        expected = [naive(model, prompt, branch) for branch in branches]
        np.testing.assert_allclose(sums, expected, atol=1e-4)


def test_models_say_by_their_numbers_whether_they_take_trees() -> None:
    found = {family: (model_of(family).branches, model_of(family).trees) for family in FAMILIES}
    assert [family for family, (_, trees) in found.items() if trees] == list(ATTENTION_IN_TREES)
    assert [family for family, (branches, _) in found.items() if not branches] == ["mamba, a recurrent state"]


def test_a_model_that_raises_at_a_mask_of_its_own_kind_reads_branches_by_themselves() -> None:
    made = model_of("llama").model

    class Strict(torch.nn.Module):
        config, dtype, device = made.config, made.dtype, made.device

        def forward(
            self,
            input_ids: Any,
            attention_mask: Any,
            position_ids: Any,
            past_key_values: Any = None,
            use_cache: Any = None,
        ) -> Any:
            if attention_mask.ndim != 2:
                raise ValueError("a mask has two dimensions")
            return made(
                input_ids,
                attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
            )

    with torch.inference_mode():
        strict = CausalModel(Strict(), pad_token=0)
        assert strict.branches and not strict.trees
        rows = [([5, 6, 7], [Branch((8, 9)), Branch((8, 10, 11))]), ([12], [Branch((3, 4, 5))])]
        expected = log_likelihoods(model_of("llama"), rows, 1000)
        for one, other in zip(log_likelihoods(strict, rows, 1000), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_prompts_of_like_length_are_read_together_where_that_saves_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = model_of("llama"), [[5] * length for length in (3, 90, 4, 88, 3)]
    widths = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **g: (widths.append(tuple(a[0].shape)), forward(*a, **g))[1])
    with torch.inference_mode():
        model.share([])
        logits, read = model.read_prompts(asked)
        alone = [model.read_prompts([prompt])[0][0] for prompt in asked]
    assert widths[:2] == [(2, 90), (3, 4)]
    assert read.mask.sum(1).tolist() == [3, 90, 4, 88, 3]
    torch.testing.assert_close(logits, torch.stack(alone), atol=1e-4, rtol=0)


def test_a_shared_beginning_is_read_once_in_a_run() -> None:
    model = model_of("llama")
    beginning = list(range(3, 33))
    widths = []
    forward = model.forward
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "forward", lambda *a, **g: (widths.append(tuple(a[0].shape)), forward(*a, **g))[1])
        model.share(beginning)
        for last in ([5, 6], [7]):
            model.read_prompts([[*beginning, *last], [*beginning, 8]])
        model.read_prompts([[*beginning, 8], [9, 10]])  # one that does not begin so
        model.share([])
    assert widths == [(1, 30), (2, 2), (2, 1), (2, 31)]


@given(st.lists(st.builds(Branch, texts.map(tuple)), min_size=1, max_size=8), st.integers(0, 12))
def test_trees_predict_every_token_of_every_branch_from_all_before_it(branches: list[Branch], tree_tokens: int) -> None:
    predicted = []
    for part in split(branches, tree_tokens):
        assert len(part.tree.tokens) <= max(tree_tokens, max(len(branch.tokens) for branch in branches) - 1)
        assert tree_tokens or part.tree.is_chain
        for at, token, branch in zip(part.at, part.tokens, part.branches, strict=True):
            before: list[int] = []
            place = int(at) - 1
            while place >= 0:
                before.insert(0, part.tree.tokens[place])
                place = part.tree.parents[place]
            predicted.append((int(branch), *before, int(token)))
    wanted = [(n, *branch.tokens[: i + 1]) for n, branch in enumerate(branches) for i in range(len(branch.tokens))]
    assert sorted(predicted) == sorted(wanted)


def test_a_place_in_a_tree_sees_itself_and_its_ancestors() -> None:
    tree = Tree((7, 8, 9, 8), (-1, 0, 0, 2))
    assert tree.sees.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]
    assert tree.depths.tolist() == [0, 1, 1, 2] and not tree.is_chain


# ---------------------------------------------------------------- greedy decoding


class Letters:
    """Decoding asks a tokenizer for texts: here token i is the i-th character from "A" on, and 5 is a newline."""

    def __init__(self, chat: bool) -> None:
        self.chat = chat

    def decode(self, rows: list[list[int]]) -> list[str]:
        return ["".join("\n" if token == 5 else chr(65 + token) for token in row) for row in rows]


def decoding(chat: bool = True, end_tokens: tuple[int, ...] = (2,), **given: Any) -> Decoding:
    config = CandidateConfig(model="hf:m", **given)
    return Decoding(config, Letters(chat), list(end_tokens), pad_token=0)  # type: ignore[arg-type]


def prompts(count: int, longest: int = 12) -> list[list[int]]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(6, VOCABULARY, drawn.integers(1, longest + 1)).tolist() for _ in range(count)]


def by_transformers(model: CausalModel, prompt: list[int], new: int) -> list[int]:
    with torch.inference_mode():
        config = transformers.GenerationConfig(max_new_tokens=new, eos_token_id=2, pad_token_id=0)
        ids = torch.tensor([prompt])
        out = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [int(token) for token in out[0, len(prompt) :]]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_generate_row_by_row(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = model_of(family), prompts(7)
    monkeypatch.setattr(causal_model, "WORTH_A_PASS", 4)
    with torch.inference_mode():
        model.share([])
        made = decoding().generate(model, asked, 25)
    assert [one.tokens for one in made] == [by_transformers(model, prompt, 25) for prompt in asked]
    assert len({tuple(one.tokens) for one in made}) > 3


def test_greedy_tokens_do_not_depend_on_the_batch_nor_on_a_shared_beginning() -> None:
    model = model_of("llama")
    asked = [[9, 8, 7, 6, 10, *prompt] for prompt in prompts(9)]
    with torch.inference_mode():
        model.share([9, 8, 7, 6, 10])
        together = decoding().generate(model, asked, 30)
        model.share([])
        alone = [decoding().generate(model, [prompt], 30)[0] for prompt in asked]
    assert together == alone


def test_rows_that_are_done_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = model_of("llama"), prompts(40)
    rows = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *a, **g: (rows.append(len(a[0])), forward(*a, **g))[1])
    with torch.inference_mode():
        made = decoding(end_tokens=(2, 7, 8, 9, 11)).generate(model, asked, 30)
    lengths = [len(one.tokens) for one in made]
    assert min(lengths) < max(lengths) == 30
    assert rows[-29:] == [sum(length > step for length in lengths) for step in range(1, 30)]


@pytest.mark.parametrize(("chat", "stop"), [(True, []), (True, ["\n"]), (False, []), (False, ["Q", "ZZ"])])
def test_an_answer_ends_where_a_stop_string_is_whole(chat: bool, stop: list[str]) -> None:
    """Any token may complete one; nothing is generated behind it, and the text is what a longer answer has before it."""
    model, asked = model_of("llama"), prompts(30)
    with torch.inference_mode():
        whole = decoding(True, ()).generate(model, asked, 40)
        stop = [*stop, decoding(True, ()).read(whole[0].tokens)[0][6:9]]
        ends = decoding(chat, (), stop=stop)
        cut = ends.generate(model, asked, 40)
    for one, other in zip(cut, whole, strict=True):
        assert one.tokens == other.tokens[: len(one.tokens)]
        if len(one.tokens) < 40:
            assert ends.read(one.tokens)[:2] == ends.read(other.tokens)[:2]
            assert ends.read(one.tokens[:-1])[1] == "length"
        else:
            assert ends.read(other.tokens[:-1])[1] == "length"
    assert len(cut[0].tokens) <= 9


def test_a_near_tie_is_marked() -> None:
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(FAMILIES["llama"]()).eval()
    with torch.no_grad():
        made.lm_head.weight[20:30] = made.lm_head.weight[10:20]  # whenever one of these is likeliest, another is, too
    with torch.inference_mode():
        model = CausalModel(made, pad_token=0)
        generated = decoding().generate(model, prompts(12), 4)
    twins = [any(10 <= token < 30 for token in one.tokens) for one in generated]
    assert [one.near_tie for one in generated] == twins
    assert len(set(twins)) == 2


def test_a_branch_longer_than_the_window_is_scored_beside_short_ones() -> None:
    model = model_of("mistral, a window of 100")
    long = Branch(tuple(3 + i * 7 % 30 for i in range(110)))
    rows = [([5, 6, 7], [long]), ([8, 9], [Branch((3, 4)), Branch((5, 6, 7)), Branch((5, 8))])]
    with torch.inference_mode():
        found = log_likelihoods(model, rows, 10_000)
    for (prompt, branches), sums in zip(rows, found, strict=True):
        np.testing.assert_allclose(sums, [naive(model, prompt, branch) for branch in branches], atol=1e-3)
