"""The options of a benchmark run: what is measured, for how long and with how many clients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from warmfront.bench.load.samples import Arrivals, Target
from warmfront.bench.load.workloads import SHOP_WORKLOADS
from warmfront.bench.sizing.prices import DEFAULT_PRICES

from .servers import NO_SERVERS, Needs

BLOCKS = 30
COLD_STARTS = 30
NEXT_REQUESTS = 40
WORKERS = 50
REQUESTS = 10_000
BOX_S = 30.0
BOX_BLOCKS = 10
MEMORY_S = 0.8  # of load, beside the blocks, under which memory is sampled
MEMORY_ROUNDS = 3
EQUAL_ROUNDS = 6
WINDOW_S = 2.0  # of each stretch of offered load
SWEEP_WINDOW_S = 3.0
SWEEP_EQUAL_ROUNDS = 3  # the interval of memory at equal load is the whole benchmark's to give
SWEEP_BUDGET_S = 240.0
GROWTH_ROWS = (10_000, 100_000, 1_000_000)
GROWTH_ENVIRONMENTS = (1, 10, 50, 100, 200)
WARM_S = 6.0  # each closed block has a lead of its own; what has not settled by then fails the stationarity check


class OptionError(Exception):
    """Options that contradict each other; the message names them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """`counted` workloads get `requests` per variant in `blocks` blocks; the others share `box_s` among their variants."""

    workload: Path = SHOP_WORKLOADS
    template: Path = Path("template.yaml")
    url: str | None = None
    only: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    workers: int = WORKERS
    requests: int = REQUESTS
    blocks: int = BLOCKS
    box_s: float = BOX_S
    box_blocks: int = BOX_BLOCKS
    cold_starts: int = COLD_STARTS
    next_requests: int = NEXT_REQUESTS
    """Requests of a single caller after each cold start: the warm side of cold against warm."""
    snap_start: bool = True
    """Cold starts by SnapStart as well, in an emulator of their own on the same servers."""
    needs: Needs = NO_SERVERS
    """Servers that the bench starts itself and all its emulators share; without any, each emulator starts its own."""
    memory_s: float = MEMORY_S
    memory_rounds: int = MEMORY_ROUNDS
    warm_s: float = WARM_S
    equal_load: bool = True
    equal_rounds: int = EQUAL_ROUNDS
    window_s: float = WINDOW_S
    sweep: bool = False
    budget_s: float | None = None
    reports: tuple[tuple[str, Path], ...] = ()
    growth: bool = False
    rows: tuple[int, ...] = GROWTH_ROWS
    environments: tuple[int, ...] = GROWTH_ENVIRONMENTS
    rtt_s: float = 0.0
    prices: Path = DEFAULT_PRICES
    rate: float | None = None
    for_s: float | None = None
    arrivals: Arrivals = "poisson"
    keep_alive: bool = True
    timeout_s: float = 30.0
    seed: int = 1
    quick: bool = False
    floor: bool = True
    output: Path | None = None
    command: str = "warmfront bench"

    @property
    def loop(self) -> Literal["open", "closed"]:
        return "closed" if self.rate is None else "open"

    @property
    def connections(self) -> int:
        """An open loop must not be held back by its connections as a closed one is by its workers."""
        return self.workers if self.rate is None else max(self.workers, min(1000, int(self.rate)))

    @property
    def lead(self) -> int:
        """Of a closed block: one request of each worker, from their common start until the loop is under way."""
        return self.workers

    @property
    def equal_window_s(self) -> float:
        """What a knee needs is more than equal load does."""
        return min(self.window_s, WINDOW_S) if self.sweep else self.window_s

    @property
    def remote(self) -> Target | None:
        """The API that runs already, if one was named."""
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(f"--url {self.url}: an address such as https://abc.execute-api.eu-west-1.amazonaws.com")
        tls = parts.scheme == "https"
        return Target(parts.hostname, parts.port or (443 if tls else 80), tls)

    @property
    def base_path(self) -> str:
        return urlsplit(self.url).path.rstrip("/") if self.url else ""


# What `warmfront bench` runs without --full: a verdict within three minutes.
VERDICT: dict[str, float] = {
    "requests": 6_000,
    "box_s": 3.0,
    "box_blocks": 3,
    "cold_starts": 10,
    "memory_s": 0.4,
    "memory_rounds": 2,
    "warm_s": 3.0,
    "equal_rounds": 4,
    "window_s": 1.0,
}

QUICK: dict[str, float] = {
    "workers": 10,
    "requests": 600,
    "blocks": 6,
    "box_s": 1.5,
    "box_blocks": 2,
    "cold_starts": 5,
    "next_requests": 20,
    "memory_s": 0.4,
    "memory_rounds": 1,
    "warm_s": 1.0,
    "equal_rounds": 2,
    "window_s": 0.8,
}

SWEEP: dict[str, float] = {
    "window_s": SWEEP_WINDOW_S,
    "equal_rounds": SWEEP_EQUAL_ROUNDS,
    "budget_s": SWEEP_BUDGET_S,
}
