"""hyperparameters.py: what is chosen where the config is silent, and that it is said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalft import hyperparameters
from evalft.config import LoraConfig, TuneConfig
from evalft.errors import UserError

SILENT = TuneConfig()
ROWS = st.integers(1, 200_000)
WIDTHS = st.one_of(st.none(), st.integers(16, 20_000))


@given(rows=ROWS, width=WIDTHS)
def test_every_row_count_gets_enough_steps_or_the_most_epochs(rows: int, width: int | None) -> None:
    chosen = hyperparameters.sft(SILENT, rows=rows, hidden_size=width)
    assert hyperparameters.steps(chosen, rows) >= 100 or chosen.epochs == 20
    preferences = hyperparameters.dpo(SILENT, pairs=rows, hidden_size=width)
    assert hyperparameters.steps(preferences, rows) >= 50 or preferences.epochs == 4


@given(width=st.integers(16, 20_000), factor=st.floats(1.01, 10))
def test_a_wider_model_never_learns_faster_and_the_rate_stays_within_bounds(width: int, factor: float) -> None:
    narrow = hyperparameters.sft(SILENT, rows=1000, hidden_size=width).learning_rate
    wide = hyperparameters.sft(SILENT, rows=1000, hidden_size=math.ceil(width * factor)).learning_rate
    assert 5e-5 <= wide <= narrow <= 2e-3


@given(rows=ROWS, width=WIDTHS, rate=st.floats(1e-6, 1.0))
def test_dpo_learns_at_a_fortieth_of_sft_and_takes_no_sft_rate(rows: int, width: int | None, rate: float) -> None:
    sft = hyperparameters.sft(SILENT, rows=rows, hidden_size=width)
    dpo = hyperparameters.dpo(TuneConfig(learning_rate=rate, epochs=17), pairs=rows, hidden_size=width)
    assert dpo.learning_rate <= 1e-4
    assert dpo.learning_rate == pytest.approx(sft.learning_rate / 40, rel=0.05)  # two digits are kept
    assert dpo.epochs <= 4


def test_the_anchors_of_the_learning_rate_hold() -> None:
    assert hyperparameters.sft(SILENT, rows=1000, hidden_size=2048).learning_rate == 2e-4
    assert hyperparameters.sft(SILENT, rows=1000, hidden_size=None).learning_rate == 2e-4
    assert hyperparameters.sft(SILENT, rows=1000, hidden_size=4096).learning_rate == pytest.approx(1e-4, rel=0.2)


def test_what_the_config_gives_is_taken_and_nothing_is_said_of_it() -> None:
    given_values = TuneConfig(
        epochs=2.5,
        learning_rate=1e-3,
        batch_size=3,
        lora=LoraConfig(r=4, alpha=8.0, dropout=0.2, targets=["q_proj"]),
        max_length=99,
        precision="float32",
        seed=5,
    )
    chosen = hyperparameters.sft(given_values, rows=50, hidden_size=192)
    assert chosen == hyperparameters.Settings(
        "sft", 2.5, 1e-3, 3, 4, 8.0, 0.2, ("q_proj",), 99, "float32", 5, beta=None, said=()
    )


def test_every_chosen_value_is_said_with_its_number() -> None:
    chosen = hyperparameters.sft(SILENT, rows=50, hidden_size=192)
    told = "\n".join(chosen.said)
    for value in (chosen.epochs, chosen.learning_rate, chosen.batch_size, chosen.lora_r, chosen.lora_alpha):
        assert f"{value:g}" in told
    assert "dropout 0.05" in told
    preferences = hyperparameters.dpo(SILENT, pairs=50, hidden_size=192)
    told = "\n".join(preferences.said)
    for value in (preferences.epochs, preferences.learning_rate, preferences.batch_size, preferences.beta):
        assert f"{value:g}" in told


def test_an_alpha_of_zero_is_taken_as_given() -> None:
    assert hyperparameters.sft(TuneConfig(lora=LoraConfig(alpha=0.0)), rows=9, hidden_size=9).lora_alpha == 0


def test_steps_count_the_short_batch_at_the_end_of_an_epoch() -> None:
    settings = hyperparameters.sft(TuneConfig(batch_size=8, epochs=1.5), rows=50, hidden_size=None)
    assert hyperparameters.steps(settings, 50) == math.ceil(1.5 * 7)


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="tune.precision: 'bf16' is not one of auto, float32, bfloat16, float16"):
        hyperparameters.sft(TuneConfig(precision="bf16"), rows=50, hidden_size=192)
