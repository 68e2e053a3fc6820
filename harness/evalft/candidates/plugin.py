"""`plugin:PACKAGE:NAME`: a candidate that an installed package brings (plugins.py).

The entry point is called once with the candidate's settings and gives a function: a batch of chats in, an answer for each
out. An answer is a text, or {"text": ..., "cost_usd": ..., "input_tokens": ..., "output_tokens": ...}; None is the failure
`empty`. What it raises for a batch is the failure `api_error` of its rows, which names it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalft import answers, plugins
from evalft.candidates import Attempt
from evalft.config import CandidateConfig, TaskConfig
from evalft.errors import CannotStart, UserError
from evalft.prompts import Request
from evalft.records import Failure, Outcome, Prediction, Usage

BATCH = 32
NOT_SETTINGS = {"name", "model", "prompt", "system", "shots", "samples"}
"""Of a candidate: what the messages hold already."""


class PluginCandidate:
    remote = False

    def __init__(self, config: CandidateConfig, task: TaskConfig) -> None:
        self.name = config.name
        self._spec = config.model_id
        self._settings = settings_of(config)
        self._task = task
        self._plugin: plugins.Plugin | None = None

    def start(self) -> list[str]:
        try:
            made = plugins.load("candidates", self._spec)
            ready = made(dict(self._settings))
            if not callable(ready):
                raise made.wrong(f"gave {type(ready).__name__}, nothing to call")
        except UserError as error:
            raise CannotStart(*(f"candidate {self.name}: {fault}" for fault in error.faults)) from error
        self._plugin = plugins.Plugin(made.name, made.version, ready)
        return [
            f"answered by the plug-in {made.name} {made.version}; what it spends is not held under limits.max_cost_usd"
        ]

    def identity(self) -> dict[str, object]:
        return {
            "kind": "plugin",
            "plugin": self._spec,
            "version": plugins.version("candidates", self._spec),
            "settings": self._settings,
            "task": [self._task.type, self._task.labels],
        }

    def worst_case_usd(self, request: Request) -> float:
        return 0.0

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        return (tuple(requests[i : i + BATCH]) for i in range(0, len(requests), BATCH))

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        plugin = self._plugin
        assert plugin is not None, "start() comes first"
        chats = [[dict(turn) for turn in request.messages] for request in batch]
        began = time.perf_counter()
        try:
            said = await asyncio.to_thread(plugin, chats)
            if not isinstance(said, list | tuple) or len(said) != len(batch):
                raise plugin.wrong(f"gave {_shown(said)} for {len(batch)} chats, not a list of as many answers")
        except UserError as error:
            where = [(one.id, one.index, one.repeat) for one in batch]
            return [Attempt(Failure(*place, "api_error", str(error), cost_usd=None)) for place in where]
        seconds = time.perf_counter() - began
        return [
            Attempt(self._outcome(plugin, request, one, seconds, batch[0].index))
            for request, one in zip(batch, said, strict=True)
        ]

    async def close(self) -> None:
        pass

    def _outcome(self, plugin: plugins.Plugin, request: Request, said: Any, latency_s: float, batch: int) -> Outcome:
        where = (request.id, request.index, request.repeat)
        given: Mapping[str, Any] = said if isinstance(said, Mapping) else {"text": said}
        text = given.get("text")
        cost_usd, tokens_in, tokens_out = (given.get(key) for key in ("cost_usd", "input_tokens", "output_tokens"))
        if not isinstance(text, str | None) or not all(map(_is_amount, (cost_usd, tokens_in, tokens_out))):
            wrong = plugin.wrong(f"gave {_shown(said)}, which is neither a text nor an answer with its cost and tokens")
            return Failure(*where, "bad_response", str(wrong), cost_usd=None)
        same: dict[str, Any] = {"cost_usd": cost_usd, "latency_s": latency_s}
        if tokens_in is not None and tokens_out is not None:
            same["usage"] = Usage(int(tokens_in), int(tokens_out))
        reading = answers.read(text, "stop", self._task.type or "generation", self._task.labels or ())
        if reading.failure:
            return Failure(*where, reading.failure, reading.message, text=text, **same)
        return Prediction(*where, text, reading.labels, rescued=reading.rescued, batch=batch, **same)


def settings_of(config: CandidateConfig) -> dict[str, Any]:
    """What is set of temperature, max_tokens, seed, stop, top_p, extra_body."""
    return config.model_dump(mode="json", exclude_defaults=True, exclude=NOT_SETTINGS)


def _is_amount(value: object) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    )


def _shown(value: object) -> str:
    return repr(value)[:80]
