"""How likely a causal model finds texts that go on from a prompt: log-likelihoods of labels on a shared prefix.

The prompts of a batch run once, together, and give the first token of every branch. Then only what differs runs, on the
prompts' key-value cache: a branch's last token is predicted but never read, and a branch that begins another rides along
with it. Equal to running every prompt with every branch by itself, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evalft.candidates.model_loading import is_out_of_memory

if TYPE_CHECKING:
    import torch

LOGITS_BYTES = 256 * 2**20
"""The most one pass may hold as float32 logits: a vocabulary of 150,000 is 0.6 MB per token."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens that follow a prompt; those from `start` on are scored."""

    tokens: tuple[int, ...]
    start: int = 0


class CausalModel(Protocol):
    """What is needed of a model: logits of shape (row, position, vocabulary)."""

    vocabulary: int
    branches: bool
    """Its cache is a list of past tokens, which rows can branch off from (a recurrent state is not)."""

    def run_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, Any]:
        """Logits behind the last token of each, and a state to go on from."""

    def run_branches(self, state: Any, rows: list[int], tokens: list[tuple[int, ...]]) -> torch.Tensor:
        """Logits behind each token of each branch, which goes on from prompt rows[n]; the state stays as it is."""

    def run_whole(self, texts: list[list[int]]) -> torch.Tensor:
        """Logits behind each token, without a cache."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Tokens to read behind the prompt of one row, and the places of the branches whose tokens they predict."""

    row: int
    read: tuple[int, ...]
    places: list[int]


Asked = Sequence[tuple[list[int], list[Branch]]]


def log_likelihoods(model: CausalModel, asked: Asked, max_tokens: int) -> list[NDArray[np.float64]]:
    """Per (prompt, branches) the sums of log p(token | all before it) over each branch's tokens from its `start` on.

    `max_tokens` bounds one pass over branches, prompts included; where that is too much for the memory it is halved, and
    the out-of-memory error is raised only for a pass over one branch.
    """
    if not asked:
        return []
    sums = [np.zeros(len(branches)) for _, branches in asked]
    longest = max(len(prompt) for prompt, _ in asked)
    if not model.branches:
        runs = _all_runs(asked, shortest=0)

        def step(some: list[_Run]) -> None:
            logits = model.run_whole([[*asked[run.row][0], *run.read] for run in some])
            _add(sums, asked, some, logits, [1 - len(asked[run.row][0]) for run in some])

        kept = longest + max(len(run.read) for run in runs)
        _in_parts(step, runs, min(max_tokens // kept, LOGITS_BYTES // (4 * kept * model.vocabulary)))
        return sums

    logits, state = model.run_prompts([prompt for prompt, _ in asked])
    firsts = [_Run(row, (), list(range(len(branches)))) for row, (_, branches) in enumerate(asked)]
    _add(sums, asked, firsts, logits, [0] * len(firsts), until=1)
    runs = _all_runs(asked, shortest=1)

    def branch(some: list[_Run]) -> None:
        logits = model.run_branches(state, [run.row for run in some], [run.read for run in some])
        _add(sums, asked, some, logits, [1] * len(some))

    if runs:
        kept = len(runs[0].read)
        _in_parts(branch, runs, min(max_tokens // (longest + kept), LOGITS_BYTES // (4 * kept * model.vocabulary)))
    return sums


def _all_runs(asked: Asked, shortest: int) -> list[_Run]:
    """Every row's runs, the longest first, so that those of like length share a pass."""
    runs = [_Run(row, *run) for row, (_, branches) in enumerate(asked) for run in _runs(branches, shortest)]
    return sorted(runs, key=lambda run: -len(run.read))


def _runs(branches: Sequence[Branch], shortest: int) -> list[tuple[tuple[int, ...], list[int]]]:
    """What must be read to predict all branches. Sorted backwards, what begins another follows one that it begins."""
    runs: list[tuple[tuple[int, ...], list[int]]] = []
    for read, place in sorted(((branch.tokens[:-1], place) for place, branch in enumerate(branches)), reverse=True):
        if len(read) < shortest:
            continue
        if runs and runs[-1][0][: len(read)] == read:
            runs[-1][1].append(place)
        else:
            runs.append((read, [place]))
    return runs


def _in_parts(step: Callable[[list[_Run]], None], runs: list[_Run], size: int) -> None:
    size = max(size, 1)
    while runs:
        try:
            step(runs[:size])
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size = (size + 1) // 2
        else:
            runs = runs[size:]


def _add(
    sums: list[NDArray[np.float64]],
    asked: Asked,
    runs: list[_Run],
    logits: torch.Tensor,
    firsts: list[int],
    until: int | None = None,
) -> None:
    """Add log p of the branches' tokens up to `until`; logits[n, 0] predicts token firsts[n] of the branches of run n."""
    found = [
        (n, i - first, branch.tokens[i], run.row, place)
        for n, (run, first) in enumerate(zip(runs, firsts, strict=True))
        for place in run.places
        for branch in [asked[run.row][1][place]]
        for i in range(max(branch.start, first), len(branch.tokens) if until is None else until)
    ]
    if not found:
        return
    where, at, tokens, rows, places = map(list, zip(*found, strict=True))
    values = logits.float().log_softmax(-1)[where, at, tokens].tolist()
    for row, place, value in zip(rows, places, values, strict=True):
        sums[row][place] += value
