"""What earlier answers of a model were billed and how long they took: `check` predicts the next run's tokens by it.

One small JSON file beside the response cache, an entry per endpoint, model and task, of the last run that asked it enough:
what another task's texts and answers took says little of this one's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalft import cache, token_counts
from evalft.candidates.api import openai_base_url
from evalft.config import CandidateConfig, Config, digest
from evalft.errors import UserError
from evalft.planning import Seen
from evalft.prompts import Request
from evalft.records import Outcome, Prediction
from evalft.store import write_atomically

MOST_ANSWERS = 10_000
"""That are looked at: more of them say the same."""
LEAST_ANSWERS = 20


def read(config: Config) -> dict[str, Seen]:
    """By candidate name, of those that were asked before."""
    found = _read()
    return {
        one.name: Seen(**found[key])
        for one in config.candidates
        if one.provider not in ("hf", "file", "fake", "plugin") and (key := _key(one, config)) in found
    }


def remember(
    candidate: CandidateConfig, config: Config, requests: Sequence[Request], outcomes: Sequence[Outcome]
) -> None:
    """Keep what one candidate's answers were billed, where there are enough of them."""
    asked = {(request.index, request.repeat): request for request in requests[:MOST_ANSWERS]}
    billed = [
        (asked[one.index, one.repeat], one.usage, one.latency_s)
        for one in outcomes[:MOST_ANSWERS]
        if isinstance(one, Prediction) and one.tries == 1 and one.usage and not one.usage.estimated
        if one.latency_s is not None and (one.index, one.repeat) in asked
    ]
    if len(billed) < LEAST_ANSWERS:
        return
    predicted = token_counts.of_requests([request for request, _, _ in billed])
    seen = Seen(
        answers=len(billed),
        input_ratio=sum(usage.input_tokens for _, usage, _ in billed) / predicted,
        latency_s=sum(latency_s for _, _, latency_s in billed) / len(billed),
    )
    with suppress(UserError):  # no room, no right to write: the next prediction is less good, and that is all
        write_atomically(_file(), json.dumps(_read() | {_key(candidate, config): asdict(seen)}, indent=1))


def _key(candidate: CandidateConfig, config: Config) -> str:
    provider = config.providers.get(candidate.provider)
    task = digest({name: getattr(config.task, name) for name in ("name", "type", "prompt", "system")})
    return f"{provider.base_url if provider else openai_base_url()} {candidate.model_id} {task[:16]}"


def _file() -> Path:
    return cache.folder() / "usage.json"


def _read() -> dict[str, dict[str, Any]]:
    """Empty where there is none, or it cannot be read: it only makes a prediction better."""
    try:
        data = json.loads(_file().read_text(encoding="utf-8"))
        return {str(key): asdict(Seen(**value)) for key, value in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
