"""A layer of a key-value cache for decoding: room is made ahead, so that a new token is written and nothing is copied.

transformers' DynamicLayer copies all that is past for every token. Import this module lazily: it needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Places that are made ahead at least; a longer cache gets a quarter of its length."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """`keys` and `values`, (row, head, place, width), are the filled part of larger buffers."""

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.keys, self.values = layer.keys, layer.values
        self.dtype, self.device, self.is_initialized = layer.keys.dtype, layer.keys.device, True
        self._buffers: tuple[torch.Tensor, ...] = (self.keys, self.values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        filled = self.keys.shape[2]
        length = filled + key_states.shape[2]
        if length > self._buffers[0].shape[2]:
            room = length - filled + max(ROOM, filled // 4)
            self._buffers = (_with_room(self.keys, room), _with_room(self.values, room))
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, filled:length] = new
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """The rows named, in that order; only those that change their place are copied."""
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero()[:, 0]
        filled = self.keys.shape[2]
        for buffer in self._buffers:
            buffer[moved, :, :filled] = buffer[indices[moved], :, :filled]
        self._buffers = tuple(buffer[: len(indices)] for buffer in self._buffers)
        self.keys, self.values = (buffer[:, :, :filled] for buffer in self._buffers)


def _with_room(filled: torch.Tensor, room: int) -> torch.Tensor:
    rows, heads, length, width = filled.shape
    buffer = filled.new_empty(rows, heads, length + room, width)
    buffer[:, :, :length] = filled
    return buffer
