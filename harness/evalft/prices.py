"""What a candidate's tokens or hours cost: the config's `price`, else the genai-prices table for `openai:` models.

An unknown price is an error that names the override, never 0. Prices are USD per million tokens, or per hour of machine.
The table's prices are those of the day and of how the model is asked: live, in a batch (`mode: batch`), or at a
`service_tier` (`extra_body`), by the length of the input where the provider charges long ones more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from evalft.config import CandidateConfig, Config, PriceConfig
from evalft.errors import UserError
from evalft.records import Usage

USUAL_TIERS = ("auto", "default")
"""Service tiers that cost what a request without one does."""


@dataclass(frozen=True, slots=True)
class Tier:
    """USD per million tokens, of all tokens of a request whose input is longer than `above` tokens."""

    above: int
    input: float
    output: float
    cached: float
    cache_write: float


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """USD per million tokens, and where the figures come from. Reasoning tokens cost what output does."""

    input: float
    output: float
    cached: float
    """Input tokens that the provider read from its own prompt cache."""
    source: str
    cache_write: float | None = None
    """Input tokens that the provider kept in that cache; None: as input."""
    tiers: tuple[Tier, ...] = ()
    """For long inputs, the shortest first; a request is priced whole by the last tier that it exceeds."""

    def cost_usd(self, usage: Usage) -> float:
        exceeded = [tier for tier in self.tiers if usage.input_tokens > tier.above]
        price = exceeded[-1] if exceeded else self
        write = price.input if price.cache_write is None else price.cache_write
        fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        read = fresh * price.input + usage.cached_tokens * price.cached + usage.cache_write_tokens * write
        return (read + usage.output_tokens * price.output) / 1e6

    def as_data(self) -> dict[str, object]:
        return asdict(self) | {"tiers": [asdict(tier) for tier in self.tiers]}  # a list, as JSON gives it back


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


def from_data(data: Mapping[str, Any]) -> TokenPrice | HourPrice:
    """What `as_data` wrote, into the manifest of this version or an earlier one."""
    if "gpu" in data:
        return HourPrice(**data)
    return TokenPrice(**(dict(data) | {"tiers": tuple(Tier(**tier) for tier in data.get("tiers", ()))}))


def token_price(candidate: CandidateConfig) -> TokenPrice:
    """The price of an API candidate, today and as it is asked. Raises UserError where it is not known."""
    given = candidate.price or PriceConfig()
    listed = _listed(candidate) if candidate.provider == "openai" else None
    if listed and given.input is None and given.output is None and given.cached is None:
        return listed
    input_usd = given.input if given.input is not None else listed.input if listed else None
    output_usd = given.output if given.output is not None else listed.output if listed else None
    if input_usd is None or output_usd is None:
        how = "".join(f" with {key} {value}" for key, value in _context(candidate).items())
        raise UserError(
            f"candidate {candidate.name}: the price of {candidate.model}{how} is not known; give it in USD per million "
            "tokens, `price: {input: 0.20, output: 0.60}` beside its model, or --set 'candidates.0.price={input: 0.20, "
            "output: 0.60}'"
        )
    if given.cached is not None:
        cached_usd = given.cached
    else:
        cached_usd = listed.cached if listed and given.input is None else input_usd
    return TokenPrice(input_usd, output_usd, cached_usd, "config")


def live_price(candidate: CandidateConfig, batch: TokenPrice) -> TokenPrice:
    """Of the one row that is asked live before a batch: as listed, and where the config gives the price of the batch,
    twice that, since half price is the discount that providers of batches document."""
    if batch.source != "config":
        return token_price(candidate.model_copy(update={"mode": "live"}))
    return replace(batch, input=2 * batch.input, output=2 * batch.output, cached=2 * batch.cached)


def hour_price(candidate: CandidateConfig, config: Config) -> HourPrice:
    if candidate.price and candidate.price.hour is not None:
        return HourPrice(candidate.price.hour, candidate.price.hour, "config")
    return HourPrice(
        config.prices.gpu_hour_usd, config.prices.cpu_hour_usd, "assumed: prices.gpu_hour_usd, prices.cpu_hour_usd"
    )


def _context(candidate: CandidateConfig) -> dict[str, str]:
    """What of how a model is asked changes its price, in the words of genai-prices."""
    found = {"processing": "batch"} if candidate.mode == "batch" else {}
    tier = (candidate.extra_body or {}).get("service_tier")
    return found | ({"service_tier": str(tier)} if tier and tier not in USUAL_TIERS else {})


def _listed(candidate: CandidateConfig) -> TokenPrice | None:
    """Of today: prices change on dates that the table knows beforehand. None where the model, or this way of asking it,
    is not listed."""
    from genai_prices import data_snapshot

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(candidate.model_id, None, "openai", None)
    except LookupError:
        return None
    now, context = datetime.now(UTC), _context(candidate)
    variants = [
        variant.when
        for variant in found.price_variants or ()
        if variant.constraint is None or variant.constraint.active(now)
    ]
    if context and context not in variants:
        return None
    prices = found.get_prices(now, context)
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    named = ", ".join(f"{key} {value}" for key, value in context.items())
    source = f"genai-prices {version('genai-prices')}, {found.id}{f' with {named}' if named else ''}"
    base = _at(prices, -1)
    starts = {tier.start for price in _all(prices) for tier in getattr(price, "tiers", ())}
    return TokenPrice(
        base.input, base.output, base.cached, source, base.cache_write, tuple(_at(prices, at) for at in sorted(starts))
    )


def _all(prices: Any) -> tuple[Any, ...]:
    return prices.input_mtok, prices.output_mtok, prices.cache_read_mtok, prices.cache_write_mtok


def _at(prices: Any, above: int) -> Tier:
    """The prices of a request whose input is just longer than `above` tokens."""

    def usd(price: Any) -> float | None:
        if price is None:
            return None
        steps = [tier.price for tier in getattr(price, "tiers", ()) if tier.start <= above]
        return float(steps[-1] if steps else getattr(price, "base", price))

    fresh, output, cached, write = map(usd, _all(prices))
    assert fresh is not None and output is not None
    return Tier(above, fresh, output, fresh if cached is None else cached, fresh if write is None else write)
