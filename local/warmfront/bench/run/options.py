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
MEMORY_S = 0.8  # of untimed load during which memory is sampled
MEMORY_ROUNDS = 3
EQUAL_ROUNDS = 6
WINDOW_S = 2.0  # length of each window of offered load
SWEEP_WINDOW_S = 3.0
SWEEP_EQUAL_ROUNDS = 3  # few: a precise interval of memory at equal load comes from the whole benchmark
SWEEP_BUDGET_S = 240.0
GROWTH_ROWS = (10_000, 100_000, 1_000_000)
GROWTH_ENVIRONMENTS = (1, 10, 50, 100, 200)
WARM_S = 6.0  # short, because each closed block has a lead; a variant still settling fails the stationarity check


class OptionError(Exception):
    """Options contradict each other or name something missing; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Options of a run. Names ending in `_s` are seconds; `rate` is requests per second.

    `counted` workloads get `requests` per variant in `blocks` blocks; the others run for `box_s`, shared by the variants.
    """

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
    """Measure cold starts with SnapStart too, in a second emulator on the same servers."""
    needs: Needs = NO_SERVERS
    """Backing services that the bench starts and all its emulators share; with none, each emulator starts its own."""
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
        """Number of connections. An open loop gets more, because its rate must not be limited by free connections."""
        return self.workers if self.rate is None else max(self.workers, min(1000, int(self.rate)))

    @property
    def lead(self) -> int:
        """Requests at the start of a closed block that are not counted: one for each worker."""
        return self.workers

    @property
    def equal_window_s(self) -> float:
        """Window at equal load: finding a knee needs longer windows than comparing at a given rate."""
        return min(self.window_s, WINDOW_S) if self.sweep else self.window_s

    @property
    def remote(self) -> Target | None:
        """Address of the running API from `--url`; None: start an emulator.

        Raises:
            OptionError: the URL is invalid.
        """
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionError(
                f"--url {self.url}: give an address such as https://abc.execute-api.eu-west-1.amazonaws.com"
            )
        tls = parts.scheme == "https"
        return Target(parts.hostname, parts.port or (443 if tls else 80), tls)

    @property
    def base_path(self) -> str:
        return urlsplit(self.url).path.rstrip("/") if self.url else ""


# What `warmfront bench` runs without --full: a verdict within three minutes.
VERDICT: dict[str, float] = {
    "requests": 5_000,
    "box_s": 2.0,
    "box_blocks": 2,
    "cold_starts": 8,
    "memory_s": 0.4,
    "memory_rounds": 1,
    "warm_s": 2.0,
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
