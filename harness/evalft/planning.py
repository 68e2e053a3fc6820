"""config x test set -> what will be asked and what it will take, before anything is spent.

Input tokens are predicted from the texts (`token_counts`), corrected by what earlier answers of the model were billed
where there are some (`usage_seen`); each figure that rests on an assumption says so. `training_estimate` says what tuning
would take, for rule 4 of the decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evalft import hyperparameters, token_counts
from evalft.answers import SCHEMA_KEY
from evalft.config import CandidateConfig, Config, TaskConfig
from evalft.prices import HourPrice, TokenPrice, hour_price, live_price, token_price
from evalft.prompts import Request, target_text
from evalft.records import Example
from evalft.sequences import Computed

BYTES_PER_TOKEN = 4
REASONING_MAX_TOKENS = 4096
SECONDS_PER_ANSWER = 1.0
SAMPLES_PER_PAIR = 8
"""Answers that a preference pair is chosen from."""
DEFAULT_TARGET_ROWS = 300
READING_FLOPS_PER_S, WRITING_FLOPS_PER_S = 1.1e11, 1.9e10
"""Medians of four Llamas of 1 to 15 million parameters on two CPU cores in float32 (0.7-1.2e11 and 1.3-2.9e10)."""
FLOPS_PER_S = {"gpu": 1e14, "cpu": 4e10}
"""Effective training speed that the estimate assumes: a data-centre GPU in bf16, one CPU core pair in float32."""


REASONING = re.compile(r"(^|/)(o[1-9]|gpt-5|gpt-oss|deepseek-r|qwq|magistral)", re.IGNORECASE)


def is_reasoning(candidate: CandidateConfig) -> bool:
    """Whether the model thinks before it answers, so that its default max_tokens must leave room for that."""
    return candidate.reasoning_effort is not None or bool(REASONING.search(candidate.model_id))


def estimated_tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def max_tokens(candidate: CandidateConfig, task: TaskConfig, examples: Sequence[Example]) -> int:
    """The config's, else 4 x the longest target + 32 (a token per byte at worst), or 4096 for reasoning models."""
    if candidate.max_tokens is not None:
        return candidate.max_tokens
    if is_reasoning(candidate):
        return REASONING_MAX_TOKENS
    longest = max((estimated_tokens(target_text(task, example.target)) for example in examples), default=1)
    return 4 * longest + 32


@dataclass(frozen=True, slots=True)
class Seen:
    """What earlier answers of a model were billed, and how long they took."""

    answers: int
    input_ratio: float
    """Input tokens billed over those that `token_counts` predicts for the same requests."""
    latency_s: float
    """Mean, of a try that succeeded."""


@dataclass(frozen=True, slots=True)
class CandidatePlan:
    """What asking one candidate takes. USD and minutes are estimates; `worst_usd` is a bound."""

    name: str
    requests: int
    input_tokens: int
    output_tokens: int
    max_tokens: int
    usd: float
    worst_usd: float
    minutes: float | None
    memory_gb: float | None
    price: TokenPrice | HourPrice | None
    assumes: str


def dollars(plans: Sequence[CandidatePlan], cap_usd: float) -> str:
    """What asking all of them will cost, said before the first request."""
    total = sum(plan.usd for plan in plans)
    return (
        f"about ${total:.4f} in all, before retries and less what the cache holds; the cap is ${cap_usd:g} "
        "(limits.max_cost_usd)"
    )


