"""What a candidate's tokens or hours cost: the config's `price`, else the genai-prices table for `openai:` models.

An unknown price is an error that names the override, never 0. Prices are USD per million tokens, or per hour of machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version

from evalft.config import CandidateConfig, Config, PriceConfig
from evalft.errors import UserError
from evalft.records import Usage


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """USD per million tokens, and where the figures come from."""

    input: float
    output: float
    cached: float
    """Input tokens that the provider read from its own prompt cache."""
    source: str

    def cost_usd(self, usage: Usage) -> float:
        fresh = usage.input_tokens - usage.cached_tokens
        return (fresh * self.input + usage.cached_tokens * self.cached + usage.output_tokens * self.output) / 1e6

    def as_data(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HourPrice:
    """USD per hour of the machine a local model runs on, by device; an assumption unless the config gives it."""

    gpu: float
    cpu: float
    source: str

    def per_hour(self, device: str) -> float:
        return self.cpu if device == "cpu" else self.gpu

    def as_data(self) -> dict[str, object]:
        return asdict(self)


def token_price(candidate: CandidateConfig) -> TokenPrice:
    """The price of an API candidate. Raises UserError where it is not known."""
    given = candidate.price or PriceConfig()
    listed = _listed(candidate.model_id) if candidate.provider == "openai" else None
    input_usd = given.input if given.input is not None else listed.input if listed else None
    output_usd = given.output if given.output is not None else listed.output if listed else None
    if input_usd is None or output_usd is None:
        raise UserError(
            f"candidate {candidate.name}: the price of {candidate.model} is not known; give it in USD per million tokens, "
            "`price: {input: 0.20, output: 0.60}` beside its model, or --set 'candidates.0.price={input: 0.20, output: 0.60}'"
        )
    if given.cached is not None:
        cached_usd = given.cached
    else:
        cached_usd = listed.cached if listed and given.input is None else input_usd
    overridden = given.input is not None or given.output is not None or listed is None
    return TokenPrice(input_usd, output_usd, cached_usd, "config" if overridden or listed is None else listed.source)


def hour_price(candidate: CandidateConfig, config: Config) -> HourPrice:
    if candidate.price and candidate.price.hour is not None:
        return HourPrice(candidate.price.hour, candidate.price.hour, "config")
    return HourPrice(
        config.prices.gpu_hour_usd, config.prices.cpu_hour_usd, "assumed: prices.gpu_hour_usd, prices.cpu_hour_usd"
    )


def _listed(model: str) -> TokenPrice | None:
    from genai_prices import data_snapshot

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, "openai", None)
    except LookupError:
        return None
    prices = found.prices
    if isinstance(prices, list):  # conditional prices, the first that holds without conditions is the standard one
        standard = [conditional.prices for conditional in prices if conditional.constraint is None]
        if not standard:
            return None
        prices = standard[0]
    input_usd, output_usd = _usd(prices.input_mtok), _usd(prices.output_mtok)
    if input_usd is None or output_usd is None:
        return None
    cached = _usd(prices.cache_read_mtok)
    return TokenPrice(
        input_usd, output_usd, input_usd if cached is None else cached, f"genai-prices {version('genai-prices')}"
    )


def _usd(price: object) -> float | None:
    """A plain price, or the base of a tiered one."""
    if price is None:
        return None
    return float(getattr(price, "base", price))  # type: ignore[arg-type]
