"""An experiment as data, read from TOML and checked, and the verdict on what was measured. Knows no process or fault.

A file of one's own for one's own template looks like `shop.toml` beside this module.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

OURS = Path(__file__).with_name("shop.toml")

Family = Literal["exhaustion", "cascade", "corruption", "defaults"]
Outcome = Literal["pass", "fail", "n/a", "error"]
"""error: the experiment itself could not be run, which says nothing about its subject."""


class ExperimentError(Exception):
    """An experiment that cannot be read or run; the message names the file, the experiment and what to change."""


class Phases(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long the load runs before the fault, while it is on, and after it."""

    before_s: float = 3.0
    during_s: float = 5.0
    after_s: float = 3.0

    @property
    def fault_on_s(self) -> float:
        return self.before_s

    @property
    def fault_off_s(self) -> float:
        return self.before_s + self.during_s

    @property
    def end_s(self) -> float:
        return self.before_s + self.during_s + self.after_s


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Open loop: requests are sent when they are due, however the last ones fare."""

    workload: str
    rate: float = 40.0
    rate_during: float = 0.0  # another rate while the fault is on; 0: the same
    connections: int = 128
    timeout_s: float = 12.0
    arrivals: Literal["poisson", "constant"] = "poisson"
    warm_environments: int = 8  # started before the load, so that no cold start falls into the fault


class FaultSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is broken: `on` names a proxied service, its server or the environments; `lab list --faults`."""

    kind: str
    on: str = ""
    direction: str = "both"
    share: float = 1.0
    pulse_s: float = 0.0  # on for so long, off for as long, again and again; 0: on
    settings: dict[str, float] = {}
    texts: dict[str, str] = {}  # settings that are text: SQL, a role


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`measure` is `phase.name` (before, during, after) or a name alone."""

    measure: str
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    def holds(self, figure: float) -> bool:
        if math.isnan(figure):
            return False
        return (self.at_most is None or figure <= self.at_most) and (self.at_least is None or figure >= self.at_least)

    def describe(self, figure: float) -> str:
        bounds = []
        if self.at_most is not None:
            bounds.append(f"at most {_number(self.at_most)}")
        if self.at_least is not None:
            bounds.append(f"at least {_number(self.at_least)}")
        unit = f" {self.unit}" if self.unit and math.isfinite(figure) else ""
        return f"{self.measure} {_number(figure)}{unit} ({', '.join(bounds)})"


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What must fail in the place of the kit: another variant, or a variant with one mechanism switched off."""

    name: str
    variant: str
    settings: dict[str, str] = {}
    workload: str = ""  # where it cannot be asked what the variants are asked
    options: dict[str, Any] = {}  # of the procedure, over the experiment's: fewer operations, say
    parameters: tuple[str, ...] = ()  # of the template, in the place of the experiment's
    shows: tuple[str, ...] = ()  # measures that must all be above zero: each kind of harm is seen to be found


