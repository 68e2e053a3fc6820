"""A causal language model and what it has read: prompts, and on their key-value cache whatever may follow them.

What many texts begin with is read once: the beginning that all prompts of a run share (`share`: system text, shots), a
prompt that many branches go on from, and what branches share among themselves: they are read as a tree, each place
seeing its own ancestors only (tree attention as in SpecInfer, Miao et al. 2024). Padding is masked and positions count
real tokens, so that nothing depends on the batch. A model that does not take such a mask is noticed at the start, by
its numbers, and reads every branch by itself; one with a recurrent state reads every text whole.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evalft.candidates.model_loading import is_out_of_memory

if TYPE_CHECKING:
    import torch


WORTH_A_PASS = 256
"""So many places of padding cost more than a pass of their own does for small models; large ones gain from fewer yet."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Tokens that go on from a prompt, each from its parent: the place of one before it, or -1 for the prompt."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: NDArray[np.int64] = field(init=False, compare=False, repr=False)
    sees: NDArray[np.bool_] = field(init=False, compare=False, repr=False)
    """(place, place): itself and its ancestors."""

    def __post_init__(self) -> None:
        sees = np.eye(len(self.tokens), dtype=np.bool_)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                sees[place] |= sees[parent]
        object.__setattr__(self, "sees", sees)
        object.__setattr__(self, "depths", sees.sum(1) - 1)

    @property
    def is_chain(self) -> bool:
        return all(parent == place - 1 for place, parent in enumerate(self.parents))


@dataclass(frozen=True, slots=True)
class Read:
    """Prompts that were read: which places of the cache hold tokens, (row, place), and the cache itself."""

    mask: torch.Tensor
    cache: Any


