"""Figures and verdicts of handmade timelines."""

import math
from pathlib import Path
from typing import Any

import pytest
from warmfront.lab.experiments import Criterion, ExperimentError, Phases, judge, load_suite
from warmfront.lab.measures import Sample, curves, measure, quantile

PHASES = Phases(before_s=2, during_s=4, after_s=3)


def served(due_s: float, latency_s: float = 0.01) -> Sample:
    return Sample(due_s, latency_s, 200, ok=True)


def failed(due_s: float, latency_s: float = 0.01, status: int = 500) -> Sample:
    return Sample(due_s, latency_s, status, ok=False)


def timeline(bad_from_s: float = 99, bad_to_s: float = 99, bad: Any = failed) -> list[Sample]:
    """Ten requests per second for nine seconds, with bad ones in one interval."""
    times = [number / 10 for number in range(90)]
    return [bad(at) if bad_from_s <= at < bad_to_s else served(at) for at in times]


def figures(samples: list[Sample], budget_ms: float = 500) -> dict[str, float]:
    return measure(samples, PHASES, budget_ms=budget_ms)


class TestPhases:
    def test_a_healthy_run_is_healthy_in_every_phase(self) -> None:
        found = figures(timeline())
        for phase, goodput in (("before", 10), ("during", 10), ("after", 10)):
            assert found[f"{phase}.ok_share"] == 1
            assert found[f"{phase}.goodput"] == pytest.approx(goodput)
            assert found[f"{phase}.p99_ms"] == pytest.approx(10)
        assert found["recovery_s"] == 0
        assert found["goodput_kept"] == pytest.approx(1)

    def test_an_outage_shows_in_its_phase_and_nowhere_else(self) -> None:
        found = figures(timeline(2, 6))
        assert (found["before.ok_share"], found["during.ok_share"], found["after.ok_share"]) == (1, 0, 1)
        assert found["during.error_500_share"] == 1
        assert found["goodput_kept"] == 0

    def test_an_answer_after_the_budget_is_no_goodput(self) -> None:
        found = figures(timeline(2, 6, bad=lambda at: served(at, 0.6)))
        assert found["during.ok_share"] == 1
        assert found["during.goodput"] == 0
        assert found["during.max_ms"] == pytest.approx(600)

    def test_a_phase_without_requests_is_not_measured_rather_than_perfect(self) -> None:
        found = figures([served(0.5)])
        assert math.isnan(found["during.ok_share"])
        assert math.isnan(found["recovery_s"])

    def test_a_request_that_got_no_answer_is_counted(self) -> None:
        assert figures(timeline(2, 4, bad=lambda at: failed(at, 5, 0)))["during.no_answer_share"] == 0.5

    def test_a_wrong_body_is_counted(self) -> None:
        wrong = Sample(3, 0.01, 200, ok=False, wrong_body=True)
        assert figures([*timeline(), wrong])["during.wrong_bodies"] == 1


class TestRecovery:
    def test_it_is_the_last_bad_request_after_the_fault(self) -> None:
        assert figures(timeline(2, 7.55))["recovery_s"] == pytest.approx(1.5)

    def test_a_run_that_fails_to_its_end_never_recovered(self) -> None:
        assert figures(timeline(2, 99))["recovery_s"] == math.inf

    def test_slow_answers_are_not_recovery(self) -> None:
        assert figures(timeline(2, 7.05, bad=lambda at: served(at, 3)))["recovery_s"] == pytest.approx(1)


class TestRefusal:
    def test_the_first_quick_503_tells_when_the_breaker_opened(self) -> None:
        def bad(at: float) -> Sample:
            return failed(at, 1.5, 504) if at < 4 else failed(at, 0.002, 503)

        assert figures(timeline(2, 6, bad=bad))["refuses_after_s"] == pytest.approx(2.002)

    def test_a_503_that_was_waited_for_is_none(self) -> None:
        assert figures(timeline(2, 6, bad=lambda at: failed(at, 1.5, 503)))["refuses_after_s"] == math.inf


