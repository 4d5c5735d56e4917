"""The result of a measurement as records, written to and read from one JSON file."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

SCHEMA = "warmfront/result/1"
LARGEST_FILE = 512 * 1024 * 1024  # a wrong path (a database dump, a video) should be refused, not read

Kind = Literal["bench", "cold", "lab"]


class ResultError(Exception):
    """A file that cannot be used as a result; the message names the file, the place in it and what to do."""


class Check(msgspec.Struct, frozen=True):
    """One condition a run had to meet. `figure` and `limit` are in `unit`; `advice` says what to do when it failed."""

    name: str
    figure: float
    limit: float
    unit: str
    passed: bool
    advice: str = ""


class Validity(msgspec.Struct, frozen=True):
    valid: bool = True
    checks: tuple[Check, ...] = ()


class Variant(msgspec.Struct, frozen=True):
    name: str
    prefix: str = ""
    function: str = ""
    description: str = ""
    complexity: str = ""  # what it takes to write and to run, in words of the workload's author
    best_for: str = ""


class Block(msgspec.Struct, frozen=True):
    """One short stretch of load on one variant. Errors are among the latencies, censored at the time-out."""

    workload: str
    variant: str
    index: int  # the round: blocks of one round ran next to each other and are paired by it
    order: int  # place in the whole run
    started_s: float
    duration_s: float
    requests: int
    errors: int  # those of the requests around the counted ones too
    latency_us: tuple[int, ...]  # from the intended send time
    service_us: tuple[int, ...] | None = None  # from the send itself
    cpu_s: dict[str, float] = {}
    memory_pss_bytes: dict[str, int] | None = None
    spin_ms: float = 0.0
    environments: int | None = None
    around: int = 0  # requests before and after the counted ones, under which the loop was not yet or no longer full
    stalled: float | None = (
        None  # the share of the machine's pulse that was slow, see local/warmfront/bench/run/pulse.py
    )

    @property
    def answered(self) -> int:
        """All that the block set off: what its CPU was spent on."""
        return self.requests + self.around


class Summary(msgspec.Struct, frozen=True):
    workload: str
    variant: str
    metric: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0


class Comparison(msgspec.Struct, frozen=True):
    """`ratio` = times better, > 1 is better whatever the metric. Baseline equal to candidate: an A/A row."""

    workload: str
    metric: str
    unit: str
    baseline: str
    candidate: str
    baseline_value: float
    candidate_value: float
    ratio: float
    low: float
    high: float
    verdict: str = ""  # better | worse | not significant: stricter than low and high, see local/warmfront/bench/statistics/percentiles.py

    @property
    def same_variant(self) -> bool:
        return self.baseline == self.candidate


class Cold(msgspec.Struct, frozen=True):
    """Cold starts of one function, each in a fresh process; every sample maps a stage to its duration in `unit`."""

    function: str
    variant: str
    n: int
    samples: tuple[dict[str, float], ...]
    unit: str = "ms"
    way: str = "on-demand"  # or snap-start, provisioned, ...
    next_us: tuple[tuple[int, ...], ...] = ()  # after each cold start: latencies of the same caller's next requests


class Series(msgspec.Struct, frozen=True):
    """Something followed through time: `t_s` from the start of the run."""

    name: str
    unit: str
    t_s: tuple[float, ...]
    values: tuple[float, ...]
    variant: str = ""
    workload: str = ""


class Span(msgspec.Struct, frozen=True):
    """A stretch of time to be shaded behind the series: a fault that was on, a breaker that was open."""

    kind: str  # fault | breaker
    label: str
    start_s: float
    end_s: float
    variant: str = ""
    workload: str = ""


class LoadPoint(msgspec.Struct, frozen=True):
    """One offered rate of a sweep and what came of it."""

    offered_rate: float
    throughput: float
    p50_ms: float
    p99_ms: float
    errors: int = 0
    environments: float | None = None
    connections: float | None = None
    memory_mb: dict[str, float] | None = None
    cpu_ms: float | None = None


class Prediction(msgspec.Struct, frozen=True):
    """A model's curve over the same axis: the name of the formula, and p99 (ms) or throughput (1/s) at each rate."""

    formula: str
    metric: str
    rates: tuple[float, ...]
    values: tuple[float, ...]
    error: float | None = None  # relative, against the measured points


class Sweep(msgspec.Struct, frozen=True):
    workload: str
    variant: str
    points: tuple[LoadPoint, ...]
    knee_rate: float | None = None
    predictions: tuple[Prediction, ...] = ()


class Cost(msgspec.Struct, frozen=True):
    """What a variant needs at one offered rate; dollars by architecture, at the prices of `priced_on`."""

    workload: str
    variant: str
    offered_rate: float
    environments: float
    connections: float
    memory_mb: dict[str, float]
    gb_seconds_per_million: float
    usd_per_million: dict[str, float]
    priced_on: str
    price_source: str = ""


class Sized(msgspec.Struct, frozen=True):
    """What `size` predicted of a load that was then run: open loop, at a share of the measured knee."""

    workload: str
    variant: str
    rate: float
    formula: str
    servers: int
    predicted_p99_ms: float
    measured_p99_ms: float
    low: float | None = None
    high: float | None = None
    n: int = 0


