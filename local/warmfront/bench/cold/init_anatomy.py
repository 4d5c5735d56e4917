"""Records one function's init from inside its process: imports, module code and the first invocation's waits.

Recording slows these environments down, so only the import tree comes from them and no other figure.
"""

import ast
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from warmfront.bench.run.emulator_process import Control, EmulatorError
from warmfront.results import Anatomy, FirstSpan

from . import imports
from .caller import Caller
from .cold_options import ColdOptions, Subject
from .imports import Record
from .site import Sites, rest

SHORTEST_MS = 0.2
"""Late imports below this are not listed."""


def measure(sites: Sites, options: ColdOptions) -> list[Anatomy]:
    with tempfile.TemporaryDirectory(prefix="warmfront-anatomy-") as name:
        folder = Path(name)
        (folder / "wanted").write_text("time")
        with sites.emulator("on-demand", {"WARMFRONT_ANATOMY": str(folder)}) as emulator:
            return [_one(emulator.control, folder, subject, options.anatomy_runs) for subject in options.subjects]


def _one(control: Control, folder: Path, subject: Subject, runs: int) -> Anatomy:
    (folder / "wanted").write_text("time")
    timed = [_record(control, folder, subject) for _ in range(runs)]
    (folder / "wanted").write_text("structure")
    return anatomy_of(subject, timed, _record(control, folder, subject))


def _record(control: Control, folder: Path, subject: Subject) -> Record:
    """One fresh process that notes what it does."""
    for old in folder.glob("*.anatomy"):
        old.unlink()
    control.retire(subject.function)
    rest(control)
    with Caller(control.target, subject.function, subject.event) as caller:
        call = caller.call()
    if call.problem:
        raise EmulatorError(f"{subject.function} ({subject.described}) answered {call.problem}")
    found = list(folder.glob("*.anatomy"))
    if len(found) != 1:
        raise EmulatorError(f"{subject.function}: {len(found)} processes noted their imports; one was expected")
    return Record.of(ast.literal_eval(found[0].read_text(encoding="utf-8")))


def anatomy_of(subject: Subject, timed: Sequence[Record], structure: Record) -> Anatomy:
    modules = imports.modules_of(timed, structure)
    return Anatomy(
        function=subject.function,
        event=subject.described,
        runs=len(timed),
        imports=imports.tree_of(modules),
        module_code_ms=imports.module_code_ms(modules),
        spans=first_spans(timed),
        advice=imports.advice_of(modules, structure.handler.rpartition(".")[0]),
        n_modules=len(modules),
    )


def first_spans(timed: Sequence[Record]) -> tuple[FirstSpan, ...]:
    """What the first invocation waited for, in the median; spans inside others are deeper."""
    by_run = [_spans_of(record) for record in timed]
    if not by_run:
        return ()
    last = by_run[-1]
    found = []
    for span in last:
        same = [other for run in by_run for other in run if (other.name, other.detail) == (span.name, span.detail)]
        found.append(
            FirstSpan(
                span.name,
                median(each.at_ms for each in same),
                median(each.ms for each in same),
                span.depth,
                span.detail,
            )
        )
    return tuple(sorted(found, key=lambda each: each.at_ms))


def _spans_of(record: Record) -> list[FirstSpan]:
    """After the end of init: its spans and the imports that came late."""
    spans = [
        (str(each["name"]), str(each["detail"]), int(each["start_ns"]), int(each["end_ns"]))
        for each in record.spans
        if each["end_ns"]
    ]
    spans += [
        (f"import {name}", "", start, end)
        for name, start, end in imports.late_imports(record)
        if end - start >= SHORTEST_MS * 1e6
    ]
    began = min((start for _, _, start, _ in spans), default=0)
    return [
        FirstSpan(
            name,
            (start - began) / 1e6,
            (end - start) / 1e6,
            sum(
                1 for _, _, other, until in spans if other <= start and end <= until and (other, until) != (start, end)
            ),
            detail,
        )
        for name, detail, start, end in spans
    ]
