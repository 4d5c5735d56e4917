"""Compares the verdicts of repeated runs of one experiment with one seed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmfront.lab.engine import ExperimentReport


def verdicts(report: ExperimentReport) -> Mapping[str, str]:
    """Return the outcome by subject. The control's key is a name that no variant has."""
    return {f"control {report.control.subject}": report.control.verdict.outcome} | {
        each.subject: each.verdict.outcome for each in report.variants
    }


@dataclass(frozen=True, slots=True)
class Repeats:
    """Reports of one experiment that was run repeatedly."""

    reports: Sequence[ExperimentReport]

    @property
    def alike(self) -> int:
        """How many runs have the most frequent combination of verdicts."""
        return max(Counter(tuple(sorted(verdicts(each).items())) for each in self.reports).values())

    @property
    def same(self) -> bool:
        """Whether all runs have the same verdicts, right or wrong."""
        return self.alike == len(self.reports)

    def line(self, seed: int) -> str:
        experiment = self.reports[0].experiment
        whole = f"{experiment.id} {experiment.name}, seed {seed}: the same verdicts {self.alike} times of {len(self.reports)}"
        found = {name: [verdicts(each)[name] for each in self.reports] for name in verdicts(self.reports[0])}
        told = (f"{name} {_counted(outcomes)}" for name, outcomes in found.items())
        return f"{whole} ({'; '.join(told)})"


def _counted(outcomes: Sequence[str]) -> str:
    """`pass`, or `4 x pass, 1 x fail`."""
    counts = Counter(outcomes)
    return outcomes[0] if len(counts) == 1 else ", ".join(f"{n} x {outcome}" for outcome, n in counts.most_common())
