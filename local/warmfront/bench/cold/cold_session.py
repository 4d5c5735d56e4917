"""Runs `warmfront cold` in its order: set-up, cold starts in turns, crowds, import trees, validity."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TextIO

from warmfront import provenance, results
from warmfront.bench.run import cold_stages as stages
from warmfront.bench.run.accounting import pss_bytes
from warmfront.bench.run.emulator_process import Control, EmulatorError
from warmfront.bench.run.progress import Progress
from warmfront.bench.statistics import percentiles, summary
from warmfront.results import Anatomy, Check, Cold, Comparison, Result, Series, Summary, Validity

from . import init_anatomy, ramp, thaw
from .caller import Caller
from .cold_options import AHEAD, WAYS, ColdOptions, N, Subject
from .site import Sites, environments, rest

BARE = "python -c pass"
UNACCOUNTED_MAX = 0.05


def run_cold(options: ColdOptions, *, stream: TextIO | None = None) -> Result:
    """Runs it all; nothing that was started is left behind, however this ends."""
    with ExitStack() as stack:
        return Session(options, Progress(stream or sys.stderr), stack).run()


@dataclass(slots=True)
class Found:
    """What one function showed with one way to start."""

    stages: list[dict[str, float]] = field(default_factory=list)
    ready_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    warm_ms: list[list[float]] = field(
        default_factory=list
    )  # for each cold start: the next invocations of the same environment
    crowd_ms: list[float] = field(default_factory=list)
    crowd_bytes: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Session:
    options: ColdOptions
    progress: Progress
    stack: ExitStack
    found: dict[tuple[str, str], Found] = field(default_factory=dict)  # (way, function)
    bare_ms: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    anatomies: list[Anatomy] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    more: list[Summary] = field(default_factory=list)

    def run(self) -> Result:
        options = self.options
        sites = Sites(options, self.stack, self.progress.phase)
        self._set_up(sites)
        self.found = {(way, subject.function): Found() for way in options.ways for subject in options.subjects}
        self._cold_starts(sites)
        self._crowds(sites)
        if options.thaw:
            self.more += thaw.measure(sites, options, self.progress)
        if options.ramp:
            summaries, series = ramp.measure(sites, options, self.progress)
            self.more += summaries
            self.series += series
        if options.anatomy_runs:
            self.progress.phase("taking an init apart")
            self.anatomies += init_anatomy.measure(sites, options)
        self.progress.end()
        return self._result(sites)

    def _set_up(self, sites: Sites) -> None:
        control = next(iter(sites.controls.values()))
        known = control.state().functions
        for subject in self.options.subjects:
            if subject.function not in known:
                raise EmulatorError(f"{self.options.template} has no function {subject.function}: {', '.join(known)}")
        file = self.options.setup
        names = {subject.function for subject in self.options.subjects}
        variants = tuple(each.name for each in file.variants if each.function in names) if file is not None else ()
        for call in file.setup_for(variants) if file is not None and variants else ():
            self.progress.phase(f"set-up: {call.function}")
            control.invoke(call.function, call.event)

    # One at a time

    def _cold_starts(self, sites: Sites) -> None:
        options = self.options
        order = random.Random(f"order {options.seed}")
        pairs = [(way, subject) for way in options.ways for subject in options.subjects]
        self.progress.phase(f"{options.n} first invocations of {len(pairs)} kinds, in turns")
        for number in range(options.n):
            self.bare_ms.append(bare_interpreter_ms())
            for way, subject in order.sample(pairs, len(pairs)):
                self.progress.step(number + 1, options.n, f"{subject.function} {way}")
                self._first_invocation(sites, way, subject)

    def _first_invocation(self, sites: Sites, way: str, subject: Subject) -> None:
        control, found = sites.controls[way], self.found[way, subject.function]
        known = {init["environment"] for init in control.inits(subject.function)}
        with Caller(control.target, subject.function, subject.event) as caller:
            sites.fresh(way, subject.function)
            first = caller.call()
            if first.problem:
                raise EmulatorError(f"{subject.function} ({subject.described}) answered {first.problem}")
            new = [each for each in control.inits(subject.function) if each["environment"] not in known]
            if not new:
                raise EmulatorError(
                    f"{subject.function}, {way}: an existing environment served the invocation, so it was no cold start"
                )
            found.warm_ms.append([caller.call().latency_ms for _ in range(self.options.warm)])
        init = new[-1]
        found.stages.append(stages.stages_of(init, first_byte_ns=first.first_byte_ns, ahead=way in AHEAD))
        found.ready_ms.append(stages.ready_ms(init))
        found.latency_ms.append(first.latency_ms)

    # Many at once

    def _crowds(self, sites: Sites) -> None:
        options = self.options
        if not options.crowd:
            return
        self.progress.phase(f"{options.crowd} environments at once")
        for _ in range(options.crowd_rounds):
            for way in [each for each in options.ways if each in ("on-demand", "snap-start")]:
                for subject in options.subjects:
                    self._crowd(sites.controls[way], subject.function, self.found[way, subject.function])

    def _crowd(self, control: Control, function: str, found: Found) -> None:
        control.retire(function)
        rest(control)
        answer = control.start(function, self.options.crowd)
        if answer["failed"]:
            raise EmulatorError(f"{answer['failed']} of {self.options.crowd} environments of {function} did not start")
        found.crowd_ms.append((answer["ready_ns"] - answer["began_ns"]) / 1e6)
        pids = [pid for each in environments(control, function) for pid in each.get("pids") or [each["pid"]]]
        snapshot = control.describe()["functions"][function].get("snapshot") or {}
        found.crowd_bytes.append(sum(map(pss_bytes, [*pids, *([snapshot["pid"]] if snapshot.get("pid") else [])])))
        control.retire(function)

    # What came of it

    def _result(self, sites: Sites) -> Result:
        cold = [self._cold(way, function) for way, function in self.found]
        summaries, comparisons = summary.summarise_cold(cold, seed=self.options.seed)
        checks = self._checks()
        return Result(
            kind="cold",
            created=provenance.now_iso(),
            command=self.options.command,
            machine=provenance.machine(),
            versions=provenance.versions(),
            backing={name: about for name, about in sites.backing.items() if about},
            settings=self._settings(),
            validity=Validity(all(check.passed for check in checks), checks),
            variants=tuple(
                results.Variant(subject.function, function=subject.function, description=subject.described)
                for subject in self.options.subjects
            ),
            summaries=(*summaries, *self._summaries(), *self.more),
            cold=tuple(cold),
            comparisons=(*comparisons, *self._comparisons()),
            anatomies=tuple(self.anatomies),
            series=tuple(self.series),
            ways=self._ways(),
            warnings=tuple(self.warnings),
        )

    def _cold(self, way: str, function: str) -> Cold:
        found = self.found[way, function]
        return Cold(function, function, len(found.stages), tuple(found.stages), way=way)

    def _summaries(self) -> list[Summary]:
        rows = [_summary("interpreter", BARE, "p50", "ms", self.bare_ms, 0.5)]
        for (way, function), found in self.found.items():
            warm = [each for after in found.warm_ms for each in after]
            rows.append(_summary(f"ready {way}", function, "p50", "ms", found.ready_ms, 0.5))
            rows.append(_summary(f"ready {way}", function, "p95", "ms", found.ready_ms, 0.95))
            for metric, q in (("p50", 0.5), ("p95", 0.95)):
                rows.append(_summary(f"warm {way}", function, metric, "ms", warm, q))
            if found.crowd_ms:
                megabytes = [value / summary.MIB for value in found.crowd_bytes]
                rows.append(_few(f"crowd {way}", function, "ready", "ms", found.crowd_ms))
                rows.append(_few(f"crowd {way}", function, "memory", "MB", megabytes))
        return rows

    def _comparisons(self) -> list[Comparison]:
        rows: list[Comparison] = []
        bare = Cold(BARE, BARE, len(self.bare_ms), tuple({stages.WHOLE: each} for each in self.bare_ms))
        for subject in self.options.subjects:
            function = subject.function
            baseline = self.found.get(("on-demand", function))
            if baseline is None:
                continue
            old = summary.cold_figures_of(self._whole_and_ready("on-demand", function))
            rows += summary.compare_figures("interpreter", function, BARE, old, summary.cold_figures_of(bare, seed=1))
            for way in [each for each in self.options.ways if each != "on-demand"]:
                new = summary.cold_figures_of(self._whole_and_ready(way, function), seed=2)
                rows += summary.compare_figures(f"way {function}", "on-demand", way, old, new)
                found = self.found[way, function]
                if found.crowd_ms:
                    rows.append(_ratio(f"crowd {function}", "ready", "ms", way, baseline.crowd_ms, found.crowd_ms))
                    rows.append(
                        _ratio(f"crowd {function}", "memory", "B", way, baseline.crowd_bytes, found.crowd_bytes)
                    )
        return rows

    def _whole_and_ready(self, way: str, function: str) -> Cold:
        found = self.found[way, function]
        pairs = zip(found.stages, found.ready_ms, strict=True)
        samples = tuple({stages.WHOLE: each[stages.WHOLE], "ready": ready} for each, ready in pairs)
        return Cold(function, function, len(samples), samples, way=way)

    def _ways(self) -> dict[str, dict[str, dict[str, float]]]:
        """Of one function by way; of several by function and way."""
        several = len(self.options.subjects) > 1
        return {
            f"{function} {way}" if several else way: {
                "ready_ms": _percentiles(found.ready_ms),
                "first_byte_ms": _percentiles([each[stages.WHOLE] for each in found.stages]),
                "warm_ms": _percentiles([each for after in found.warm_ms for each in after]),
                **{
                    f"{stage}_ms": _percentiles([each.get(stage, 0.0) for each in found.stages])
                    for stage in dict.fromkeys(name for each in found.stages for name in each)
                    if stage != stages.WHOLE
                },
            }
            for (way, function), found in self.found.items()
        }

    def _checks(self) -> tuple[Check, ...]:
        n = self.options.n
        advice = "" if n >= N else f"leave out --n, or name {N} or more"
        checks = [Check("first invocations of each kind", n, N, "", n >= N, advice)]
        pairs = [
            (each, latency)
            for (way, _), found in self.found.items()
            if way not in AHEAD
            for each, latency in zip(found.stages, found.latency_ms, strict=True)
        ]
        if pairs:
            share = stages.unaccounted(pairs)
            advice = "" if share <= UNACCOUNTED_MAX else "the machine was busy between the stages; run again"
            checks.append(
                Check(
                    "stages against the whole", round(share, 4), UNACCOUNTED_MAX, "", share <= UNACCOUNTED_MAX, advice
                )
            )
        return tuple(checks)

    def _settings(self) -> dict[str, object]:
        options = self.options
        return {
            "n": options.n,
            "ways": list(options.ways),
            "warm": options.warm,
            "crowd": options.crowd,
            "anatomy_runs": options.anatomy_runs,
            "template": options.template.name,
            "events": {subject.function: subject.described for subject in options.subjects},
            "interpreter": f"{sys.implementation.name} {sys.version.split()[0]}",
            "seed": options.seed,
        }


def bare_interpreter_ms() -> float:
    """`python -c pass` of the interpreter that environments run, from its spawn to its end."""
    began = time.monotonic_ns()
    subprocess.run(
        [os.path.realpath(sys.executable), "-c", "pass"], check=True, stdin=subprocess.DEVNULL, env={"LANG": "C.UTF-8"}
    )
    return (time.monotonic_ns() - began) / 1e6


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        "p50": percentiles.percentile(values, 0.5),
        "p95": percentiles.percentile(values, 0.95),
        "n": float(len(values)),
    }


def _summary(workload: str, variant: str, metric: str, unit: str, values: Sequence[float], q: float) -> Summary:
    around = percentiles.order_statistics_interval(values, q)
    return Summary(workload, variant, metric, unit, around.value, around.low, around.high, len(values))


def _few(workload: str, variant: str, metric: str, unit: str, values: Sequence[float]) -> Summary:
    """The median of a few rounds, between the smallest and the largest."""
    return Summary(workload, variant, metric, unit, median(values), min(values), max(values), len(values))


def _ratio(workload: str, metric: str, unit: str, way: str, old: Sequence[float], new: Sequence[float]) -> Comparison:
    ratios = [before / after for before, after in zip(old, new, strict=True)]
    value = median(old) / median(new)
    return Comparison(
        workload,
        metric,
        unit,
        "on-demand",
        way,
        median(old),
        median(new),
        value,
        min(value, *ratios),
        max(value, *ratios),
    )


def chosen_ways(text: str) -> tuple[str, ...]:
    """Raises ValueError, naming what there is."""
    names = WAYS if text == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in WAYS:
            raise ValueError(f"{name!r} is not a way to start; choose from {', '.join(WAYS)} and all")
    return tuple(dict.fromkeys(names))
