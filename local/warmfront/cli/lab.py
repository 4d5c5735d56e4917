"""`warmfront lab`: lists experiments, runs them, prints the verdicts and writes them as a result."""

import argparse
import asyncio
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from warmfront import provenance, results
from warmfront.backing.errors import BackingError
from warmfront.lab.emulator_process import EmulatorError
from warmfront.lab.engine import Engine, ExperimentReport, SubjectReport, jsonable, with_operations
from warmfront.lab.experiments import OURS, Experiment, ExperimentError, Suite, load_suite
from warmfront.lab.repeats import Repeats, verdicts
from warmfront.lab.scene import FAULTS
from warmfront.lab.signals import cancelled_by_signals
from warmfront.lab.stage import Stage
from warmfront.lab.tcp_faults import FAULT_KINDS

OVERHEAD_S = 7.0  # before subjects side by side can start: their emulators, data and environments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|run")
    listing = actions.add_parser("list", help="what there is, what it breaks and how long it takes")
    listing.add_argument("--faults", action="store_true", help="the faults an experiment can use, with their settings")
    running = actions.add_parser("run", help="run experiments by id or name")
    running.add_argument("names", nargs="*", metavar="NAME", help="such as B1 or slow-database")
    running.add_argument("--all", action="store_true", help="every experiment, one after the other")
    running.add_argument(
        "--variant", action="append", default=[], help="only this variant, and the control (repeatable)"
    )
    running.add_argument("--seed", type=int, default=1, help="the same seed breaks the same things (default: 1)")
    running.add_argument(
        "--repeat", type=_times, default=1, metavar="N", help="N times with the seed: are the verdicts the same?"
    )
    running.add_argument(
        "--in-turn", action="store_true", help="subjects one after the other on one Postgres, instead of side by side"
    )
    running.add_argument("--operations", type=int, help="of each experiment that counts operations")
    running.add_argument("--output", type=Path, metavar="FILE", help="write the result as JSON")
    running.add_argument("-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template under test")
    for each in (listing, running):
        each.add_argument("--experiments", type=Path, default=OURS, metavar="FILE", help="a file of one's own")


def run(args: argparse.Namespace) -> int:
    """0: every control failed and the kit held, each time; 1: something did not; 2: it could not be run."""
    try:
        suite = load_suite(args.experiments)
        if args.action == "list":
            print("\n".join(list_faults() if args.faults else list_experiments(suite)))
            return 0
        chosen = _chosen(suite, args)
        return asyncio.run(_run_until_signal(suite, chosen, args))
    except (ExperimentError, EmulatorError, BackingError) as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 2


def _times(text: str) -> int:
    times = int(text)
    if times < 1:
        raise argparse.ArgumentTypeError("a number from 1")
    return times


def _chosen(suite: Suite, args: argparse.Namespace) -> list[Experiment]:
    if bool(args.names) == args.all:
        raise ExperimentError("name the experiments to run, or give --all; `warmfront lab list` shows them")
    for name in args.variant:
        suite.variant_named(name)
    chosen = suite.experiment if args.all else [suite.find(name) for name in args.names]
    return [with_operations(each, args.operations) if args.operations else each for each in chosen]


def list_experiments(suite: Suite) -> list[str]:
    lines, total_s = [], 0.0
    for experiment in suite.experiment:
        subjects = 1 + len([name for name in experiment.variants if name != experiment.control.name])
        seconds = (subjects if experiment.alone else 1) * (experiment.duration_s + OVERHEAD_S)
        total_s += seconds
        broken = ", ".join(dict.fromkeys(_broken(experiment))) or experiment.procedure
        lines.append(
            f"{experiment.id:<4}{experiment.name:<20}{experiment.family:<12}{broken:<50}about {seconds:3.0f} s"
        )
        lines.append(f"    {experiment.hypothesis}")
    return [*lines, f"{len(suite.experiment)} experiments, {total_s / 60:.0f} minutes"]


def _broken(experiment: Experiment) -> Iterable[str]:
    return (f"{fault.kind} on {fault.on}" if fault.on else fault.kind for fault in experiment.fault)


def list_faults() -> list[str]:
    lines = ["On a connection (on = postgres or redis; direction = upstream, downstream or both; share):"]
    for name, kind in FAULT_KINDS.items():
        settings = ", ".join(f"{setting} = {value:g}" for setting, value in kind.settings.items())
        lines.append(f"  {name:<22}{kind.says}{f' ({settings})' if settings else ''}")
    return [*lines, "On processes and servers:", *(f"  {name}" for name in FAULTS)]


async def _run_until_signal(suite: Suite, chosen: Sequence[Experiment], args: argparse.Namespace) -> int:
    """As a shell tells it: 128 and the signal's number, once faults are off and everything that was started has ended."""
    with cancelled_by_signals() as came:
        try:
            return await _run(suite, chosen, args)
        except asyncio.CancelledError:
            if not came:
                raise
            print(f"warmfront: ended by {signal.Signals(came[0]).name}; nothing was written", file=sys.stderr)
            return 128 + came[0]