class Worth(msgspec.Struct, frozen=True):
    """What a variant would need at a rate that was not run: from measured service times, prices and the sizing formulas."""

    workload: str
    variant: str
    rate: float
    environments: float
    connections: float
    database_cores: float | None
    usd_per_month: dict[str, float]
    p50_ms: float


class Verdict(msgspec.Struct, frozen=True):
    verdict: str  # pass | fail | n/a
    figure: str | float = ""
    name: str = ""
    variant: str = ""


class Experiment(msgspec.Struct, frozen=True):
    """One fault: what the control had to lose by it, and how each variant held."""

    name: str
    control: Verdict
    variants: tuple[Verdict, ...]
    question: str = ""
    lessons: dict[str, str] = {}  # broke, held, file: what a person learns
    series: tuple[Series, ...] = ()
    spans: tuple[Span, ...] = ()


class Growth(msgspec.Struct, frozen=True):
    """One figure against one growing size (rows, environments), with the order fitted to it."""

    name: str
    variant: str
    size_name: str
    sizes: tuple[float, ...]
    unit: str
    values: tuple[float, ...]
    fitted: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class ImportNode(msgspec.Struct, frozen=True):
    """A package in the tree of an init's imports, below the one that asked for it first. Cumulative: with all below it."""

    name: str
    kind: str  # own | package | standard | runtime
    self_ms: float
    cumulative_ms: float
    modules: int
    memory_kb: float
    children: tuple["ImportNode", ...] = ()


class Advice(msgspec.Struct, frozen=True):
    """The import to look at first. `saves`: what nothing else asks for; `cumulative`: all that it pulls in."""

    package: str
    imported_by: tuple[str, ...]
    cumulative_ms: float
    saves_ms: float
    saves_modules: int
    saves_memory_kb: float


class FirstSpan(msgspec.Struct, frozen=True):
    """What the first invocation waited for, after the instant at which its handler was called."""

    name: str
    at_ms: float
    ms: float
    depth: int = 0
    detail: str = ""


class Anatomy(msgspec.Struct, frozen=True):
    """One function's init and first invocation from inside, by runs of their own that nothing else was timed in."""

    function: str
    event: str
    runs: int
    imports: tuple[ImportNode, ...]
    module_code_ms: float
    spans: tuple[FirstSpan, ...] = ()
    advice: Advice | None = None
    n_modules: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one run measured. Parts that a run did not measure are empty, and a reader shows nothing for them."""

    schema: str = SCHEMA
    kind: Kind
    created: str
    command: str
    machine: dict[str, Any]
    versions: dict[str, str | None]
    backing: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    validity: Validity = Validity()
    variants: tuple[Variant, ...] = ()
    blocks: tuple[Block, ...] = ()
    # Blocks in which the machine stalled; each was measured again, and only that counts.
    rerun: tuple[Block, ...] = msgspec.field(default=(), name="set_aside")
    summaries: tuple[Summary, ...] = ()
    cold: tuple[Cold, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    series: tuple[Series, ...] = ()
    spans: tuple[Span, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    costs: tuple[Cost, ...] = ()
    sized: tuple[Sized, ...] = ()
    worth: tuple[Worth, ...] = ()
    growth: tuple[Growth, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    anatomies: tuple[Anatomy, ...] = ()
    ways: dict[str, dict[str, dict[str, float]]] = {}  # way -> stage -> p50, p95, ... of `cold`
    warnings: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(Result)


def write_result(result: Result, path: Path) -> None:
    """Written beside its place and moved there, so that a reader never sees half a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(msgspec.json.encode(result, enc_hook=_plain) + b"\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _plain(value: object) -> object:
    """numpy's scalars and arrays are numbers and lists in a file; this module need not know numpy for that."""
    if callable(as_list := getattr(value, "tolist", None)):
        return as_list()
    raise TypeError(f"a result cannot hold a {type(value).__name__}: {value!r}")


def read_result(path: Path) -> Result:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise ResultError(f"{path} has {size} bytes: not a result of Warmfront")
        return decode_result(path.read_bytes(), name=str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResultError(
            f"{path} cannot be read: {reason}; `warmfront bench --output FILE` writes a result"
        ) from error


def decode_result(data: bytes, *, name: str = "result") -> Result:
    _check_schema(data, name)
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ResultError(f"{name} is not a valid {SCHEMA}: {error}") from error


class _Header(msgspec.Struct):
    schema: str = ""


def _check_schema(data: bytes, name: str) -> None:
    """Before anything else, so that a newer file is called newer and not broken."""
    try:
        schema = msgspec.json.decode(data, type=_Header).schema
    except msgspec.DecodeError as error:
        raise ResultError(f"{name} is not a result of Warmfront: {error}") from error
    if not schema:
        raise ResultError(f'{name} is not a result of Warmfront: it has no "schema"; expected {SCHEMA!r}')
    if schema != SCHEMA:
        raise ResultError(
            f"{name} has schema {schema!r}, this Warmfront reads {SCHEMA!r}; read it with the version that wrote it"
        )


def json_schema() -> dict[str, Any]:
    """What `results.schema.json` holds; a test keeps the file equal to this."""
    schema: dict[str, Any] = json.loads(json.dumps(msgspec.json.schema(Result)))  # tuples become arrays, as in the file
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = SCHEMA
    return schema


if __name__ == "__main__":
    Path(__file__).with_name("results.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")