def plan(
    config: Config,
    task: TaskConfig,
    examples: Sequence[Example],
    requests: Mapping[str, Sequence[Request]],
    seen: Mapping[str, Seen] = MappingProxyType({}),
    schema_bytes: Mapping[str, int] = MappingProxyType({}),
) -> list[CandidatePlan]:
    """One plan per candidate. By name: `seen`, what earlier answers were billed; `schema_bytes`, the size of the schema
    sent to those that are asked for JSON. Raises UserError where a price is not known."""
    as_text = predicted_output(task, examples)
    as_json = predicted_output(task, examples, as_json=True) if schema_bytes else as_text
    plans = []
    for candidate in config.candidates:
        asked = requests[candidate.name]
        limit = max_tokens(candidate, task, examples)
        tokens_in = token_counts.of_requests(asked)
        answers = as_json if candidate.name in schema_bytes else as_text
        tokens_out = round(answers * len(asked) / max(1, len(examples)))
        if candidate.provider == "file":
            price = token_price(candidate) if candidate.price else None
            plans.append(
                CandidatePlan(
                    candidate.name, 0, 0, 0, limit, 0.0, 0.0, None, None, price, "answers are read from a file; asks nothing"
                )
            )  # fmt: skip
            continue
        if candidate.provider in ("hf", "fake", "plugin"):
            weights = weights_gb(candidate.model_id)
            hours = hour_price(candidate, config) if candidate.provider == "hf" else None
            minutes = local_minutes(candidate, task, len(asked), tokens_in, tokens_out)
            plans.append(
                CandidatePlan(
                    candidate.name, len(asked), tokens_in, tokens_out, limit, 0.0, 0.0, minutes,
                    None if weights is None else 1.2 * weights, hours,
                    "runs here" if minutes is None else
                    f"runs here, at {READING_FLOPS_PER_S:g} FLOP/s reading and {WRITING_FLOPS_PER_S:g} writing on an idle CPU",
                )
            )  # fmt: skip
            continue
        price = token_price(candidate)
        before = seen.get(candidate.name)
        tokens_in = round(tokens_in * before.input_ratio) if before else tokens_in
        reasoning = limit // 4 * len(asked) if is_reasoning(candidate) else 0
        usd = (tokens_in * price.input + (tokens_out + reasoning) * price.output) / 1e6
        schema = schema_bytes.get(candidate.name, 0)
        worst = sum(_worst_usd(one, schema, limit, price) for one in asked)
        answer_s = before.latency_s if before else SECONDS_PER_ANSWER
        minutes = len(asked) * answer_s / min(config.limits.concurrency, max(1, len(asked))) / 60
        known = (
            f"input tokens and {answer_s:.2g} s an answer as {before.answers:,} earlier answers of this model were billed and took"
            if before
            else f"input tokens as OpenAI's o200k counts text like this, {answer_s:g} s an answer"
        )
        known += f", {config.limits.concurrency} at once"
        if candidate.mode == "batch":
            minutes = None
            counted = (
                f"{before.answers:,} earlier answers were billed" if before else "OpenAI's o200k counts text like this"
            )
            known = f"input tokens as {counted}; in batches, answered within 24 hours, after one row that is asked live"
            worst += max((_worst_usd(one, schema, limit, live_price(candidate, price)) for one in asked), default=0.0)
        plans.append(
            CandidatePlan(
                candidate.name, len(asked), tokens_in, tokens_out + reasoning, limit, usd, worst, minutes, None, price,
                f"{known}; answers as long as the targets"
                + (" as JSON" if candidate.name in schema_bytes else "")
                + (", and thinking a quarter of max_tokens" if reasoning else ""),
            )
        )  # fmt: skip
    return plans


def _worst_usd(request: Request, schema: int, limit: int, price: TokenPrice) -> float:
    """A token per byte at most, those of the schema (bytes) among them, and `limit` tokens of answer."""
    most_in = sum(len(turn["content"].encode()) + 16 for turn in request.messages) + 32 + schema
    return (most_in * price.input + limit * price.output) / 1e6


def predicted_output(task: TaskConfig, examples: Sequence[Example], *, as_json: bool = False) -> int:
    """Tokens of the answers that a perfect candidate gives; `as_json`: in the form of `answers.SCHEMA_KEY`."""

    def answer(target: str | tuple[str, ...]) -> str:
        if not as_json:
            return target_text(task, target)
        return json.dumps({SCHEMA_KEY[task.type or "classification"]: target}, ensure_ascii=False)

    return round(token_counts.of_texts(Computed(len(examples), lambda i: [answer(examples[i].target)])))


def local_minutes(
    candidate: CandidateConfig, task: TaskConfig, requests: int, tokens_in: float, tokens_out: float
) -> float | None:
    """Two FLOPs a parameter and token (Kaplan et al. 2020), at the speed of a CPU of two cores; label scoring reads every
    label behind each prompt and writes nothing. None where the size is not known, or on a GPU: not measured there."""
    parameters = _parameters(candidate.model_id)
    if parameters is None or has_gpu():
        return None
    if task.type == "classification":
        tokens_in += requests * sum(token_counts.estimate(label) for label in task.labels or ())
        tokens_out = 0
    return 2 * parameters * (tokens_in / READING_FLOPS_PER_S + tokens_out / WRITING_FLOPS_PER_S) / 60


# ---------------------------------------------------------------- training


def trainable(candidate: CandidateConfig) -> bool:
    """A causal model of ours to train: `hf:`, and not a folder of a sequence classifier."""
    if candidate.provider != "hf":
        return False
    architectures = _model_config(candidate.model_id).get("architectures") or [""]
    return not str(architectures[0]).endswith("ForSequenceClassification")