async def _run(suite: Suite, chosen: Sequence[Experiment], args: argparse.Namespace) -> int:
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {text}", file=sys.stderr, flush=True)

    repeats: list[Repeats] = []
    async with contextlib.AsyncExitStack() as exits:
        count = 1 if args.in_turn else 1 + sum(each.compared for each in suite.variant)
        stages = await asyncio.gather(*(exits.enter_async_context(Stage()) for _ in range(count)))
        engine = Engine(suite, args.experiments.parent, args.template, stages, say)
        await engine.look()
        for number, experiment in enumerate(chosen, start=1):
            say(f"[{number} of {len(chosen)}]")
            runs = [await engine.run(experiment, seed=args.seed, only=args.variant) for _ in range(args.repeat)]
            repeats.append(Repeats(runs))
            print("\n".join(lessons(runs[0])), file=sys.stderr)
        backing = {"postgres": stages[0].postgres.describe(), "redis": stages[0].redis.describe()}
    print("\n".join(table([each.reports[0] for each in repeats])))
    if args.repeat > 1:
        print("\n".join(each.line(args.seed) for each in repeats))
    if args.output:
        results.write_result(result_of(repeats, backing=backing, seed=args.seed), args.output)
        print(f"written to {args.output}", file=sys.stderr)
    held = all(report.holds for each in repeats for report in each.reports if report.applies)
    return 0 if held and all(each.same for each in repeats) else 1


def lessons(report: ExperimentReport) -> list[str]:
    learned = report.experiment.lessons
    return [f"  broke: {learned.broke}", f"  held:  {learned.held}", f"  where: {learned.file}"]


def table(reports: Sequence[ExperimentReport]) -> list[str]:
    """Control and variants side by side; below each experiment the figure that decided for each of them."""
    names = [each.subject for each in reports[0].variants] if reports else []
    head = f"{'experiment':<28}{'control':<12}" + "".join(f"{name:<14}" for name in names)
    lines = [head.rstrip(), "-" * len(head.rstrip())]
    for report in reports:
        mark = "" if report.holds or not report.applies else "  <- does not hold"
        outcomes = "".join(f"{each.verdict.outcome:<14}" for each in report.variants)
        title = f"{report.experiment.id} {report.experiment.name}"
        lines.append(f"{title:<28}{report.control.verdict.outcome:<12}{outcomes}".rstrip() + mark)
        lines += [f"    {each.subject + ':':<24}{_verdict_text(each)}" for each in subjects(report)]
    applied = [report for report in reports if report.applies]
    held = sum(report.holds for report in applied)
    return [*lines, f"{held} of {len(applied)} experiments: the control failed, and the kit held"]


def _verdict_text(report: SubjectReport) -> str:
    """What is only there to be compared with need not break, and then it is said."""
    spared = report.verdict.outcome == "pass" and not report.expected_to_hold
    return f"did not break: {report.verdict.figure}" if spared else report.verdict.figure


def subjects(report: ExperimentReport) -> list[SubjectReport]:
    """The control and the variants that ran, each once."""
    ran = [each for each in report.variants if each.verdict.outcome != "n/a"]
    return ran if any(each.subject == report.control.subject for each in ran) else [report.control, *ran]


def result_of(repeats: Sequence[Repeats], *, backing: dict[str, Any], seed: int) -> results.Result:
    """Of each experiment its first run; of the others the verdicts."""
    reports = [each.reports[0] for each in repeats]
    return results.Result(
        kind="lab",
        created=provenance.now_iso(),
        command=shlex.join(["warmfront", *sys.argv[1:]]),
        machine=provenance.machine(),
        versions=provenance.versions(),
        backing=backing,
        settings={
            "seed": seed,
            "experiments": {report.experiment.id: _details(report) for report in reports},
            "verdicts": {each.reports[0].experiment.id: [verdicts(run) for run in each.reports] for each in repeats},
        },
        variants=tuple(
            results.Variant(name) for name in ([each.subject for each in reports[0].variants] if reports else [])
        ),
        experiments=tuple(_entry(report) for report in reports),
    )


def _entry(report: ExperimentReport) -> results.Experiment:
    title = f"{report.experiment.id} {report.experiment.name}"
    return results.Experiment(
        name=title,
        question=report.experiment.hypothesis,
        lessons={
            "broke": report.experiment.lessons.broke,
            "held": report.experiment.lessons.held,
            "file": report.experiment.lessons.file,
        },
        control=results.Verdict(
            report.control.verdict.outcome, report.control.verdict.figure, name=report.control.subject
        ),
        variants=tuple(
            results.Verdict(each.verdict.outcome, each.verdict.figure, variant=each.subject) for each in report.variants
        ),
        series=tuple(
            results.Series(curve.name, curve.unit, curve.t_s, curve.values, variant=each.subject, workload=title)
            for each in subjects(report)
            for curve in each.observation.curves
        ),
        spans=tuple(
            results.Span(span.kind, span.label, span.start_s, span.end_s, variant=each.subject, workload=title)
            for each in subjects(report)
            for span in each.observation.spans
        ),
    )


def _details(report: ExperimentReport) -> dict[str, Any]:
    """What a reader needs to run it again and to look closer."""
    experiment = report.experiment
    learned = experiment.lessons
    return {
        "family": experiment.family,
        "faults": list(_broken(experiment)),
        "settings": dict(experiment.settings),
        "lessons": {"broke": learned.broke, "held": learned.held, "file": learned.file},
        "measures": {each.subject: jsonable(each.observation.measures) for each in subjects(report)},
        "examples": {each.subject: list(each.observation.examples) for each in subjects(report)},
    }
