"""What the user asked of a benchmark: the options, and what they add up to. Knows no emulator and no load."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from warmfront.bench.load.samples import Arrivals, Target
from warmfront.bench.load.workloads import GROWTH, OURS
from warmfront.bench.sizing.prices import OURS as OUR_PRICES

BLOCKS = 30
COLD_STARTS = 30
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

    workload: Path = OURS
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
    prices: Path = OUR_PRICES
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


QUICK: dict[str, float] = {
    "workers": 10,
    "requests": 600,
    "blocks": 6,
    "box_s": 1.5,
    "box_blocks": 2,
    "cold_starts": 5,
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

# What was said wins over QUICK and SWEEP.
EXPLICIT = ("workers", "requests", "blocks", "box_s", "cold_starts", "window_s", "budget_s", "rows", "environments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is run")
    group.add_argument(
        "--workload", type=Path, default=OURS, metavar="FILE", help="TOML workload (default: the shop's)"
    )
    group.add_argument("-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template to emulate")
    group.add_argument("--url", help="measure an API that runs already, such as a deployed stack; nothing is started")
    group.add_argument(
        "--reports",
        type=_named_file,
        action="append",
        default=[],
        metavar="VARIANT=FILE",
        help="with --url: its function's log of this run, whose REPORT lines tell memory and billed time",
    )
    group.add_argument("--only", type=_names, default=(), metavar="NAME,...", help="these workloads of the file")
    group.add_argument(
        "--variants", type=_names, default=(), metavar="NAME,...", help="these variants; first: baseline"
    )
    group = parser.add_argument_group("load")
    group.add_argument("--workers", type=_at_least(1), metavar="N", help=f"concurrent clients (default: {WORKERS})")
    group.add_argument(
        "--requests", type=_at_least(1), metavar="N", help=f"per variant, counted workloads ({REQUESTS:,})"
    )
    group.add_argument(
        "--blocks", type=_at_least(2), metavar="N", help=f"that these are split into (default: {BLOCKS})"
    )
    group.add_argument(
        "--rate", type=float, metavar="R", help="open loop: so many requests per second, for --for seconds"
    )
    group.add_argument("--for", dest="for_s", type=_seconds, metavar="TIME", help="of each variant at --rate, as 30s")
    group.add_argument(
        "--sweep",
        action="store_true",
        help="find each variant's knee instead: open loop, rates rising until they are not held",
    )
    group.add_argument(
        "--budget", dest="budget_s", type=_seconds, metavar="TIME", help="of --sweep, all together (4min)"
    )
    group.add_argument(
        "--growth", action="store_true", help="the same reads over more rows and beside more environments instead"
    )
    group.add_argument("--rows", type=_numbers, metavar="N,...", help="of --growth (10000,100000,1000000)")
    group.add_argument("--environments", type=_numbers, metavar="N,...", help="of --growth (1,10,50,100,200)")
    group.add_argument(
        "--window", dest="window_s", type=_seconds, metavar="TIME", help="of each rate offered (2s; with --sweep 3s)"
    )
    group.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="of an open loop")
    group.add_argument("--box", dest="box_s", type=_seconds, metavar="TIME", help="for each other workload (30s)")
    group.add_argument("--new-connections", action="store_true", help="one connection per request")
    group.add_argument(
        "--timeout", dest="timeout_s", type=_seconds, default=30.0, metavar="TIME", help="of a request (30s)"
    )
    group.add_argument("--cold-starts", type=_at_least(0), metavar="N", help=f"per variant (default: {COLD_STARTS})")
    group.add_argument(
        "--rtt",
        dest="rtt_s",
        type=_seconds,
        default=0.0,
        metavar="TIME",
        help="a network round trip to Postgres and Redis, as 0.5ms",
    )
    group = parser.add_argument_group("run")
    group.add_argument("--quick", action="store_true", help="everything, in under a minute: wide intervals")
    group.add_argument("--seed", type=int, default=1, help="of what is asked and in which order (default: 1)")
    group.add_argument("--no-floor", action="store_true", help="leave out the emulator's own floor and the net figures")
    group.add_argument(
        "--no-equal-load", action="store_true", help="leave out memory and cost at the same offered rate"
    )
    group.add_argument(
        "--prices", type=Path, default=OUR_PRICES, metavar="FILE", help="of Lambda, as TOML (default: a dated copy)"
    )
    group.add_argument("-o", "--output", type=Path, metavar="FILE", help="result (default: results/bench-DATE.json)")


def options_of(args: argparse.Namespace, *, command: str, now: datetime) -> BenchOptions:
    """`--quick` changes defaults; what was said explicitly stays."""
    if (args.rate is None) != (args.for_s is None):
        raise OptionError("--rate and --for go together: so many requests per second, for so long")
    if args.rate is not None and args.rate <= 0:
        raise OptionError(f"--rate {args.rate}: a rate is above 0 requests per second")
    if args.reports and args.url is None:
        raise OptionError("--reports belongs to --url: an emulator of ours is looked at itself")
    if args.rtt_s and args.url is not None:
        raise OptionError(
            "--rtt stands between our own emulator and its backing services; an --url has its own network"
        )
    if args.sweep and args.rate is not None:
        raise OptionError("--sweep finds its rates itself: leave out --rate and --for")
    if args.growth and (args.sweep or args.rate is not None or args.url is not None):
        raise OptionError("--growth is a run of its own on this machine: leave out --sweep, --rate and --url")
    if args.budget_s is not None and not args.sweep:
        raise OptionError("--budget belongs to --sweep: everything else takes what it takes")
    chosen: dict[str, object] = {**(SWEEP if args.sweep else {}), **(QUICK if args.quick else {})}
    for name in EXPLICIT:
        if getattr(args, name) is not None:
            chosen[name] = getattr(args, name)
    options = BenchOptions(
        workload=GROWTH if args.growth and args.workload == OURS else args.workload,
        template=args.template,
        url=args.url,
        only=args.only,
        variants=args.variants,
        rate=args.rate,
        for_s=args.for_s,
        arrivals=args.arrivals,
        keep_alive=not args.new_connections,
        timeout_s=args.timeout_s,
        seed=args.seed,
        quick=args.quick,
        floor=not args.no_floor,
        equal_load=not args.no_equal_load,
        sweep=args.sweep,
        reports=tuple(args.reports),
        growth=args.growth,
        rtt_s=args.rtt_s,
        prices=args.prices,
        output=args.output or Path("results") / f"bench-{now:%Y%m%d-%H%M%S}.json",
        command=command,
        **chosen,  # type: ignore[arg-type]
    )
    _ = options.remote  # a wrong address is said now
    return options


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is no VARIANT=FILE")
    return name, Path(path)


def _numbers(text: str) -> tuple[int, ...]:
    found = sorted({_at_least(1)(part.strip()) for part in text.split(",")})
    return tuple(found)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least}")
        return int(text)

    return number


_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0}


def _seconds(text: str) -> float:
    found = _TIME.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 30s, 500ms or 2m")
    return float(found[1]) * _UNITS_S[found[2] or "s"]
