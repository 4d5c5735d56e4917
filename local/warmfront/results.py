"""Records of a measurement's result, and reading and writing them as a JSON file."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

SCHEMA = "warmfront/result/1"
LARGEST_FILE = 512 * 1024 * 1024  # a wrong path (a database dump, a video) should be refused, not read

Kind = Literal["bench", "cold", "lab"]


class ResultError(Exception):
    """A file is not a usable result; the message names the file, the place in it and what to do."""


class Check(msgspec.Struct, frozen=True):
    """One validity condition of a run. `figure` and `limit` are in `unit`; `advice` says what to do after a failure."""

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
    complexity: str = ""  # effort to write and to run it, in words of the workload's author
    best_for: str = ""


class Block(msgspec.Struct, frozen=True):
    """A short period of load on one variant. Latencies include failed requests, up to the timeout."""

    workload: str
    variant: str
    index: int  # number of the round: blocks of one round ran next to each other and are paired
    order: int  # place in the whole run
    started_s: float
    duration_s: float
    requests: int
    errors: int  # including those of the uncounted requests before and after
    latency_us: tuple[int, ...]  # from the time when the request was due
    service_us: tuple[int, ...] | None = None  # from the time when it was sent
    cpu_s: dict[str, float] = {}
    memory_pss_bytes: dict[str, int] | None = None
    spin_ms: float = 0.0
    environments: int | None = None
    around: int = 0  # requests before and after the counted ones, while not all workers were busy
    stalled: float | None = None  # share of slow beats of the CPU heartbeat, see local/warmfront/bench/run/pulse.py

    @property
    def answered(self) -> int:
        """All requests of the block, counted or not, among which its CPU is divided."""
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
    """Two variants compared by one metric. `ratio`: times better, above 1 is better for every metric. If baseline equals
    candidate it is an A/A row, which shows the noise."""

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
    """A figure over time; `t_s` counts from the start of the run."""

    name: str
    unit: str
    t_s: tuple[float, ...]
    values: tuple[float, ...]
    variant: str = ""
    workload: str = ""


class Span(msgspec.Struct, frozen=True):
    """A period to shade behind the series: an active fault or an open breaker."""

    kind: str  # fault | breaker
    label: str
    start_s: float
    end_s: float
    variant: str = ""
    workload: str = ""


class LoadPoint(msgspec.Struct, frozen=True):
    """The figures at one offered rate of a sweep."""

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
    """A model's curve: the name of its formula, and p99 (ms) or throughput (1/s) at each rate (1/s)."""

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
    """A p99 predicted as by `warmfront size`, and the p99 then measured in an open loop at a share of the knee."""

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
    """A projection to a rate that was not run, from measured service times, prices and the sizing formulas."""

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
    """An experiment of the lab: the verdicts of its control, which should fail, and of each variant."""

    name: str
    control: Verdict
    variants: tuple[Verdict, ...]
    question: str = ""
    lessons: dict[str, str] = {}  # keys: broke, held, file
    series: tuple[Series, ...] = ()
    spans: tuple[Span, ...] = ()


class Growth(msgspec.Struct, frozen=True):
    """One figure over a growing size (rows, environments), and the order of growth fitted to it."""

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
    """A package in an init's import tree, below the package that imported it first. `cumulative` figures include all packages
    below it."""

    name: str
    kind: str  # own | package | standard | runtime
    self_ms: float
    cumulative_ms: float
    modules: int
    memory_kb: float
    children: tuple["ImportNode", ...] = ()


class Advice(msgspec.Struct, frozen=True):
    """The import to improve first. `saves`: cost of what nothing else imports; `cumulative`: cost of all that it imports."""

    package: str
    imported_by: tuple[str, ...]
    cumulative_ms: float
    saves_ms: float
    saves_modules: int
    saves_memory_kb: float


class FirstSpan(msgspec.Struct, frozen=True):
    """A wait in the first invocation; times count from the call of the handler."""

    name: str
    at_ms: float
    ms: float
    depth: int = 0
    detail: str = ""


class Anatomy(msgspec.Struct, frozen=True):
    """One function's init and first invocation recorded inside its process, in separate runs that time nothing else."""

    function: str
    event: str
    runs: int
    imports: tuple[ImportNode, ...]
    module_code_ms: float
    spans: tuple[FirstSpan, ...] = ()
    advice: Advice | None = None
    n_modules: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run measured. Parts that it did not measure are empty, and reports omit them."""

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
    # Blocks during which the machine stalled; each was run again, and only the second run counts.
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
    """Write a result to a file. A temporary file is renamed into place, so that a reader never sees half a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(msgspec.json.encode(result, enc_hook=_plain) + b"\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _plain(value: object) -> object:
    """Encode numpy scalars and arrays as numbers and lists, without importing numpy.

    Raises:
        TypeError: the value is of another type.
    """
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
    """Check the schema first, so that a file of a newer version is reported as newer and not as invalid."""
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
    """Return the contents of `results.schema.json`; a test keeps the file equal to it."""
    schema: dict[str, Any] = json.loads(json.dumps(msgspec.json.schema(Result)))  # tuples become arrays, as in the file
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = SCHEMA
    return schema


if __name__ == "__main__":
    Path(__file__).with_name("results.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")
