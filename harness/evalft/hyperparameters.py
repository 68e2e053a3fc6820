"""How to train, chosen from the amount of data and the model's width where the config does not say.

Sources: TRL's and Tinker's defaults for LoRA, "LoRA Without Regret" (Schulman et al. 2025: all linear layers, batches
below 32, a rank matters little at this size), Llama 3 (arXiv 2407.21783, section 4: DPO with an added likelihood term).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from evalft.config import LoraConfig, TuneConfig
from evalft.errors import UserError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
EPOCHS = ((100, 5), (500, 3), (2000, 2))
"""Up to so many rows, so many epochs; beyond, one."""
REFERENCE_RATE, REFERENCE_WIDTH, WIDTH_EXPONENT = 2e-4, 2048, 0.78
RATE_RANGE = (5e-5, 2e-3)
DPO_RATE_SHARE, MAX_DPO_RATE = 1 / 40, 1e-4


@dataclass(frozen=True)
class Settings:
    """One training. `said`: a sentence for every value that was chosen here rather than given."""

    method: Literal["sft", "dpo"]
    epochs: float
    learning_rate: float
    """The peak: it warms up over a tenth of the steps and falls as a cosine."""
    batch_size: int
    """Rows of one optimizer step, over all processes."""
    lora_r: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: tuple[str, ...]
    """Names of linear layers; ("all-linear",) is all of them but the output layer."""
    max_length: int | None
    """Most tokens of a row, prompt and answer; None: as long as the data and the model's context allow."""
    precision: str
    seed: int
    beta: float | None
    """DPO: how dear it is to leave the reference."""
    said: tuple[str, ...]


def sft(tune: TuneConfig, *, rows: int, hidden_size: int | None) -> Settings:
    """For `rows` examples and a model of that width (None: not known). Raises UserError."""
    said: list[str] = []
    batch_size = _batch_size(tune, rows, said)
    epochs = tune.epochs
    if epochs is None:
        epochs = next((epochs for most, epochs in EPOCHS if rows < most), 1)
        epochs, why = _raised(epochs, rows, batch_size, least_steps=100, most_epochs=20)
        said.append(f"{_times(epochs, 'epoch')} for {rows:,} rows{why}")
    learning_rate = tune.learning_rate
    if learning_rate is None:
        learning_rate, why = _learning_rate(hidden_size)
        said.append(f"learning rate {learning_rate:g}: {why}")
    lora = tune.lora or LoraConfig()
    dropout = lora.dropout
    if dropout is None:
        dropout = 0.05 if rows < 1000 else 0.0
        said.append(f"LoRA dropout {dropout:g}: {rows:,} rows, {'under' if rows < 1000 else 'at least'} 1,000")
    return _settings("sft", tune, epochs, learning_rate, batch_size, dropout, None, said)


def dpo(tune: TuneConfig, *, pairs: int, hidden_size: int | None) -> Settings:
    """For `pairs` preferences. `tune.epochs` and `tune.learning_rate` are SFT's: at an SFT learning rate DPO unlearns
    what SFT taught (a 2 M model fell from 89 % to 37 % at 5e-4)."""
    said: list[str] = []
    batch_size = _batch_size(tune, pairs, said)
    epochs, why = _raised(1, pairs, batch_size, least_steps=50, most_epochs=4)
    said.append(f"DPO: {_times(epochs, 'epoch')} for {pairs:,} pairs{why}; tune.epochs is SFT's")
    sft_rate, _ = _learning_rate(hidden_size)
    learning_rate = _two_digits(min(sft_rate * DPO_RATE_SHARE, MAX_DPO_RATE))
    said.append(
        f"DPO: learning rate {learning_rate:g}: a fortieth of {sft_rate:g}, SFT's at this width, at most "
        f"{MAX_DPO_RATE:g}; tune.learning_rate is SFT's"
    )
    said.append("DPO: beta 0.1, and no dropout: policy and reference are compared token by token")
    return _settings("dpo", tune, epochs, learning_rate, batch_size, 0.0, 0.1, said)


def steps(settings: Settings, rows: int) -> int:
    """Optimizer steps: the last one of an epoch may see fewer rows."""
    return math.ceil(settings.epochs * math.ceil(rows / settings.batch_size))


def _settings(
    method: Literal["sft", "dpo"],
    tune: TuneConfig,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    dropout: float,
    beta: float | None,
    said: list[str],
) -> Settings:
    lora = tune.lora or LoraConfig()
    if method == "sft":  # DPO goes on with the LoRA that SFT made
        chosen = {"r": "rank r 16", "alpha": "alpha 32", "targets": "all linear layers but the output layer"}
        left = [text for name, text in chosen.items() if getattr(lora, name) is None]
        said += [f"LoRA: {', '.join(left)}"] if left else []
    precision = tune.precision or "auto"
    if precision not in PRECISIONS:
        raise UserError(f"tune.precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    return Settings(
        method=method,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        lora_r=lora.r or 16,
        lora_alpha=32.0 if lora.alpha is None else lora.alpha,
        lora_dropout=dropout,
        lora_targets=tuple(lora.targets or ("all-linear",)),
        max_length=tune.max_length,
        precision=precision,
        seed=tune.seed,
        beta=beta,
        said=tuple(said),
    )


def _batch_size(tune: TuneConfig, rows: int, said: list[str]) -> int:
    if tune.batch_size is not None:
        return tune.batch_size
    batch_size = 8 if rows < 500 else 16
    said.append(f"batches of {batch_size}: {rows:,} rows, {'under' if rows < 500 else 'at least'} 500")
    return batch_size


def _raised(epochs: float, rows: int, batch_size: int, *, least_steps: int, most_epochs: int) -> tuple[float, str]:
    """More epochs where those would be too few steps to learn in, and the reason."""
    needed = min(math.ceil(least_steps / math.ceil(rows / batch_size)), most_epochs)
    if needed <= epochs:
        return epochs, ""
    return needed, f", so that there are {least_steps} steps" + (" (as far as it may)" if needed == most_epochs else "")


def _learning_rate(hidden_size: int | None) -> tuple[float, str]:
    if hidden_size is None:
        return REFERENCE_RATE, "usual for LoRA; the model's width is not known"
    low, high = RATE_RANGE
    rate = REFERENCE_RATE * (REFERENCE_WIDTH / hidden_size) ** WIDTH_EXPONENT
    return _two_digits(min(max(rate, low), high)), (
        f"{REFERENCE_RATE:g} at a hidden size of {REFERENCE_WIDTH:,}, scaled to {hidden_size:,} by Tinker's rule for "
        f"LoRA, within {low:g} and {high:g}"
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _times(count: float, what: str) -> str:
    return f"{count:g} {what}" + ("" if count == 1 else "s")
