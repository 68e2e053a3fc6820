"""How likely a causal model finds texts that go on from a prompt: log-likelihoods of labels on a shared prefix.

The prompts of a batch are read once, together, and give the first token of every branch. Then only what differs is read,
on the prompts' key-value cache: the branches of a prompt as a tree, in which what several begin with stands once, and a
last token, which is predicted but never read, not at all. Equal to running every prompt with every branch by itself, up
to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalft.candidates.causal_model import CausalModel, Tree
from evalft.candidates.model_loading import is_out_of_memory

if TYPE_CHECKING:
    import torch

LOGITS_BYTES = 256 * 2**20
"""The most one pass may hold as float32 logits: a vocabulary of 150,000 is 0.6 MB per token."""
TREE_TOKENS = 64
"""A tree of about this size at most: every place attends to every other, seen or not, so that attention in a tree grows
with the square of its size, while splitting it costs another copy of the prompt's cache."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens that follow a prompt; those from `start` on are scored."""

    tokens: tuple[int, ...]
    start: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A tree to read behind a prompt and what it predicts: behind place at[i] tokens[i], of the branch branches[i].

    `at` counts from the prompt's last token: 0 is the logits behind that, which every prompt's pass gives.
    """

    tree: Tree
    at: NDArray[np.int64]
    tokens: NDArray[np.int64]
    branches: NDArray[np.int64]


Asked = Sequence[tuple[list[int], list[Branch]]]
Run = tuple[int, Part]
"""A part, and the row of the prompt that it goes on from."""


def log_likelihoods(model: CausalModel, asked: Asked, max_tokens: int) -> list[NDArray[np.float64]]:
    """Per (prompt, branches) the sums of log p(token | all before it) over each branch's tokens from its `start` on.

    `max_tokens` bounds one pass over trees, prompts included; where that is too much for the memory it is halved, and
    the out-of-memory error is raised only for a pass over one tree.
    """
    if not asked:
        return []
    prompts = [prompt for prompt, _ in asked]
    longest = max(len(prompt) for prompt in prompts)
    widest = max(TREE_TOKENS, *(len(branch.tokens) for _, branches in asked for branch in branches))
    tree_tokens = TREE_TOKENS if model.trees and model.fits_window(longest + widest) else 0
    runs = _runs([branches for _, branches in asked], tree_tokens)
    ends = np.cumsum([len(branches) for _, branches in asked])
    begins = np.concatenate([[0], ends[:-1]])
    sums = np.zeros(ends[-1])

    def add(logits: torch.Tensor, some: list[Run], rows: list[int], lasts: list[int]) -> None:
        """Add what logits[rows[n]] predict of the n-th part, its prompt's last token standing at lasts[n]."""
        sizes = [len(part.at) for _, part in some]
        row = np.repeat(rows, sizes)
        at = np.concatenate([part.at for _, part in some]) + np.repeat(lasts, sizes)
        tokens = np.concatenate([part.tokens for _, part in some])
        branches = np.concatenate([part.branches + begins[row] for row, part in some])
        there = (at >= 0) & (at < logits.shape[1])
        np.add.at(sums, branches[there], _log_p(logits, row[there], at[there], tokens[there]))

    def in_pieces(read: Callable[[list[Run]], None], some: list[Run], kept: int) -> None:
        most = min(max_tokens // (longest + kept), LOGITS_BYTES // (4 * kept * model.vocabulary))
        _in_pieces(read, some, max(most, 1))

    def read_whole(some: list[Run]) -> None:
        logits = model.read_whole([[*prompts[row], *part.tree.tokens] for row, part in some])
        add(logits, some, list(range(len(some))), [len(prompts[row]) - 1 for row, _ in some])

    if not model.branches:
        in_pieces(read_whole, runs, longest + len(runs[0][1].tree.tokens))
        return np.split(sums, ends[:-1])

    logits, read = model.read_prompts(prompts)
    add(logits, runs, [row for row, _ in runs], [0] * len(runs))
    runs = [(row, part) for row, part in runs if part.tree.tokens]

    def read_trees(some: list[Run]) -> None:
        logits = model.read_trees(read, [row for row, _ in some], [part.tree for _, part in some])
        add(logits, some, list(range(len(some))), [-1] * len(some))

    if runs:
        in_pieces(read_trees, runs, len(runs[0][1].tree.tokens))
    return np.split(sums, ends[:-1])


def _runs(asked: Sequence[list[Branch]], tree_tokens: int) -> list[Run]:
    """Every row's parts: those of like size beside each other, to share a pass, and of these in the rows' order."""
    known: dict[tuple[Branch, ...], list[Part]] = {}  # rows often share their labels
    runs: list[Run] = []
    for row, branches in enumerate(asked):
        key = tuple(branches)
        if key not in known:
            known[key] = split(branches, tree_tokens)
        runs += [(row, part) for part in known[key]]
    return sorted(runs, key=lambda run: -len(run[1].tree.tokens))


def split(branches: Sequence[Branch], tree_tokens: int) -> list[Part]:
    """Trees of at most `tree_tokens` (a longer branch alone) that predict every branch; with 0 each is one chain.

    Sorted backwards, neighbours share the most, and what begins another follows one that it begins.
    """
    parts: list[Part] = []
    tree = _Growing()
    for place in sorted(range(len(branches)), key=lambda place: branches[place].tokens[:-1], reverse=True):
        new = tree.missing(branches[place].tokens[:-1])
        if new and tree.places and len(tree.places) + new > tree_tokens:
            parts.append(tree.part())
            tree = _Growing()
        tree.add(place, branches[place])
    return [*parts, tree.part()] if branches else parts


class _Growing:
    """A tree while branches are added to it: each beginning of a branch stands at one place."""

    def __init__(self) -> None:
        self.places: dict[tuple[int, ...], int] = {}
        self._parents: list[int] = []
        self._predicted: list[tuple[int, int, int]] = []

    def missing(self, path: tuple[int, ...]) -> int:
        return sum(path[: i + 1] not in self.places for i in range(len(path)))

    def add(self, number: int, branch: Branch) -> None:
        place = -1
        for i, token in enumerate(branch.tokens):
            if i >= branch.start:
                self._predicted.append((place + 1, token, number))
            if i == len(branch.tokens) - 1:
                return
            beginning = branch.tokens[: i + 1]
            if beginning not in self.places:
                self.places[beginning] = len(self.places)
                self._parents.append(place)
            place = self.places[beginning]

    def part(self) -> Part:
        tree = Tree(tuple(beginning[-1] for beginning in self.places), tuple(self._parents))
        at, tokens, branches = np.array(self._predicted, dtype=np.int64).reshape(-1, 3).T
        return Part(tree, at, tokens, branches)


def _in_pieces(read: Callable[[list[Run]], None], runs: list[Run], size: int) -> None:
    while runs:
        try:
            read(runs[:size])
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size = (size + 1) // 2
        else:
            runs = runs[size:]


def _log_p(
    logits: torch.Tensor, rows: NDArray[np.int64], at: NDArray[np.int64], tokens: NDArray[np.int64]
) -> NDArray[np.float64]:
    import torch

    logits = logits.float()
    where = tuple(torch.from_numpy(index).to(logits.device) for index in (rows, at))
    chosen = logits[(*where, torch.from_numpy(tokens).to(logits.device))]
    found: NDArray[np.float64] = (chosen - logits.logsumexp(-1)[where]).double().cpu().numpy()
    return found
