"""Experiments as data: reads them from TOML, checks them, and judges measured figures against their criteria.

`shop.toml` beside this module is an example of such a file.
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
"""error: the experiment could not be run, which says nothing about its subject."""


class ExperimentError(Exception):
    """An experiment cannot be read or run; the message names the file, the experiment and what to change."""


class Phases(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long the load runs before, during and after the fault."""

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
    """Open-loop load: requests are sent at their due times, whether or not earlier ones have been answered."""

    workload: str
    rate: float = 40.0
    rate_during: float = 0.0  # rate during the fault; 0: unchanged
    connections: int = 128
    timeout_s: float = 12.0
    arrivals: Literal["poisson", "constant"] = "poisson"
    warm_environments: int = 8  # started before the load, so that no cold start happens during the fault


class FaultSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fault: its kind (see `warmfront lab list --faults`), and `on` which service, server or environments it acts."""

    kind: str
    on: str = ""
    direction: str = "both"
    share: float = 1.0
    pulse_s: float = 0.0  # alternately on and off, each for this long; 0: always on
    settings: dict[str, float] = {}
    texts: dict[str, str] = {}  # settings that are text, such as SQL or a role


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds for one measure, named `phase.name` (before, during, after) or by its name alone."""

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
    """What must fail where the kit holds: another variant, or a variant with one mechanism switched off."""

    name: str
    variant: str
    settings: dict[str, str] = {}
    workload: str = ""  # if the variants' workload does not fit it
    options: dict[str, Any] = {}  # of the procedure, such as fewer operations; they override the experiment's
    parameters: tuple[str, ...] = ()  # of the template, instead of the experiment's
    shows: tuple[str, ...] = ()  # measures that must all be above zero, which proves that each kind of harm is detected


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
    budget_ms: float = 2_000.0  # a slower response counts as failed for the caller
    fault: list[FaultSpec] = []
    throughout: list[FaultSpec] = []  # faults from before the load until after it
    settings: dict[str, str] = {}  # environment variables of every variant with the kit
    parameters: tuple[str, ...] = ()  # of the template, in the form of --parameter-overrides; default: the suite's
    options: dict[str, Any] = {}  # of the procedure
    alone: bool = False  # subjects run one after the other, because each needs the whole machine
    aws: tuple[str, ...] = ()  # functions that reach the local AWS through a proxy
    clock: bool = False  # the subjects' wall clock can be set, for the fault `clock_jump`
    criterion: list[Criterion]
    show: tuple[str, ...] = ()  # measures to print beside the figure that decided
    lessons: Lessons

    @property
    def duration_s(self) -> float:
        """Roughly how long one subject takes, in seconds."""
        return self.phases.end_s if self.load is not None else float(self.options.get("about_s", 5.0))


class VariantSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of the API under test: its function in the template, its path prefix, its database."""

    name: str
    function: str
    prefix: str
    database: str
    template: str = ""  # a different template, relative to this file
    kit: bool = False  # takes the experiments' settings
    compared: bool = True  # has its own column; False: only used as a control


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
        """Return the experiment with this id or name, ignoring case. Raises ExperimentError if there is none."""
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
    """Judge the measures: pass if every criterion holds, else fail with the first that does not.

    A measure that was not taken does not pass.
    """
    held = []
    for criterion in criteria:
        figure = measures.get(criterion.measure, math.nan)
        if not criterion.holds(figure):
            return Verdict("fail", criterion.describe(figure))
        held.append(criterion.describe(figure))
    return Verdict("pass", "; ".join(held))


def with_figures(verdict: Verdict, show: Iterable[str], measures: Mapping[str, float]) -> Verdict:
    """Return the verdict with further figures added to its line, without repetition."""
    more = [f"{name} {_number(measures.get(name, math.nan))}" for name in show]
    return Verdict(verdict.outcome, "; ".join([verdict.figure, *(each for each in more if each not in verdict.figure)]))


def judge_control(control: Control, verdict: Verdict, measures: Mapping[str, float]) -> Verdict:
    """Judge a control. It only counts as failed if it shows every kind of harm that it is there to show."""
    unseen = [name for name in control.shows if not measures.get(name, 0) > 0]
    if verdict.outcome != "fail" or not unseen:
        return verdict
    return Verdict("pass", f"does not show {', '.join(unseen)}, which it must: {verdict.figure}")


def _number(value: float) -> str:
    if math.isnan(value):
        return "not measured"
    if math.isinf(value):
        return "never"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
