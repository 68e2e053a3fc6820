"""config x test set -> what will be asked and what it will take, before anything is spent.

Token counts are estimates from the length of the text (about 4 bytes a token) where no tokenizer is at hand; each
figure that rests on an assumption says so. `training_plan` estimates what tuning would take, for rule 4 of the decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalft import hyperparameters
from evalft.config import CandidateConfig, Config, TaskConfig
from evalft.prices import HourPrice, TokenPrice, hour_price, token_price
from evalft.prompts import Request, target_text
from evalft.records import Example

BYTES_PER_TOKEN = 4
REASONING_MAX_TOKENS = 4096
SECONDS_PER_ANSWER = 1.0
SAMPLES_PER_PAIR = 8
"""Answers that a preference pair is chosen from."""
DEFAULT_TARGET_ROWS = 300
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


def plan(
    config: Config, task: TaskConfig, examples: Sequence[Example], requests: Mapping[str, Sequence[Request]]
) -> list[CandidatePlan]:
    """One plan per candidate. Raises UserError where a price is not known."""
    answers = sum(estimated_tokens(target_text(task, example.target)) for example in examples)
    plans = []
    for candidate in config.candidates:
        asked = requests[candidate.name]
        limit = max_tokens(candidate, task, examples)
        tokens_in = sum(estimated_tokens(message["content"]) + 4 for request in asked for message in request.messages)
        tokens_out = answers * candidate.samples
        if candidate.provider == "file":
            price = token_price(candidate) if candidate.price else None
            plans.append(
                CandidatePlan(
                    candidate.name, 0, 0, 0, limit, 0.0, 0.0, None, None, price, "answers are read from a file; asks nothing"
                )
            )  # fmt: skip
            continue
        if candidate.provider in ("hf", "fake"):
            weights = weights_gb(candidate.model_id)
            hours = hour_price(candidate, config) if candidate.provider == "hf" else None
            plans.append(
                CandidatePlan(
                    candidate.name, len(asked), tokens_in, tokens_out, limit, 0.0, 0.0, None,
                    None if weights is None else 1.2 * weights, hours,
                    "runs here; minutes are known once it runs",
                )
            )  # fmt: skip
            continue
        price = token_price(candidate)
        reasoning = limit // 4 * len(asked) if is_reasoning(candidate) else 0
        usd = (tokens_in * price.input + (tokens_out + reasoning) * price.output) / 1e6
        worst = (tokens_in * BYTES_PER_TOKEN * price.input + limit * len(asked) * price.output) / 1e6
        minutes = len(asked) * SECONDS_PER_ANSWER / config.limits.concurrency / 60
        plans.append(
            CandidatePlan(
                candidate.name, len(asked), tokens_in, tokens_out + reasoning, limit, usd, worst, minutes, None, price,
                f"{BYTES_PER_TOKEN} bytes a token, {SECONDS_PER_ANSWER:g} s an answer, {config.limits.concurrency} at once",
            )
        )  # fmt: skip
    return plans


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
