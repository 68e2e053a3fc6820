"""One seam: a candidate turns batches of requests into attempts, and nothing else knows what is behind it.

`api.py` asks an OpenAI-compatible server, `local.py` runs a Hugging Face model in this process, `recorded.py` reads
answers that were made elsewhere, `fake.py` answers by rule for tests and measurements. Bounds, pacing, retries, cache, budget and the disk are execution's: a candidate tries once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from evalft import plugins
from evalft.config import CandidateConfig, Config
from evalft.prices import HourPrice, TokenPrice
from evalft.prompts import Request
from evalft.records import Outcome

Resource = Literal["requests", "tokens"]
"""What providers limit the rate of."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the headers of an answer say of one resource."""

    limit: float
    """How much there is when none is used."""
    remaining: float
    per_s: float
    """At which it is refilled."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one request."""

    outcome: Outcome
    retry: bool = False
    """A later try may succeed (429, 5xx, timeout, connection, malformed or empty body)."""
    retry_after_s: float | None = None
    """The server said how long to wait."""
    throttled: bool = False
    """The server refused for its rate limit: send more slowly."""
    throttled_by: Resource | None = None
    """Which limit, where the server said so."""
    rate_limits: Mapping[Resource, RateLimit] = field(default_factory=dict)
    broken: bool = False
    """The server failed (5xx): where it says the same again and again, it is about this request."""
    stops: bool = False
    """No later request of this candidate can succeed (401, 403, exhausted quota)."""


class Candidate(Protocol):
    name: str
    remote: bool
    """Asked over a network: many requests at once, paced, retried, metered. Else one batch at a time in this process."""

    def start(self) -> list[str]:
        """Make ready (client, weights); returns each choice made as a plain line. Raises CannotStart."""

    def identity(self) -> dict[str, object]:
        """All that identifies an answer besides messages and repeat: part of the cache's key."""

    def worst_case_usd(self, request: Request) -> float:
        """The most one try of this request can be billed."""

    def batches(self, requests: Sequence[Request]) -> Iterator[tuple[Request, ...]]:
        """The order and grouping in which requests are best asked."""

    async def predict(self, batch: Sequence[Request]) -> list[Attempt]:
        """One try of each request, in order. Never raises for what a server or model does."""

    async def close(self) -> None: ...


def build(
    candidate: CandidateConfig,
    config: Config,
    *,
    price: TokenPrice | HourPrice | None,
    max_tokens: int,
    dev: Sequence[tuple[Request, Collection[str]]] = (),
) -> Candidate:
    """The candidate behind a spec: `openai:` and named providers, `hf:`, `file:`, `plugin:`, `fake:`. Makes nothing ready yet."""
    task = config.task
    wanted = {spec.name for spec in task.metrics or ()} | set(config.thresholds)
    want_probs = any(name.startswith(("roc_auc", "pr_auc", "brier", "ece")) for name in wanted)
    if candidate.provider == "fake":
        from evalft.candidates.fake import FakeCandidate

        return FakeCandidate(candidate, task)
    if candidate.provider == "plugin":
        from evalft.candidates.plugin import PluginCandidate

        return PluginCandidate(candidate, task)
    if candidate.provider == "file":
        from evalft.candidates.recorded import RecordedCandidate

        assert price is None or isinstance(price, TokenPrice)
        return RecordedCandidate(candidate, task, price=price)
    if candidate.provider == "hf":
        from evalft.candidates.local import LocalCandidate

        assert isinstance(price, HourPrice)
        return LocalCandidate(candidate, task, price=price, max_tokens=max_tokens, want_probs=want_probs, dev=dev)
    from evalft.candidates.api import ApiCandidate

    assert isinstance(price, TokenPrice)
    return ApiCandidate(
        candidate,
        config.providers.get(candidate.provider),
        task,
        price=price,
        max_tokens=max_tokens,
        timeout_s=config.limits.timeout_s,
        want_probs=want_probs,
    )


def digest_parts(candidate: CandidateConfig, config: Config) -> dict[str, object]:
    """What of a candidate its answers depend on, known without loading it: its settings, the endpoint's address, the
    contents of a model or adapter folder (so that the same folder elsewhere is the same candidate)."""
    parts = candidate.model_dump(mode="json", exclude={"price"})
    if candidate.provider in config.providers:
        parts["base_url"] = config.providers[candidate.provider].base_url
    if candidate.provider == "openai":
        parts["base_url"] = os.environ.get("OPENAI_BASE_URL")
    if candidate.provider == "file":
        from evalft.candidates.recorded import content_digest

        parts["model"] = content_digest(candidate.model) or candidate.model
    if candidate.provider == "plugin":
        parts["version"] = plugins.version("candidates", candidate.model_id)
    if candidate.provider == "hf":
        from evalft.candidates.model_files import ModelFiles

        for name, spec in (("model", candidate.model_id), ("adapter", candidate.adapter or "")):
            if spec and Path(spec).is_dir():
                parts[name] = ModelFiles(Path(spec), {}).digest
    return parts
