"""Computes Lambda's bill for a duration and memory size, from a price file with a date."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

DEFAULT_PRICES = Path(__file__).with_name("prices.toml")
MONTH_S = 730 * 3600.0  # as AWS's own calculator counts a month
MILLION = 1_000_000.0


class PriceError(Exception):
    """A price file is invalid; the message names the file and the key."""


class _Assumed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    environment_lifetime_s: float
    memory_mb: float


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a price file, in US dollars."""

    on: date
    source: str
    init_billed: bool
    per_million_requests: float
    per_gb_second: dict[str, float]
    assumed: _Assumed


def read_prices(path: Path = DEFAULT_PRICES) -> Prices:
    """Read a price file.

    Raises:
        PriceError: the file cannot be read or is invalid.
    """
    try:
        prices = msgspec.toml.decode(path.read_bytes(), type=Prices)
    except OSError as error:
        raise PriceError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise PriceError(f"{path}: {error}; {DEFAULT_PRICES.name} in warmfront/bench/sizing shows every key") from error
    if prices.assumed.environment_lifetime_s <= 0 or not prices.per_gb_second:
        raise PriceError(f"{path}: set environment_lifetime_s above 0 and the price of at least one architecture")
    return prices


@dataclass(frozen=True, slots=True)
class Usage:
    """What the bill is computed from.

    `rate`: requests per second; `environments`: how many serve them, each replaced once per `environment_lifetime_s`;
    `billed_ms`: mean billed duration of a warm invocation; `init_ms`: mean init duration; `memory_mb`: configured memory.
    """

    rate: float
    environments: float
    billed_ms: float
    init_ms: float
    memory_mb: float

    def gb_seconds_per_million(self, prices: Prices) -> float:
        """Return GB-seconds billed for a million requests, inits included where the prices bill them."""
        seconds = self.billed_ms / 1000.0
        if prices.init_billed and self.rate > 0:
            inits_per_request = self.environments / (self.rate * prices.assumed.environment_lifetime_s)
            # With less than one request per lifetime every request is a cold start, and none has more than one init.
            seconds += min(1.0, inits_per_request) * self.init_ms / 1000.0
        return seconds * self.memory_mb / 1024.0 * MILLION

    def usd_per_million(self, prices: Prices) -> dict[str, float]:
        """Return dollars for a million requests, by architecture."""
        gb_seconds = self.gb_seconds_per_million(prices)
        return {name: prices.per_million_requests + gb_seconds * price for name, price in prices.per_gb_second.items()}

    def usd_per_month(self, prices: Prices) -> dict[str, float]:
        """Return dollars for a month at this rate, by architecture."""
        millions = self.rate * MONTH_S / MILLION
        return {name: value * millions for name, value in self.usd_per_million(prices).items()}


def source_of(prices: Prices) -> Mapping[str, str]:
    """Return the date and source of the prices, for a result."""
    return {"priced_on": prices.on.isoformat(), "price_source": prices.source}
