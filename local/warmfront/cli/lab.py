"""`warmfront lab`: lists and runs experiments, prints their verdicts and writes a result."""

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

from rich.text import Text

from warmfront import provenance, results
from warmfront.backing.errors import BackingError
from warmfront.cli.console import print_lines
from warmfront.lab.emulator_process import EmulatorError
from warmfront.lab.engine import Engine, ExperimentReport, SubjectReport, jsonable, with_operations
from warmfront.lab.experiments import OURS, Experiment, ExperimentError, Suite, load_suite
from warmfront.lab.repeats import Repeats, verdicts
from warmfront.lab.scene import FAULTS
from warmfront.lab.signals import cancelled_by_signals
from warmfront.lab.stage import Stage
from warmfront.lab.tcp_faults import FAULT_KINDS

OUTCOME_STYLES = {"pass": "green", "fail": "red", "error": "bold red"}
OVERHEAD_S = 7.0  # to start the subjects' emulators, data and environments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|run")
    listing = actions.add_parser("list", help="list the experiments, what they break and how long they take")
    listing.add_argument(
        "--faults", action="store_true", help="list the faults that an experiment can use, with their settings"
    )
    running = actions.add_parser("run", help="run experiments by id or name")
    running.add_argument("names", nargs="*", metavar="NAME", help="such as B1 or slow-database")
    running.add_argument("--all", action="store_true", help="run every experiment, one after the other")
    running.add_argument(
        "--variant", action="append", default=[], help="run only this variant and the control (repeatable)"
    )
    running.add_argument(
        "--seed", type=int, default=1, help="seed of the faults; the same seed gives the same faults (default: 1)"
    )
    running.add_argument(
        "--repeat",
        type=_times,
        default=1,
        metavar="N",
        help="run N times with the same seed, and check that the verdicts agree",
    )
    running.add_argument(
        "--in-turn",
        action="store_true",
        help="run the subjects one after the other on one Postgres, instead of at the same time",
    )
    running.add_argument("--operations", type=int, help="number of operations in each experiment that counts them")
    running.add_argument("--output", type=Path, metavar="FILE", help="write the result as JSON")
    running.add_argument("-t", "--template", type=Path, default=Path("template.yaml"), help="SAM template under test")
    for each in (listing, running):
        each.add_argument(
            "--experiments", type=Path, default=OURS, metavar="FILE", help="experiments file (default: the shop's)"
        )


def run(args: argparse.Namespace) -> int:
    """List or run experiments. Exit status: 0 every control failed and the kit held, 1 not so, 2 could not run."""
    try:
        suite = load_suite(args.experiments)
        if args.action == "list":
            print_lines(list_faults() if args.faults else list_experiments(suite))
            return 0
        chosen = _chosen(suite, args)
        return asyncio.run(_run_until_signal(suite, chosen, args))
    except (ExperimentError, EmulatorError, BackingError) as error:
        print(f"warmfront: {error}", file=sys.stderr)
        return 2


def _times(text: str) -> int:
    times = int(text)
    if times < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return times


def _chosen(suite: Suite, args: argparse.Namespace) -> list[Experiment]:
    if bool(args.names) == args.all:
        raise ExperimentError("name the experiments to run, or give --all; `warmfront lab list` shows them")
    for name in args.variant:
        suite.variant_named(name)
    chosen = suite.experiment if args.all else [suite.find(name) for name in args.names]
    return [with_operations(each, args.operations) if args.operations else each for each in chosen]


def list_experiments(suite: Suite) -> list[Text]:
    """Return a table of the experiments as lines."""
    lines: list[Text] = []
    total_s = 0.0
    for experiment in suite.experiment:
        subjects = 1 + len([name for name in experiment.variants if name != experiment.control.name])
        seconds = (subjects if experiment.alone else 1) * (experiment.duration_s + OVERHEAD_S)
        total_s += seconds
        broken = ", ".join(dict.fromkeys(_broken(experiment))) or experiment.procedure
        title = (f"{experiment.id:<4}{experiment.name:<20}", "bold")
        lines.append(Text.assemble(title, f"{experiment.family:<12}{broken:<50}about {seconds:3.0f} s"))
        lines.append(Text(f"    {experiment.hypothesis}", "dim"))
    return [*lines, Text(f"{len(suite.experiment)} experiments, {total_s / 60:.0f} minutes")]


