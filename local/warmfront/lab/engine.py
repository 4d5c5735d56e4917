"""Runs experiments, each on its control and its variants, and judges the results."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import msgspec

from warmfront.bench.load.load_process import LoadError
from warmfront.lab import doctor_procedure, history_procedures, load_procedures, outbox_procedures, start_procedures
from warmfront.lab.emulator_process import EmulatorError, EmulatorProcess, EmulatorSettings
from warmfront.lab.experiments import (
    Experiment,
    ExperimentError,
    Suite,
    VariantSpec,
    Verdict,
    judge,
    judge_control,
    with_figures,
)
from warmfront.lab.fault_actions import applied
from warmfront.lab.http_client import NoAnswer
from warmfront.lab.load_procedures import NotJudged
from warmfront.lab.scene import Gate, Observation, Scene, Subject, build_fault
from warmfront.lab.stage import Stage
from warmfront.lab.tcp_faults import FaultError

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
    "doctor": doctor_procedure.doctor,
    "events": outbox_procedures.events,
}


@dataclass(frozen=True, slots=True)
class SubjectReport:
    """The verdict on one subject (a variant or a control), with what was observed."""

    subject: str
    verdict: Verdict
    observation: Observation = field(default_factory=Observation)
    expected_to_hold: bool = True
    """False for a variant without the kit, which is only shown for comparison."""

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
        """Whether the template under test has a variant to run the experiment on."""
        return any(each.verdict.outcome != "n/a" for each in self.variants)

    @property
    def holds(self) -> bool:
        """Whether the control failed, which makes the experiment meaningful, and no variant with the kit did."""
        return self.control.verdict.outcome == "fail" and all(each.holds for each in self.variants)


@dataclass(slots=True)
class Engine:
    """Runs a suite of experiments against one template. Subjects run on separate stages if there are enough."""

    suite: Suite
    folder: Path
    """The folder of the suite's file; paths in the file are relative to it."""
    template: Path
    stages: Sequence[Stage]
    say: Callable[[str], None]
    available: frozenset[str] = frozenset()
    """Variants whose function is in the template."""

    async def look(self) -> None:
        """Ask the emulator which functions the template has. Raises ExperimentError if it has none of the suite's."""
        emulator = await self.stages[0].emulator(EmulatorSettings(self.template, parameters=self.suite.parameters))
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
        shown = [each for each in self.suite.variant if each.compared and (not only or each.name in only)]
        run = [each for each in shown if each.name in experiment.variants and each.name in self.available]
        subjects = [Subject(each.name, each) for each in run if each.name != experiment.control.name]
        control = self._control(experiment)
        if control.variant.name not in self.available and not control.variant.template:
            reports = {control.name: SubjectReport(control.name, Verdict("n/a", "not in the template"))}
        elif not run:
            reports = {control.name: SubjectReport(control.name, Verdict("n/a", "no variant to compare it with"))}
        else:
            reports, subjects = {}, [control, *subjects]
        for together in self._rounds(experiment, subjects):
            gate = Gate(len(together))
            found = await asyncio.gather(
                *(self._report(experiment, subject, seed, self._stage(subject), gate) for subject in together)
            )
            reports |= {report.subject: report for report in found}
        for subject in subjects:
            if reports[subject.name].verdict.outcome == "error":  # most often the machine's fault: try again, alone
                again = await self._report(experiment, subject, seed, self._stage(subject), Gate(1))
                reports[subject.name] = again
        return ExperimentReport(
            experiment, reports[control.name], tuple(self._shown(experiment, each, reports) for each in shown)
        )

    def _shown(
        self, experiment: Experiment, variant: VariantSpec, reports: Mapping[str, SubjectReport]
    ) -> SubjectReport:
        if variant.name not in experiment.variants:
            return SubjectReport(variant.name, Verdict("n/a", "does not apply"))
        if variant.name not in reports:
            return SubjectReport(variant.name, Verdict("n/a", "not in the template"))
        return replace(reports[variant.name], expected_to_hold=variant.kit)

    def _control(self, experiment: Experiment) -> Subject:
        control = experiment.control
        return Subject(control.name, self.suite.variant_named(control.variant), control.settings, is_control=True)

    def _stage(self, subject: Subject) -> Stage:
        """The subject's stage. It is always the same one, so that its emulator can often be reused."""
        names = [each.name for each in self.suite.variant if each.compared]
        place = 1 + names.index(subject.name) if subject.name in names else 0
        return self.stages[place % len(self.stages)]

    def _rounds(self, experiment: Experiment, subjects: Sequence[Subject]) -> list[list[Subject]]:
        """Groups of subjects that run at the same time; one per group if each needs the whole machine."""
        rounds: list[list[Subject]] = []
        for subject in subjects:
            stage = self._stage(subject)
            free = (each for each in rounds if all(self._stage(other) is not stage for other in each))
            mine = None if experiment.alone else next(free, None)
            if mine is None:
                rounds.append([subject])
            else:
                mine.append(subject)
        return rounds

    async def _report(
        self, experiment: Experiment, subject: Subject, seed: int, stage: Stage, gate: Gate
    ) -> SubjectReport:
        self.say(f"  {subject.name}{' (control)' if subject.is_control else ''} ...")
        if subject.is_control and experiment.control.workload and experiment.load is not None:
            own_load = msgspec.structs.replace(experiment.load, workload=experiment.control.workload)
            experiment = msgspec.structs.replace(experiment, load=own_load)
        if subject.is_control and experiment.control.options:
            own = {**experiment.options, **experiment.control.options}
            experiment = msgspec.structs.replace(experiment, options=own)
        observation = Observation()
        try:
            observation = await self._observe(experiment, subject, seed, stage, gate)
            verdict = _judge(experiment, subject, observation.measures)
        except (EmulatorError, FaultError, LoadError, NoAnswer, NotJudged, OSError, asyncpg.PostgresError) as error:
            verdict = Verdict("error", f"{type(error).__name__}: {error}")
        finally:
            gate.leave(subject)
        self.say(f"  {subject.name}: {verdict.outcome}, {verdict.figure}")
        return SubjectReport(subject.name, verdict, observation, expected_to_hold=subject.variant.kit)

    async def _observe(
        self, experiment: Experiment, subject: Subject, seed: int, stage: Stage, gate: Gate
    ) -> Observation:
        scene = Scene(
            stage=stage,
            emulator=await self._emulator(experiment, subject, stage),
            experiment=experiment,
            subject=subject,
            workloads=self.folder / self.suite.workloads,
            seed=seed,
            say=lambda text: self.say(f"    {subject.name}: {text}"),
            gate=gate,
        )
        await self._reset(scene)
        async with applied(*(build_fault(scene, condition) for condition in experiment.throughout)):
            return await PROCEDURES[experiment.procedure](scene)

    async def _emulator(self, experiment: Experiment, subject: Subject, stage: Stage) -> EmulatorProcess:
        """Return the stage's emulator if its settings and template are the right ones, else start another."""
        variant = subject.variant
        variables: dict[str, dict[str, str]] = {}
        kit = [each for each in self.suite.variant if each.kit and each.name in self.available]
        if not variant.template:
            variables = {each.function: dict(experiment.settings) for each in kit if experiment.settings}
        if subject.is_control and subject.settings:
            variables[variant.function] = variables.get(variant.function, {}) | dict(subject.settings)
        behind_proxy = () if not experiment.aws else (variant.function,) if variant.template else experiment.aws
        for function in behind_proxy:
            variables[function] = variables.get(function, {}) | {"AWS_ENDPOINT_URL": stage.aws_url}
        own = experiment.control.parameters if subject.is_control else ()
        parameters = () if variant.template else own or experiment.parameters or self.suite.parameters
        template = self.folder / variant.template if variant.template else self.template
        clocks = (variant.function,) if experiment.clock else ()
        return await stage.emulator(EmulatorSettings(template, variables, parameters, bool(experiment.aws), clocks))

    async def _reset(self, scene: Scene) -> None:
        """Restore the variant's database and end its environments, which may hold state of the last experiment."""
        await scene.stage.heal()
        if scene.variant.template:  # state that another control left must not disturb this one
            for each in self.suite.variant:
                if each.template == scene.variant.template:
                    await scene.emulator.retire(each.function)
            return
        if self.suite.setup_function:
            event = {**self.suite.setup_event, "databases": [scene.variant.database]}
            await scene.emulator.invoke(self.suite.setup_function, event)
        await scene.emulator.retire(scene.variant.function)


def _judge(experiment: Experiment, subject: Subject, measures: Mapping[str, float]) -> Verdict:
    verdict = with_figures(judge(experiment.criterion, measures), experiment.show, measures)
    return judge_control(experiment.control, verdict, measures) if subject.is_control else verdict


def jsonable(measures: dict[str, float]) -> dict[str, float]:
    """Return the figures that JSON can represent; infinite (never) and NaN (not measured) are left out."""
    return {name: value for name, value in measures.items() if math.isfinite(value)}


def with_operations(experiment: Experiment, operations: int) -> Experiment:
    """Return the experiment with this number of operations, if it has such an option."""
    if "operations" not in experiment.options:
        return experiment
    return msgspec.structs.replace(experiment, options={**experiment.options, "operations": operations})
