"""The frozen records that every stage passes on: Example, Prediction | Failure, Score, Estimate, Verdict.

Data flows one way: a test set gives Examples, a candidate turns each into a Prediction or a Failure (siblings with the
same id: a failure is data, not a crash), scoring turns those into one Score per example and Estimates over all of them,
and the decision turns Estimates into a Verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Message = Mapping[str, str]
"""One chat message: {"role": "system" | "user" | "assistant", "content": text}."""

TaskType = Literal["generation", "classification", "multilabel"]
Status = Literal["pass", "fail", "undecided"]
Role = Literal["candidate", "baseline", "tuned"]
"""baseline: the untuned base with the tuned candidate's prompt."""
Action = Literal["ship", "tune", "more_test_data", "fix_labels", "stop"]
FailureKind = Literal[
    "refused",
    "filtered",
    "truncated",
    "empty",
    "unparsable",
    "wrong_schema",
    "bad_response",
    "timeout",
    "connection",
    "api_error",
    "out_of_memory",
]
ProbsMethod = Literal["log_likelihood", "p_yes", "top_logprobs", "vote", "softmax", "sigmoid", "stated", "hard"]


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's test (or dev, train) set."""

    id: str
    input: str | tuple[Message, ...]
    """The text of the input column, or the chat messages that precede the target."""
    target: str | tuple[str, ...]
    """The expected text or label; for multilabel the tuple of labels, in file order, maybe empty."""
    row: Mapping[str, object]
    """All columns as read, for prompt templates."""
    group: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """file:line the row came from."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, all its tries included. `estimated` marks a body that came without usage."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Part of input_tokens that the provider billed at its cached price."""
    reasoning_tokens: int = 0
    """Part of output_tokens that the model spent thinking."""
    estimated: bool = False
    cache_write_tokens: int = 0
    """Part of input_tokens that the provider billed for keeping them in its cache."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one candidate answered for one example."""

    id: str
    index: int
    """Position of the example in the test set, from 0."""
    repeat: int
    """Which of the candidate's `samples` this is, from 0."""
    text: str | None
    """The answer as the model gave it; None where nothing is generated (label scoring)."""
    labels: tuple[str, ...] | None
    """The labels read from the answer; None for generation tasks, () for a real empty multi-label answer."""
    probs: Mapping[str, float] | None = None
    """Per label: sums to 1 for classification, each in 0..1 for multilabel."""
    probs_method: ProbsMethod | None = None
    unseen_mass: float | None = None
    """Probability mass that no label accounts for (label-token top_logprobs only)."""
    rescued: bool = False
    """True where only the lenient parser understood the answer."""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    """All tries of this answer, at the price of the day it was asked. None: not known (answers made elsewhere)."""
    latency_s: float | None = None
    """Send to last byte of the try that succeeded (API), or of its batch (local)."""
    tries: int = 1
    cached: bool = False
    made: str | None = None
    """The day (ISO, UTC) that a cached answer was given."""
    near_tie: bool = False
    """Greedy decoding here chose a token where the two largest logits were closer than rounding may be."""
    batch: int | None = None
    """The same number: answered together, so that latency_s is one measurement. None: alone, or not known (older files)."""
    scores: Mapping[str, float] | None = None
    """Row scores that came with an answer made elsewhere, by metric ("tool/name")."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What one candidate failed to answer for one example: a Prediction's sibling, scored as a miss."""

    id: str
    index: int
    repeat: int
    failure: FailureKind
    message: str
    text: str | None = None
    """The answer that could not be used, where there was one."""
    finish_reason: str | None = None
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    latency_s: float | None = None
    """Send to last byte, or how long was waited for an answer that did not come (timeout)."""
    tries: int = 1
    cached: bool = False
    made: str | None = None
    near_tie: bool = False


Outcome = Prediction | Failure


@dataclass(frozen=True, slots=True)
class Score:
    """One example's row scores for one candidate: a line of scores/<candidate>.jsonl."""

    id: str
    index: int
    values: Mapping[str, float]
    """Per metric that has a row score (right or wrong, token F1, Jaccard of the row ...): higher is better."""
    failure: FailureKind | None = None
    rescued: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: behind the same messages `chosen` is better than `rejected`, by the primary metric's row score."""

    id: str
    """Of the train or generated row it was sampled for."""
    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float
    chosen_from: Literal["sampled", "reference"]
    """reference: no sample was right, so the row's own target stands as chosen."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval: an entry of `metrics` in summary.json. None where it could not be measured."""

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    n: int
    probs_method: str | None = None
    reason: str | None = None
    """Why value (or an end) is None, or a caveat."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and what would change it."""

    action: Action
    candidate: str | None
    reasons: tuple[str, ...]
    flips_if: tuple[str, ...]
    rows_needed: int | None = None