class Lessons(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    broke: str
    held: str
    file: str


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    name: str
    family: Family
    hypothesis: str
    procedure: str = "load"
    variants: tuple[str, ...] = ("naive", "pooled", "distributed")
    control: Control
    load: Load | None = None
    phases: Phases = Phases()
    budget_ms: float = 2_000.0  # slower than this is as good as failed to the caller
    fault: list[FaultSpec] = []
    throughout: list[FaultSpec] = []  # conditions that are there from before the load to after it
    settings: dict[str, str] = {}  # environment variables of every variant that is the kit
    parameters: tuple[str, ...] = ()  # of the template, as --parameter-overrides takes them; else the suite's
    options: dict[str, Any] = {}  # of the procedure
    alone: bool = False  # its subjects run one after the other: each needs the whole machine
    aws: tuple[str, ...] = ()  # functions that reach the local AWS through a proxy
    clock: bool = False  # the wall clock of its subjects can be set: fault `clock_jump`
    criterion: list[Criterion]
    show: tuple[str, ...] = ()  # measures to be told beside the figure that decides
    lessons: Lessons

    @property
    def duration_s(self) -> float:
        """About how long one subject takes."""
        return self.phases.end_s if self.load is not None else float(self.options.get("about_s", 5.0))


class VariantSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of the API under test: its function in the template, its path prefix, its database."""

    name: str
    function: str
    prefix: str
    database: str
    template: str = ""  # another template than the one under test, relative to this file
    kit: bool = False  # takes the experiments' settings
    compared: bool = True  # has a column of its own; without it, it is only ever a control


class Suite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of experiments."""

    workloads: str  # the bench's workload file, relative to this one
    variant: list[VariantSpec]
    experiment: list[Experiment]
    setup_function: str = ""
    setup_event: dict[str, Any] = {}
    parameters: tuple[str, ...] = ()

    def variant_named(self, name: str) -> VariantSpec:
        for variant in self.variant:
            if variant.name == name:
                return variant
        raise ExperimentError(f"no variant {name!r}; there are: {', '.join(each.name for each in self.variant)}")

    def find(self, name: str) -> Experiment:
        """By id or by name, in any case."""
        for experiment in self.experiment:
            if name.lower() in (experiment.id.lower(), experiment.name.lower()):
                return experiment
        known = ", ".join(f"{each.id} {each.name}" for each in self.experiment)
        raise ExperimentError(f"no experiment {name!r}; there are: {known}")


def load_suite(path: Path = OURS) -> Suite:
    try:
        suite = msgspec.toml.decode(path.read_bytes(), type=Suite)
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ExperimentError(f"{path}: {error}") from error
    _check(path, suite)
    return suite


def _check(path: Path, suite: Suite) -> None:
    known = {variant.name for variant in suite.variant}
    _unique(path, "id", [each.id for each in suite.experiment])
    _unique(path, "name", [each.name for each in suite.experiment])
    for experiment in suite.experiment:
        where = f"{path}: experiment {experiment.id}"
        for variant in (*experiment.variants, experiment.control.variant):
            if variant not in known:
                raise ExperimentError(f"{where}: no [[variant]] is named {variant!r}; there are: {', '.join(known)}")
        if not experiment.criterion:
            raise ExperimentError(f"{where}: without a [[experiment.criterion]] nothing can fail")
        for criterion in experiment.criterion:
            if criterion.at_most is None and criterion.at_least is None:
                raise ExperimentError(f"{where}: criterion {criterion.measure} needs at_most or at_least")
        if experiment.procedure == "load" and experiment.load is None:
            raise ExperimentError(f"{where}: the procedure `load` needs an [experiment.load] with a workload")


def _unique(path: Path, what: str, values: Sequence[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ExperimentError(f"{path}: two experiments have the {what} {value!r}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Pass or fail with the figure that decided, or n/a with the reason."""

    outcome: Outcome
    figure: str


def judge(criteria: Iterable[Criterion], measures: Mapping[str, float]) -> Verdict:
    """Every criterion holds, and all are told; or the first that does not decides. What was not measured has not passed."""
    held = []
    for criterion in criteria:
        figure = measures.get(criterion.measure, math.nan)
        if not criterion.holds(figure):
            return Verdict("fail", criterion.describe(figure))
        held.append(criterion.describe(figure))
    return Verdict("pass", "; ".join(held))


def telling(verdict: Verdict, show: Iterable[str], measures: Mapping[str, float]) -> Verdict:
    """The same verdict with further figures in its line, each told once."""
    more = [f"{name} {_number(measures.get(name, math.nan))}" for name in show]
    return Verdict(verdict.outcome, "; ".join([verdict.figure, *(each for each in more if each not in verdict.figure)]))


def judge_control(control: Control, verdict: Verdict, measures: Mapping[str, float]) -> Verdict:
    """A control that failed has failed in every way it is there for, or the experiment cannot tell."""
    unseen = [name for name in control.shows if not measures.get(name, 0) > 0]
    if verdict.outcome != "fail" or not unseen:
        return verdict
    return Verdict("pass", f"shows no {', '.join(unseen)}, which it is there for: {verdict.figure}")


def _number(value: float) -> str:
    if math.isnan(value):
        return "not measured"
    if math.isinf(value):
        return "never"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
