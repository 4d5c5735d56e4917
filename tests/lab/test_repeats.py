"""Repeated runs with one seed are compared subject by subject, the control included."""

import pytest
from warmfront.lab.engine import ExperimentReport, SubjectReport
from warmfront.lab.experiments import Outcome, Verdict, load_suite
from warmfront.lab.repeats import Repeats


def report(control: Outcome, *variants: Outcome) -> ExperimentReport:
    names = ("naive", "pooled", "distributed")
    return ExperimentReport(
        load_suite().find("B1"),
        SubjectReport("breaker off", Verdict(control, "p99 9")),
        tuple(SubjectReport(name, Verdict(each, "p99 1")) for name, each in zip(names, variants, strict=True)),
    )


USUAL = report("fail", "fail", "pass", "pass")


def test_the_same_of_every_subject_each_time_is_the_same() -> None:
    repeats = Repeats([USUAL] * 5)
    assert repeats.same
    assert repeats.line(7) == (
        "B1 slow-database, seed 7: the same verdicts 5 times of 5 "
        "(control breaker off fail; naive fail; pooled pass; distributed pass)"
    )


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (report("pass", "fail", "pass", "pass"), "control breaker off 4 x fail, 1 x pass"),
        (report("fail", "pass", "pass", "pass"), "naive 4 x fail, 1 x pass"),
        (report("fail", "fail", "pass", "error"), "distributed 4 x pass, 1 x error"),
    ],
)
def test_one_subject_that_differs_once_is_not_the_same_and_is_told(other: ExperimentReport, told: str) -> None:
    repeats = Repeats([USUAL, USUAL, other, USUAL, USUAL])
    assert not repeats.same
    assert repeats.alike == 4
    assert told in repeats.line(7)


def test_two_that_differ_in_different_ways_are_not_alike() -> None:
    others = [report("fail", "fail", "pass", "fail"), report("fail", "fail", "fail", "pass")]
    assert Repeats([USUAL, USUAL, USUAL, *others]).alike == 3
