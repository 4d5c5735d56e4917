"""Which subjects an experiment runs on, with which settings, and when it holds. Procedures are fakes here."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from warmfront.cli.lab import lessons, result_of, subjects, table
from warmfront.lab.emulator_process import EmulatorError, EmulatorSettings
from warmfront.lab.engine import PROCEDURES, Engine, ExperimentReport, with_operations
from warmfront.lab.experiments import (
    OURS,
    Control,
    Criterion,
    Experiment,
    FaultSpec,
    Lessons,
    Suite,
    VariantSpec,
    load_suite,
)
from warmfront.lab.load_procedures import LoadOptions
from warmfront.lab.repeats import Repeats
from warmfront.lab.scene import FAULTS, Gate, Observation, Scene, Span, Subject, build_fault, options
from warmfront.lab.stage import Stage
from warmfront.lab.tcp_faults import FAULT_KINDS
from warmfront.results import decode_result, write_result


@dataclass
class StandIn:
    """A fake emulator that records its calls."""

    settings: EmulatorSettings
    done: list[str] = field(default_factory=list)

    async def state(self) -> dict[str, Any]:
        return {"functions": {"Naive": {}, "Pooled": {}, "Migrate": {}}}

    async def invoke(self, function: str, event: dict[str, Any]) -> None:
        self.done.append(f"{function} {event['databases']}")

    async def retire(self, function: str) -> None:
        self.done.append(f"retire {function}")


@dataclass
class StageStandIn:
    emulators: list[StandIn] = field(default_factory=list)

    async def emulator(self, settings: EmulatorSettings) -> StandIn:
        if not self.emulators or self.emulators[-1].settings != settings:
            self.emulators.append(StandIn(settings))
        return self.emulators[-1]

    @property
    def aws_url(self) -> str:
        return "http://proxy"

    async def heal(self) -> None: ...


SUITE = Suite(
    workloads="w.toml",
    setup_function="Migrate",
    setup_event={"action": "seed"},
    parameters=("P=1",),
    variant=[
        VariantSpec(name="naive", function="Naive", prefix="/naive", database="naive"),
        VariantSpec(name="pooled", function="Pooled", prefix="/pooled", database="pooled", kit=True),
        VariantSpec(name="distributed", function="Distributed", prefix="/d", database="d", kit=True),
        VariantSpec(name="careless", function="C", prefix="/c", database="x", template="c.yaml", compared=False),
    ],
    experiment=[],
)


def experiment(control: Control, **more: Any) -> Experiment:
    return Experiment(
        id="X1",
        name="x",
        family="cascade",
        hypothesis="it holds",
        procedure="stand-in",
        control=control,
        criterion=[Criterion(measure="broken", at_most=0)],
        lessons=Lessons(broke="a", held="b", file="c"),
        **more,
    )


NAIVE = Control(name="naive", variant="naive")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[ExperimentReport, StageStandIn, list[Scene]]]:
    def run(tried: Experiment, broken: dict[str, float], only: tuple[str, ...] = ()) -> Any:
        stage, scenes = StageStandIn(), []

        async def procedure(scene: Scene) -> Observation:
            scenes.append(scene)
            if broken[scene.subject.name] < 0:
                raise EmulatorError("it is gone")
            return Observation({"broken": broken[scene.subject.name]}, spans=[Span("fault", "f", 1, 2)])

        monkeypatch.setitem(PROCEDURES, "stand-in", procedure)

        async def all_of_it() -> ExperimentReport:
            engine = Engine(SUITE, Path("suite"), Path("template.yaml"), [cast(Stage, stage)], lambda _: None)
            await engine.look()
            return await engine.run(tried, seed=3, only=only)

        return asyncio.run(all_of_it()), stage, scenes

    return run


def outcomes(report: ExperimentReport) -> dict[str, str]:
    return {each.subject: each.verdict.outcome for each in report.variants}


class TestSubjects:
    def test_a_control_that_is_a_variant_is_run_once_and_shown_twice(self, run: Any) -> None:
        report, _, scenes = run(experiment(NAIVE), {"naive": 1, "pooled": 0})
        assert [scene.subject.name for scene in scenes] == ["naive", "pooled"]
        assert outcomes(report) == {"naive": "fail", "pooled": "pass", "distributed": "n/a"}
        assert report.holds

    def test_a_control_with_a_mechanism_switched_off_gets_its_setting_and_the_kit_does_not(self, run: Any) -> None:
        control = Control(name="breaker off", variant="pooled", settings={"SHOP_BREAKER_MODE": "disabled"})
        tried = experiment(control, settings={"SHOP_POOL_MAX": "2"}, parameters=("P=9",))
        report, stage, _ = run(tried, {"breaker off": 1, "naive": 1, "pooled": 0})
        look, off, on = [emulator.settings for emulator in stage.emulators]
        assert look.parameters == ("P=1",)
        assert off.variables == {"Pooled": {"SHOP_POOL_MAX": "2", "SHOP_BREAKER_MODE": "disabled"}}
        assert on.variables == {"Pooled": {"SHOP_POOL_MAX": "2"}}
        assert on.parameters == ("P=9",)
        assert report.holds

    def test_a_control_with_a_template_of_its_own_is_served_from_it(self, run: Any) -> None:
        _, stage, _ = run(experiment(Control(name="c", variant="careless")), {"c": 1, "naive": 0, "pooled": 0})
        assert stage.emulators[1].settings == EmulatorSettings(Path("suite/c.yaml"))
        assert stage.emulators[1].done == ["retire C"]  # there is no shop to set up

    def test_a_controls_options_stand_over_the_experiments(self, run: Any) -> None:
        control = Control(name="naive", variant="naive", options={"operations": 5})
        tried = experiment(control, options={"operations": 100, "keys": 2})
        _, _, scenes = run(tried, {"naive": 1, "pooled": 0})
        assert [scene.experiment.options["operations"] for scene in scenes] == [5, 100]
        assert [scene.experiment.options["keys"] for scene in scenes] == [2, 2]

    def test_functions_that_reach_aws_do_so_through_the_proxy(self, run: Any) -> None:
        _, stage, _ = run(experiment(NAIVE, aws=("Relay",)), {"naive": 1, "pooled": 0})
        assert stage.emulators[1].settings.variables == {"Relay": {"AWS_ENDPOINT_URL": "http://proxy"}}
        assert stage.emulators[1].settings.aws

    def test_each_variant_starts_from_its_own_fresh_data_and_no_environment(self, run: Any) -> None:
        _, stage, _ = run(experiment(NAIVE), {"naive": 1, "pooled": 0})
        assert stage.emulators[0].done == ["Migrate ['naive']", "retire Naive", "Migrate ['pooled']", "retire Pooled"]

    def test_only_the_variants_that_were_asked_for_run_and_the_control(self, run: Any) -> None:
        report, _, scenes = run(experiment(NAIVE), {"naive": 1, "pooled": 0}, only=("pooled",))
        assert [scene.subject.name for scene in scenes] == ["naive", "pooled"]
        assert outcomes(report) == {"pooled": "pass"}

    def test_a_variant_to_which_it_does_not_apply_is_not_run(self, run: Any) -> None:
        report, _, _ = run(experiment(NAIVE, variants=("naive",)), {"naive": 1})
        assert outcomes(report) == {"naive": "fail", "pooled": "n/a", "distributed": "n/a"}


class TestSideBySide:
    def of(self, tried: Experiment, stages: int) -> list[list[str]]:
        engine = Engine(SUITE, Path(), Path(), [cast(Stage, StageStandIn()) for _ in range(stages)], lambda _: None)
        subjects = [Subject("off", SUITE.variant[1], is_control=True)]
        subjects += [Subject(each.name, each) for each in SUITE.variant if each.compared]
        return [[each.name for each in together] for together in engine._rounds(tried, subjects)]

    def test_each_subject_has_servers_of_its_own_where_there_are_enough(self) -> None:
        assert self.of(experiment(NAIVE), 4) == [["off", "naive", "pooled", "distributed"]]

    def test_on_the_same_servers_they_go_one_after_the_other(self) -> None:
        assert self.of(experiment(NAIVE), 1) == [["off"], ["naive"], ["pooled"], ["distributed"]]
        assert self.of(experiment(NAIVE), 2) == [["off", "naive"], ["pooled", "distributed"]]

    def test_what_needs_the_whole_machine_has_it(self) -> None:
        assert [len(each) for each in self.of(experiment(NAIVE, alone=True), 4)] == [1, 1, 1, 1]

    def test_nobody_starts_before_all_are_ready_or_gone(self) -> None:
        went: list[str] = []

        async def subject(gate: Gate, name: str) -> None:
            await gate.arrive(name)
            went.append(name)

        async def test() -> None:
            gate = Gate(3)
            waiting = [asyncio.create_task(subject(gate, name)) for name in ("a", "b")]
            await asyncio.sleep(0)
            assert went == []
            gate.leave("c")
            gate.leave("c")
            await asyncio.wait_for(asyncio.gather(*waiting), 5)

        asyncio.run(test())
        assert sorted(went) == ["a", "b"]


class TestHolds:
    def test_not_when_the_control_passes(self, run: Any) -> None:
        assert not run(experiment(NAIVE), {"naive": 0, "pooled": 0})[0].holds

    def test_not_when_the_kit_fails(self, run: Any) -> None:
        assert not run(experiment(NAIVE), {"naive": 1, "pooled": 1})[0].holds

    def test_not_when_the_control_does_not_show_all_that_it_is_there_for(self, run: Any) -> None:
        control = Control(name="naive", variant="naive", shows=("broken", "duplicated"))
        report, _, _ = run(experiment(control), {"naive": 1, "pooled": 0})
        assert report.control.verdict.outcome == "pass"
        assert report.control.verdict.figure.startswith("does not show duplicated, which it must: broken 1")
        assert not report.holds
        assert run(
            experiment(Control(name="n", variant="naive", shows=("broken",))), {"n": 1, "naive": 1, "pooled": 0}
        )[0].holds

    def test_naive_may_fail_where_it_is_not_the_control(self, run: Any) -> None:
        control = Control(name="off", variant="pooled", settings={"A": "b"})
        assert run(experiment(control), {"off": 1, "naive": 1, "pooled": 0})[0].holds

    def test_an_experiment_that_could_not_be_run_holds_nothing(self, run: Any) -> None:
        report, _, scenes = run(experiment(NAIVE), {"naive": -1, "pooled": 0})
        assert [scene.subject.name for scene in scenes] == ["naive", "pooled", "naive"]  # once more, alone
        assert report.control.verdict.outcome == "error"
        assert "it is gone" in report.control.verdict.figure
        assert not report.holds


class TestShown:
    def test_the_table_has_every_verdict_and_the_figure_that_decided(self, run: Any) -> None:
        report, _, _ = run(experiment(NAIVE), {"naive": 2, "pooled": 0})
        text = "\n".join(line.plain for line in table([report]))
        head, _, row, naive, pooled, last = text.splitlines()
        assert head.split() == ["experiment", "control", "naive", "pooled", "distributed"]
        assert row.split() == ["X1", "x", "fail", "fail", "pass", "n/a"]
        assert naive.split() == ["naive:", "broken", "2", "(at", "most", "0)"]
        assert pooled.split()[:2] == ["pooled:", "broken"]
        assert last.startswith("1 of 1")

    def test_further_figures_stand_beside_the_one_that_decided_each_once(self, run: Any) -> None:
        report, _, _ = run(experiment(NAIVE, show=("broken", "kills")), {"naive": 2, "pooled": 0})
        assert report.control.verdict.figure == "broken 2 (at most 0); kills not measured"

    def test_where_naive_did_not_break_it_is_said(self, run: Any) -> None:
        control = Control(name="off", variant="pooled", settings={"A": "b"})
        for broken, said in ((0, "did not break: broken 0 (at most 0)"), (3, "broken 3 (at most 0)")):
            shown = table([run(experiment(control), {"off": 1, "naive": broken, "pooled": 0})[0]])
            lines = [line.plain for line in shown]
            assert [line.partition(":")[2].strip() for line in lines if "naive:" in line] == [said]
            assert sum("did not break" in line for line in lines) == (broken == 0)

    def test_an_experiment_that_does_not_hold_is_marked(self, run: Any) -> None:
        report, _, _ = run(experiment(NAIVE), {"naive": 0, "pooled": 0})
        assert "does not hold" in "\n".join(line.plain for line in table([report]))

    def test_lessons_are_three_lines(self, run: Any) -> None:
        assert len(lessons(run(experiment(NAIVE), {"naive": 1, "pooled": 0})[0])) == 3

    def test_the_result_is_read_back_with_the_control_and_the_timeline(self, run: Any, tmp_path: Path) -> None:
        control = Control(name="off", variant="pooled", settings={"A": "b"})
        report, _, _ = run(experiment(control), {"off": 1, "naive": 1, "pooled": 0})
        assert [each.subject for each in subjects(report)] == ["off", "naive", "pooled"]
        write_result(result_of([Repeats([report])], backing={}, seed=3), tmp_path / "lab.json")
        read = decode_result((tmp_path / "lab.json").read_bytes())
        (entry,) = read.experiments
        assert (entry.control.name, entry.control.verdict) == ("off", "fail")
        assert [(each.variant, each.verdict) for each in entry.variants] == [
            ("naive", "fail"),
            ("pooled", "pass"),
            ("distributed", "n/a"),
        ]
        assert {span.variant for span in entry.spans} == {"off", "naive", "pooled"}
        assert read.settings["experiments"]["X1"]["measures"]["naive"] == {"broken": 1}


class TestOurSuite:
    """The experiments of the shop: everything that they name exists."""

    suite = load_suite()

    @pytest.mark.parametrize("tried", suite.experiment, ids=lambda each: each.id)
    def test_what_it_names_exists(self, tried: Experiment) -> None:
        assert tried.procedure in PROCEDURES
        for fault in (*tried.fault, *tried.throughout):
            assert fault.kind in FAULT_KINDS or fault.kind in FAULTS
        if tried.load is not None:
            options(tried, LoadOptions)
            workloads = (OURS.parent / self.suite.workloads).read_text()
            for name in (tried.load.workload, tried.control.workload):
                assert not name or f'name = "{name}"' in workloads

    @pytest.mark.parametrize("tried", suite.experiment, ids=lambda each: each.id)
    def test_its_lessons_name_a_file_that_is_there(self, tried: Experiment) -> None:
        root = OURS.parents[3]
        parts = (part.strip(",") for part in tried.lessons.file.split())
        files = [part for part in parts if part.endswith((".py", ".yaml"))]
        assert files
        assert all((root / file).exists() for file in files)

    def test_every_family_is_there(self) -> None:
        assert {each.family for each in self.suite.experiment} == {"exhaustion", "cascade", "corruption", "defaults"}

    def test_operations_can_be_scaled_where_they_are_counted(self) -> None:
        assert with_operations(self.suite.find("C1"), 7).options["operations"] == 7
        assert with_operations(self.suite.find("B1"), 7) == self.suite.find("B1")


def test_a_fault_that_cannot_be_built_names_experiment_and_place() -> None:
    tried = experiment(NAIVE, fault=[FaultSpec(kind="latency", on="postgers"), FaultSpec(kind="lok")])
    scene = cast(Scene, type("SceneStandIn", (), {"experiment": tried}))
    with pytest.raises(Exception, match="experiment X1: fault latency: on = 'postgers'"):
        build_fault(scene, tried.fault[0])
    with pytest.raises(Exception, match="experiment X1: fault lok: no such fault; there are: latency"):
        build_fault(scene, tried.fault[1])