class CausalModel:
    """Logits have the shape (row, place, vocabulary). To be made and used under `torch.inference_mode`."""

    def __init__(self, model: Any, pad_token: int) -> None:
        self.model, self.pad_token = model, pad_token
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._beginning: list[int] = []
        self._beginning_cache: Any = None
        self.trees = self.branches = False
        logits, read = self.read_prompts([[pad_token] * 2])
        self.vocabulary: int = logits.shape[-1]
        layers = getattr(read.cache, "layers", None) or [None]
        self.branches = all(type(layer).__name__ in ("DynamicLayer", "DynamicSlidingWindowLayer") for layer in layers)
        """Its cache is a list of past tokens, which rows can branch off from (a recurrent state is not)."""
        self.window: float = min((getattr(layer, "sliding_window", math.inf) for layer in layers), default=math.inf)
        """A token sees no further back than this many places: behind that only plain sequences are masked rightly."""
        self.trees = self.branches and self._takes_trees()

    # ------------------------------------------------------------ reading

    def share(self, beginning: Sequence[int]) -> None:
        """All prompts to come begin with these tokens: they are read once, with the first prompts that do."""
        # a window would count the padding behind the beginning, too
        if self.trees and self.window == math.inf and list(beginning) != self._beginning:
            self._beginning, self._beginning_cache = list(beginning), None

    def read_prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, Read]:
        """Logits behind the last token of each, (row, 1, vocabulary), and what to go on from."""
        import torch

        pieces = self._pieces([len(prompt) for prompt in prompts])
        given = [self._read_piece([prompts[row] for row in piece]) for piece in pieces]
        if len(given) == 1:
            return given[0]
        back = torch.tensor(np.argsort(np.concatenate(pieces)), device=self.model.device)
        read = _joined([read for _, read in given])
        if back.tolist() != list(range(len(prompts))):
            read = Read(read.mask[back], read.cache)
            read.cache.batch_select_indices(back)
        return torch.cat([logits for logits, _ in given])[back], read

    def _read_piece(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, Read]:
        import torch

        cut = self._shared_length(prompts)
        tokens, mask = self.padded([prompt[cut:] for prompt in prompts])
        options: dict[str, Any] = {}
        if cut:
            mask = torch.cat([mask.new_ones(len(prompts), cut), mask], dim=1)
            options["past_key_values"] = self._beginning_for(len(prompts))
        output = self.forward(tokens, mask, use_cache=True, logits_to_keep=1, **options)
        return output.logits[:, -1:], Read(mask, getattr(output, "past_key_values", None))

    def _pieces(self, lengths: Sequence[int]) -> list[list[int]]:
        """The rows by length, the longest first, cut where the padding that is saved is worth another pass."""
        pieces: list[list[int]] = []
        for place, row in enumerate(sorted(range(len(lengths)), key=lambda row: -lengths[row])):
            if not pieces or (lengths[pieces[-1][0]] - lengths[row]) * (len(lengths) - place) >= WORTH_A_PASS:
                pieces.append([])
            pieces[-1].append(row)
        joins = self.branches and self.window == math.inf
        return pieces if joins and len(pieces) > 1 else [list(range(len(lengths)))]

    def read_trees(self, read: Read, rows: Sequence[int], trees: Sequence[Tree]) -> torch.Tensor:
        """Logits behind each place of each tree, which goes on from prompt rows[n]; what was read stays as it is."""
        import torch

        tokens, own = self.padded([tree.tokens for tree in trees], left=False)
        mask, cache = read.mask, _copied(read.cache)
        if list(rows) != list(range(len(mask))):
            chosen = torch.tensor(rows, device=mask.device)
            mask = mask[chosen]
            cache.batch_select_indices(chosen)
        options = {"past_key_values": cache, "use_cache": True}
        if all(tree.is_chain for tree in trees):
            output = self.forward(tokens, torch.cat([mask, own], dim=1), **options)
        else:
            sees, depths = (torch.from_numpy(a).to(mask.device) for a in _arranged(trees, tokens.shape[1]))
            past = mask.bool()[:, None].expand(-1, tokens.shape[1], -1)
            options["position_ids"] = mask.sum(1, keepdim=True) + depths
            output = self.forward(tokens, self.seen(torch.cat([past, sees], dim=2)), **options)
        logits: torch.Tensor = output.logits
        return logits

    def go_on(self, read: Read, places: int) -> Continuation:
        """To be read on, token by token, for at most so many places; what was read is given up to it."""
        fits = self.trees and self.fits_window(read.mask.shape[1] + places)
        return Continuation(self, read, whole_mask=fits)

    def read_whole(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits behind each token, without a cache."""
        logits: torch.Tensor = self.forward(*self.padded(texts, left=False), use_cache=False).logits
        return logits

    def fits_window(self, places: int) -> bool:
        """A text of so many places, padding included, is seen whole by each of its tokens."""
        return places < self.window

    # ------------------------------------------------------------ one pass

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, **options: object) -> Any:
        """The model's output. `mask`: (row, place) of past and new places, or what `seen` made, with position_ids."""
        if "position_ids" not in options:
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        accepted = {name: value for name, value in options.items() if name in self._accepted}
        return self.model(input_ids=tokens, attention_mask=mask, **accepted)

    def seen(self, sees: torch.Tensor) -> torch.Tensor:
        """(row, new place, place) booleans as the mask to add to attention scores, (row, 1, new place, place).

        Not as booleans, which torch would turn into this once per layer.
        """
        import torch

        mask = sees.new_zeros(sees.shape, dtype=self.model.dtype)
        return mask.masked_fill_(~sees, torch.finfo(self.model.dtype).min)[:, None]

    def padded(self, rows: Sequence[Sequence[int]], *, left: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        return padded(rows, self.pad_token, self.model.device, left=left)

    # ------------------------------------------------------------ what is shared

    def _shared_length(self, prompts: Sequence[Sequence[int]]) -> int:
        cut = len(self._beginning)
        same = all(len(prompt) > cut and list(prompt[:cut]) == self._beginning for prompt in prompts)
        return cut if same else 0

    def _beginning_for(self, rows: int) -> Any:
        if self._beginning_cache is None:
            output = self.forward(*self.padded([self._beginning]), use_cache=True, logits_to_keep=1)
            self._beginning_cache = output.past_key_values
        cache = _copied(self._beginning_cache)
        for layer in cache.layers:  # views: the next pass writes tensors of its own
            if layer.get_seq_length():
                layer.keys, layer.values = (part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values))
        return cache

    def _takes_trees(self) -> bool:
        """Whether a shared beginning, padding behind it, and a tree give the same numbers as whole texts do."""
        import torch

        first, *others = [place % self.vocabulary for place in range(11, 18)]
        texts = [[first, others[0], others[1]], [first, *others[2:]]]  # the second is longer: the first gets padding
        tree = Tree(tuple(others[:3]), (-1, 0, -1))
        if not self.fits_window(12):
            return False
        whole = self.read_whole([[*texts[i], *tail] for i in (0, 1) for tail in (others[:2], others[2:3])])
        expected = torch.stack(
            [whole[2 * i + k, len(texts[i]) + place] for i in (0, 1) for k, place in ((0, 0), (0, 1), (1, 0))]
        )
        self.trees = True  # as if
        self.share([first])
        try:
            _, read = self.read_prompts(texts)
            found = self.read_trees(read, [0, 1], [tree, tree]).flatten(0, 1)
        except Exception as error:  # whatever a model says to a mask that it does not know
            if is_out_of_memory(error):
                raise
            return False
        finally:
            self.share([])
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


class Continuation:
    """Rows that are read on, one token each at a time; `keep` drops those that are done."""

    def __init__(self, model: CausalModel, read: Read, *, whole_mask: bool) -> None:
        """`whole_mask`: every place sees all before it, so that the mask need not be worked out by the model."""
        from transformers.cache_utils import DynamicLayer

        from evalft.candidates.growing_cache import GrowingLayer

        self._model, self._mask, self._cache, self._whole_mask = model, read.mask, read.cache, whole_mask
        self._cache.layers = [
            GrowingLayer(layer) if type(layer) is DynamicLayer and layer.get_seq_length() else layer
            for layer in self._cache.layers
        ]
        self._positions = read.mask.sum(1, keepdim=True)

    def keep(self, rows: Sequence[int]) -> None:
        import torch

        chosen = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(chosen)
        self._mask, self._positions = self._mask[chosen], self._positions[chosen]

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: (row,), what stands behind all that each row has read; logits (row, vocabulary) behind it."""
        import torch

        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        mask = self._model.seen(self._mask.bool()[:, None]) if self._whole_mask else self._mask
        options = {"past_key_values": self._cache, "use_cache": True, "position_ids": self._positions}
        logits: torch.Tensor = self._model.forward(tokens[:, None], mask, **options).logits[:, -1]
        self._positions = self._positions + 1
        return logits


def padded(
    rows: Sequence[Sequence[int]], pad_token: int, device: object, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and attention mask, both (row, longest), padded on one side."""
    import torch

    width = max(len(row) for row in rows)
    tokens = np.full((len(rows), width), pad_token)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[i, place], mask[i, place] = row, 1
    return torch.from_numpy(tokens).to(device), torch.from_numpy(mask).to(device)


def _joined(reads: Sequence[Read]) -> Read:
    """Several as one, all but the longest padded on the left."""
    import torch
    from torch.nn.functional import pad

    width = max(read.mask.shape[1] for read in reads)
    gaps = [width - read.mask.shape[1] for read in reads]
    cache = _copied(reads[0].cache)
    for number, layer in enumerate(cache.layers):
        if layer.get_seq_length():
            parts = [(read.cache.layers[number], gap) for read, gap in zip(reads, gaps, strict=True)]
            layer.keys = torch.cat([pad(part.keys, (0, 0, gap, 0)) for part, gap in parts])
            layer.values = torch.cat([pad(part.values, (0, 0, gap, 0)) for part, gap in parts])
    return Read(torch.cat([pad(read.mask, (gap, 0)) for read, gap in zip(reads, gaps, strict=True)]), cache)


def _copied(cache: Any) -> Any:
    """Its layers' tensors are replaced, never written to: what is read further does not show in the original."""
    copied = copy(cache)
    copied.layers = [copy(layer) for layer in cache.layers]
    return copied


def _arranged(trees: Sequence[Tree], width: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """What each place sees, (tree, width, width), and its depth; padding sees itself, so that its numbers are finite."""
    sees = np.tile(np.eye(width, dtype=np.bool_), (len(trees), 1, 1))
    depths = np.zeros((len(trees), width), dtype=np.int64)
    for n, tree in enumerate(trees):
        size = len(tree.tokens)
        sees[n, :size, :size], depths[n, :size] = tree.sees, tree.depths
    return sees, depths