@dataclass(frozen=True, slots=True)
class TrainingEstimate:
    """Time, memory and money of one LoRA training, from the size of the base and of the data."""

    base: str | None
    hours: float
    usd: float
    data_usd: float
    memory_gb: float
    why_not: tuple[str, ...]
    assumptions: tuple[str, ...]


def training_estimate(
    config: Config, task: TaskConfig, base: str | None, rows: Sequence[Example], teacher_usd_per_row: float | None
) -> TrainingEstimate:
    """SFT and, where `tune.methods` has it, sampling pairs and DPO on all rows. `rows` show how long a row is.

    FLOPs per parameter and token: 2 forward, 4 forward and backward with LoRA (the frozen weights need no weight
    gradients; Kaplan et al. 2020, appendix B). A pair is two rows, and the reference sees both forward."""
    if base is None:
        return TrainingEstimate(None, 0.0, 0.0, 0.0, 0.0, (), ())
    target_rows = max(config.expand.target_rows or DEFAULT_TARGET_ROWS, len(rows))
    width = _model_config(base[3:]).get("hidden_size")
    epochs = hyperparameters.sft(config.tune, rows=target_rows, hidden_size=width).epochs
    parameters = _parameters(base[3:])
    on_gpu = has_gpu()
    device = "gpu" if on_gpu else "cpu"
    assumptions = [
        f"{target_rows} training rows, {epochs:g} epochs of SFT",
        f"{FLOPS_PER_S[device]:g} FLOP/s on this {device}, otherwise idle; starting up is not counted",
    ]
    if parameters is None:
        parameters = 1e9
        assumptions.append(f"the size of {base} is not known before it is loaded; 1e9 parameters are assumed")
    mean_tokens = sum(
        estimated_tokens(str(row.input)) + estimated_tokens(target_text(task, row.target)) for row in rows
    ) / max(1, len(rows))
    passes = 4 * epochs
    if "dpo" in (config.tune.methods or ("dpo",)):
        dpo_epochs = hyperparameters.dpo(config.tune, pairs=target_rows, hidden_size=width).epochs
        passes += config.tune.rounds * (2 * SAMPLES_PER_PAIR + 2 * (4 + 2) * dpo_epochs)
        assumptions.append(
            f"DPO: {SAMPLES_PER_PAIR} samples of each row, {dpo_epochs:g} epochs of at most a pair a row"
        )
    flops = passes * parameters * mean_tokens * target_rows
    hours = flops / FLOPS_PER_S[device] / 3600
    per_hour = config.prices.gpu_hour_usd if on_gpu else config.prices.cpu_hour_usd
    memory = parameters * (2 if on_gpu else 4) * 1.3 / 1e9 + 0.5
    data_usd = (teacher_usd_per_row or 0.0) * target_rows
    why_not = []
    if config.limits.max_gpu_hours is not None and hours > config.limits.max_gpu_hours:
        why_not.append(
            f"about {hours:.3g} hours of training, and limits.max_gpu_hours is {config.limits.max_gpu_hours:g}"
        )
    if data_usd > config.limits.max_cost_usd:
        why_not.append(
            f"about ${data_usd:.2f} for the teacher, and limits.max_cost_usd is {config.limits.max_cost_usd:g}"
        )
    free = _free_memory_gb(on_gpu)
    if free is not None and memory > free:
        why_not.append(f"about {memory:.1f} GB of memory, and {free:.1f} GB are free on this {device}")
    return TrainingEstimate(base, hours, hours * per_hour, data_usd, memory, tuple(why_not), tuple(assumptions))


def weights_gb(model: str) -> float | None:
    """Size of a model folder's weights; None for a hub id, whose size is not known before it is fetched."""
    folder = Path(model)
    if not folder.is_dir():
        return None
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9


def _model_config(model: str) -> dict[str, Any]:
    try:
        data = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _parameters(model: str) -> float | None:
    size_gb = weights_gb(model)
    if not size_gb:
        return None
    dtype = str(_model_config(model).get("dtype") or _model_config(model).get("torch_dtype") or "float32")
    return size_gb * 1e9 / (4 if dtype == "float32" else 2)


def has_gpu() -> bool:
    """Whether an NVIDIA driver is loaded; torch is not imported for a plan."""
    return Path("/proc/driver/nvidia/version").exists()


def _free_memory_gb(on_gpu: bool) -> float | None:
    if on_gpu:
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) / 1e6
    return None