class TestJudge:
    figures = {"during.p99_ms": 120.0, "during.ok_share": 0.97, "recovery_s": math.inf}  # noqa: RUF012

    def test_all_criteria_hold_and_all_are_shown(self) -> None:
        verdict = judge(
            [
                Criterion(measure="during.p99_ms", at_most=200, unit="ms"),
                Criterion(measure="during.ok_share", at_least=0.9, at_most=1),
            ],
            self.figures,
        )
        assert (verdict.outcome, verdict.figure) == (
            "pass",
            "during.p99_ms 120 ms (at most 200); during.ok_share 0.97 (at most 1, at least 0.9)",
        )

    def test_the_first_that_does_not_hold_decides(self) -> None:
        verdict = judge(
            [
                Criterion(measure="during.p99_ms", at_most=200),
                Criterion(measure="during.ok_share", at_least=0.99),
                Criterion(measure="recovery_s", at_most=3),
            ],
            self.figures,
        )
        assert (verdict.outcome, verdict.figure) == ("fail", "during.ok_share 0.97 (at least 0.99)")

    def test_never_is_not_at_most_anything(self) -> None:
        verdict = judge([Criterion(measure="recovery_s", at_most=3, unit="s")], self.figures)
        assert (verdict.outcome, verdict.figure) == ("fail", "recovery_s never (at most 3)")

    def test_what_was_not_measured_has_not_passed(self) -> None:
        for measured in ({}, {"x": math.nan}):
            assert judge([Criterion(measure="x", at_most=3)], measured).outcome == "fail"

    @pytest.mark.parametrize(("figure", "outcome"), [(2.9, "fail"), (3.0, "pass"), (4.0, "pass"), (4.1, "fail")])
    def test_bounds_are_part_of_what_passes(self, figure: float, outcome: str) -> None:
        assert judge([Criterion(measure="x", at_least=3, at_most=4)], {"x": figure}).outcome == outcome


def test_quantiles_are_nearest_rank() -> None:
    assert quantile([1, 2, 3, 4], 0.5) == 2
    assert quantile([1, 2, 3, 4], 0.99) == 4
    assert quantile(list(range(1, 101)), 0.99) == 99
    assert math.isnan(quantile([], 0.5))


def test_curves_show_the_outage_where_it_was() -> None:
    found = {curve.name: curve for curve in curves(timeline(2, 6), PHASES.end_s)}
    errors = dict(zip(found["errors"].t_s, found["errors"].values, strict=True))
    assert sum(value > 0 for at, value in errors.items() if 2 < at < 6) == 16
    assert sum(value > 0 for at, value in errors.items() if not 2 < at < 6) == 0
    assert len(found["throughput"].t_s) == 36


GOOD = """
workloads = "w.toml"
[[variant]]
name = "a"
function = "A"
prefix = "/a"
database = "a"
[[experiment]]
id = "X1"
name = "one"
family = "cascade"
hypothesis = "it holds"
variants = ["a"]
control = { name = "a", variant = "a" }
load = { workload = "w" }
lessons = { broke = "x", held = "y", file = "z" }
[[experiment.criterion]]
measure = "during.p99_ms"
at_most = 1
"""


class TestSuite:
    def suite(self, folder: Path, text: str) -> Any:
        path = folder / "suite.toml"
        path.write_text(text)
        return load_suite(path)

    def test_a_file_of_ones_own_is_read(self, tmp_path: Path) -> None:
        suite = self.suite(tmp_path, GOOD)
        assert suite.find("x1") is suite.find("ONE")
        assert suite.find("X1").duration_s == 11

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ('variants = ["a"]', 'variants = ["b"]', "no \\[\\[variant\\]\\] is named 'b'; there are: a"),
            ("at_most = 1", "", "needs at_most or at_least"),
            ('load = { workload = "w" }', "", "needs an \\[experiment.load\\]"),
            ('family = "cascade"', 'family = "other"', "family"),
            ('hypothesis = "it holds"', "hypotesis = 1", "hypotesis"),
            ('[[experiment.criterion]]\nmeasure = "during.p99_ms"\nat_most = 1', "", "criterion"),
        ],
    )
    def test_a_mistake_names_its_place(self, tmp_path: Path, old: str, new: str, says: str) -> None:
        with pytest.raises(ExperimentError, match=says):
            self.suite(tmp_path, GOOD.replace(old, new))

    def test_an_unknown_name_lists_those_there_are(self, tmp_path: Path) -> None:
        with pytest.raises(ExperimentError, match="no experiment 'Z9'; there are: X1 one"):
            self.suite(tmp_path, GOOD).find("Z9")

    def test_two_of_one_id_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ExperimentError, match="two experiments have the id 'X1'"):
            self.suite(tmp_path, GOOD + GOOD[GOOD.index("[[experiment]]") :])