def _broken(experiment: Experiment) -> Iterable[str]:
    return (f"{fault.kind} on {fault.on}" if fault.on else fault.kind for fault in experiment.fault)


def list_faults() -> list[Text]:
    """Return the faults and their settings as lines."""
    lines = [Text("On a connection (on = postgres or redis; direction = upstream, downstream or both; share):", "bold")]
    for name, kind in FAULT_KINDS.items():
        settings = ", ".join(f"{setting} = {value:g}" for setting, value in kind.settings.items())
        lines.append(Text(f"  {name:<22}{kind.says}{f' ({settings})' if settings else ''}"))
    return [*lines, Text("On processes and servers:", "bold"), *(Text(f"  {name}") for name in FAULTS)]


async def _run_until_signal(suite: Suite, chosen: Sequence[Experiment], args: argparse.Namespace) -> int:
    """Run; after a signal, remove all faults, end all processes and return 128 plus the signal's number, as shells do."""
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
    print_lines(table([each.reports[0] for each in repeats]))
    if args.repeat > 1:
        print("\n".join(each.line(args.seed) for each in repeats))
    if args.output:
        results.write_result(result_of(repeats, backing=backing, seed=args.seed), args.output)
        print(f"written to {args.output}", file=sys.stderr)
    held = all(report.holds for each in repeats for report in each.reports if report.applies)
    return 0 if held and all(each.same for each in repeats) else 1


def lessons(report: ExperimentReport) -> list[str]:
    """Return what broke, what held and where the code is, as lines."""
    learned = report.experiment.lessons
    return [f"  broke: {learned.broke}", f"  held:  {learned.held}", f"  where: {learned.file}"]


def table(reports: Sequence[ExperimentReport]) -> list[Text]:
    """Return a table of verdicts as lines: control and variants, and below each experiment the figures that decided."""
    names = [each.subject for each in reports[0].variants] if reports else []
    head = f"{'experiment':<28}{'control':<12}" + "".join(f"{name:<14}" for name in names)
    lines = [Text(head.rstrip(), "bold"), Text("-" * len(head.rstrip()))]
    for report in reports:
        # Not coloured: a control is meant to fail.
        row = Text(f"{report.experiment.id + ' ' + report.experiment.name:<28}{report.control.verdict.outcome:<12}")
        for each in report.variants:
            row.append(f"{each.verdict.outcome:<14}", OUTCOME_STYLES.get(each.verdict.outcome, "dim"))
        row.rstrip()
        if report.applies and not report.holds:
            row.append("  <- does not hold", "bold red")
        lines.append(row)
        lines += [Text(f"    {each.subject + ':':<24}{_verdict_text(each)}") for each in subjects(report)]
    applied = [report for report in reports if report.applies]
    held = sum(report.holds for report in applied)
    return [*lines, Text(f"{held} of {len(applied)} experiments: the control failed, and the kit held")]


def _verdict_text(report: SubjectReport) -> str:
    """The deciding figure, with a note where a control passed although it may fail."""
    unharmed = report.verdict.outcome == "pass" and not report.expected_to_hold
    return f"did not break: {report.verdict.figure}" if unharmed else report.verdict.figure


def subjects(report: ExperimentReport) -> list[SubjectReport]:
    """Return the control and the variants that ran, each once."""
    ran = [each for each in report.variants if each.verdict.outcome != "n/a"]
    return ran if any(each.subject == report.control.subject for each in ran) else [report.control, *ran]


def result_of(repeats: Sequence[Repeats], *, backing: dict[str, Any], seed: int) -> results.Result:
    """Build the result: the first run of each experiment, and the verdicts of all runs."""
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
    """Settings, measures and examples, for running it again and for a closer look."""
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
