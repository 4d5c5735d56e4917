"""Runs experiments: each on its control and on its variants, one after the other. Knows no table, no route and no CLI."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import msgspec

from local.bench.load_process import LoadError
from local.lab import history_procedures, load_procedures, start_procedures
from local.lab.emulator_process import EmulatorError, EmulatorProcess, EmulatorSettings
from local.lab.experiments import Experiment, ExperimentError, Suite, Verdict, judge
from local.lab.faults import applied
from local.lab.http_client import NoAnswer
from local.lab.load_procedures import NoSteadyState
from local.lab.scene import Observation, Scene, Subject, build_fault
from local.lab.stage import Stage
from local.lab.tcp_faults import FaultError

PROCEDURES: dict[str, Callable[[Scene], Awaitable[Observation]]] = {
    "load": load_procedures.load,
    "burst": load_procedures.burst,
    "overload": load_procedures.overload,
    "effects": history_procedures.effects,
    "increments": history_procedures.increments,
    "pages": history_procedures.pages,
    "staleness": history_procedures.staleness,
    "refusal": start_procedures.refusal,
    "secrets": start_procedures.secrets,
    "hostile": start_procedures.hostile,
    "defaults": start_procedures.defaults,
}


@dataclass(frozen=True, slots=True)
class SubjectReport:
    """What one subject did, and the verdict on it."""

    subject: str
    verdict: Verdict
    observation: Observation = field(default_factory=Observation)
    expected_to_hold: bool = True
    """False for a variant that is only shown: it is what the kit is compared with."""

    @property
    def holds(self) -> bool:
        return self.verdict.outcome != "error" and not (self.expected_to_hold and self.verdict.outcome == "fail")


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    experiment: Experiment
    control: SubjectReport
    variants: tuple[SubjectReport, ...]

    @property
    def applies(self) -> bool:
        """The template under test has something to run it on."""
        return any(each.verdict.outcome != "n/a" for each in self.variants)

    @property
    def holds(self) -> bool:
        """The control failed, so the experiment can tell; and the kit passed wherever it applies."""
        return self.control.verdict.outcome == "fail" and all(each.holds for each in self.variants)


@dataclass(slots=True)
class Engine:
    """A suite of experiments on a stage, against one template."""

    suite: Suite
    folder: Path
    """Where the suite's file is: its paths are relative to it."""
    template: Path
    stage: Stage
    say: Callable[[str], None]
    available: frozenset[str] = frozenset()
    """Variants whose function the template has."""

    async def look(self) -> None:
        """What the template offers, asked of the emulator that serves it."""
        emulator = await self.stage.emulator(EmulatorSettings(self.template, parameters=self.suite.parameters))
        functions = (await emulator.state())["functions"]
        self.available = frozenset(each.name for each in self.suite.variant if each.function in functions)
        if not self.available:
            wanted = ", ".join(each.function for each in self.suite.variant if each.compared)
            raise ExperimentError(f"{self.template} has none of the functions these experiments are for: {wanted}")

    async def run(self, experiment: Experiment, *, seed: int, only: Sequence[str] = ()) -> ExperimentReport:
        if experiment.procedure not in PROCEDURES:
            known = ", ".join(PROCEDURES)
            raise ExperimentError(
                f"experiment {experiment.id}: no procedure {experiment.procedure!r}; there are: {known}"
            )
        self.say(f"{experiment.id} {experiment.name}: {experiment.hypothesis}")
        if set(experiment.variants).isdisjoint(set(only) & self.available if only else self.available):
            control = SubjectReport(experiment.control.name, Verdict("n/a", "no variant to hold it against"))
        else:
            control = await self._report(experiment, self._control(experiment), seed)
        reports = []
        for variant in self.suite.variant:
            if not variant.compared or (only and variant.name not in only):
                continue
            if variant.name not in experiment.variants:
                reports.append(SubjectReport(variant.name, Verdict("n/a", "does not apply")))
            elif variant.name not in self.available:
                reports.append(SubjectReport(variant.name, Verdict("n/a", "not in the template")))
            elif control.subject == variant.name:
                reports.append(replace(control, expected_to_hold=variant.kit))  # nothing else to run
            else:
                reports.append(await self._report(experiment, Subject(variant.name, variant), seed))
        return ExperimentReport(experiment, control, tuple(reports))

    def _control(self, experiment: Experiment) -> Subject:
        control = experiment.control
        return Subject(control.name, self.suite.variant_named(control.variant), control.settings, is_control=True)

    async def _report(self, experiment: Experiment, subject: Subject, seed: int) -> SubjectReport:
        if subject.is_control and subject.variant.name not in self.available and not subject.variant.template:
            return SubjectReport(subject.name, Verdict("n/a", "not in the template"))
        self.say(f"  {subject.name}{' (control)' if subject.is_control else ''} ...")
        if subject.is_control and experiment.control.workload and experiment.load is not None:
            own_load = msgspec.structs.replace(experiment.load, workload=experiment.control.workload)
            experiment = msgspec.structs.replace(experiment, load=own_load)
        observation = Observation()
        try:
            observation = await self._observe(experiment, subject, seed)
            verdict = judge(experiment.criterion, observation.measures)
        except (EmulatorError, FaultError, LoadError, NoAnswer, NoSteadyState, OSError, asyncpg.PostgresError) as error:
            verdict = Verdict("error", f"{type(error).__name__}: {error}")
        self.say(f"  {subject.name}: {verdict.outcome}, {verdict.figure}")
        return SubjectReport(subject.name, verdict, observation, expected_to_hold=subject.variant.kit)

    async def _observe(self, experiment: Experiment, subject: Subject, seed: int) -> Observation:
        scene = Scene(
            stage=self.stage,
            emulator=await self._emulator(experiment, subject),
            experiment=experiment,
            subject=subject,
            workloads=self.folder / self.suite.workloads,
            seed=seed,
            say=lambda text: self.say(f"    {text}"),
        )
        await self._reset(scene)
        async with applied(*(build_fault(scene, condition) for condition in experiment.throughout)):
            return await PROCEDURES[experiment.procedure](scene)

    async def _emulator(self, experiment: Experiment, subject: Subject) -> EmulatorProcess:
        """One emulator for all subjects of an experiment; another for a control with settings or a template of its own."""
        variant = subject.variant
        if variant.template:
            return await self.stage.emulator(EmulatorSettings(self.folder / variant.template))
        kit = [each for each in self.suite.variant if each.kit and each.name in self.available]
        variables = {each.function: dict(experiment.settings) for each in kit if experiment.settings}
        if subject.is_control and subject.settings:
            variables[variant.function] = variables.get(variant.function, {}) | dict(subject.settings)
        own = experiment.control.parameters if subject.is_control else ()
        parameters = own or experiment.parameters or self.suite.parameters
        return await self.stage.emulator(EmulatorSettings(self.template, variables, parameters))

    async def _reset(self, scene: Scene) -> None:
        """The variant's database as it was made, and no environment that remembers the last experiment."""
        await scene.stage.heal()
        if scene.variant.template:
            return
        if self.suite.setup_function:
            event = {**self.suite.setup_event, "databases": [scene.variant.database]}
            await scene.emulator.invoke(self.suite.setup_function, event)
        await scene.emulator.retire(scene.variant.function)


def jsonable(measures: dict[str, float]) -> dict[str, float]:
    """Figures as a result holds them: never and not measured have no number in JSON."""
    return {name: value for name, value in measures.items() if math.isfinite(value)}


def with_operations(experiment: Experiment, operations: int) -> Experiment:
    """The same experiment over so many operations, where it has operations."""
    if "operations" not in experiment.options:
        return experiment
    return msgspec.structs.replace(experiment, options={**experiment.options, "operations": operations})
