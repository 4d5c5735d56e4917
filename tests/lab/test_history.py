"""The checkers with histories that contain planted anomalies, and with correct ones."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warmfront.lab.history import (
    Anomalies,
    End,
    History,
    Seen,
    check_counters,
    check_effects,
    check_staleness,
    check_stock,
    check_walks,
)


def history(*ends: End, key: str | None = None) -> History:
    made = History()
    for number, end in enumerate(ends):
        operation = made.invoke(0, "order", key or f"k{number}")
        if end != "info":
            made.complete(operation, end)
    return made


class TestEffects:
    def test_a_clean_history_passes(self) -> None:
        assert check_effects(history("ok", "fail", "info", "info").operations, {"k0": 1, "k2": 1}).total == 0

    def test_an_acknowledged_order_that_is_not_there_is_lost(self) -> None:
        found = check_effects(history("ok", "ok").operations, {"k0": 1})
        assert (found.lost, found.total) == (1, 1)
        assert found.examples == ("k1: acknowledged, but missing",)

    @pytest.mark.parametrize("end", ["ok", "info"])
    def test_an_effect_that_is_there_twice_is_a_duplicate(self, end: End) -> None:
        found = check_effects(history(end).operations, {"k0": 3})
        assert (found.duplicated, found.total) == (2, 2)

    def test_an_effect_of_what_failed_or_was_never_asked_for_is_a_ghost(self) -> None:
        found = check_effects(history("fail").operations, {"k0": 1, "other": 2})
        assert (found.ghosts, found.total) == (3, 3)

    @given(st.lists(st.sampled_from(["ok", "fail", "info"]), max_size=30), st.integers(0, 999))
    def test_whatever_really_happens_once_is_never_an_anomaly(self, ends: list[End], seed: int) -> None:
        rng = random.Random(seed)
        operations = history(*ends).operations
        effects = {op.key: 1 for op in operations if op.end == "ok" or (op.end == "info" and rng.random() < 0.5)}
        assert check_effects(operations, effects).total == 0


class TestCounters:
    def test_every_acknowledged_update_is_there_and_an_unknown_one_may_be(self) -> None:
        operations = history("ok", "ok", "info", "fail", key="n").operations
        assert check_counters(operations, {"n": 5}, {"n": 7}).total == 0
        assert check_counters(operations, {"n": 5}, {"n": 8}).total == 0

    def test_a_lost_update_is_found(self) -> None:
        found = check_counters(history("ok", "ok", "ok", key="n").operations, {"n": 0}, {"n": 2})
        assert (found.lost, found.total) == (1, 1)

    def test_an_update_done_twice_is_found(self) -> None:
        found = check_counters(history("ok", "info", "fail", key="n").operations, {"n": 0}, {"n": 3})
        assert (found.duplicated, found.total) == (1, 1)

    def test_last_writer_wins_loses_and_compare_and_set_does_not(self) -> None:
        """Let two clients read, add one and write, in every order of their four steps."""
        found = {"blind": 0, "checked": 0}
        for order in {
            tuple(sorted("aabb", key=lambda _: rng.random())) for rng in [random.Random(1)] for _ in range(40)
        }:
            for way in found:
                value, seen, made = 0, {}, History()
                ops = {client: made.invoke(0, "add", "n") for client in "ab"}
                for client in order:
                    if client not in seen:
                        seen[client] = value
                    elif way == "blind" or seen[client] == value:
                        value = seen[client] + 1
                        made.complete(ops[client], "ok")
                    else:
                        made.complete(ops[client], "fail")
                found[way] += check_counters(made.operations, {"n": 0}, {"n": value}).lost
        assert found["blind"] > 0
        assert found["checked"] == 0


class TestStock:
    def test_what_the_orders_took_is_gone(self) -> None:
        assert check_stock({"p": 10, "q": 3}, {"p": 6, "q": 0}, {"p": 4, "q": 3}).total == 0

    def test_a_stock_below_zero_is_found(self) -> None:
        found = check_stock({"p": 1}, {"p": -1}, {"p": 2})
        assert (found.negative, found.total) == (1, 1)

    def test_an_update_of_the_stock_that_another_has_overwritten_is_lost(self) -> None:
        found = check_stock({"p": 5, "q": 5}, {"p": 4, "q": 5}, {"p": 3, "q": 0})
        assert (found.lost, found.total) == (2, 2)

    def test_stock_that_is_gone_without_an_order_is_found(self) -> None:
        found = check_stock({"p": 5, "q": 5}, {"p": 1, "q": 5}, {"p": 2, "q": 0})
        assert (found.unbalanced, found.total) == (2, 2)


class TestWalks:
    def test_each_stable_id_once_whatever_else_comes_and_goes(self) -> None:
        assert check_walks([[1, 2, 3], [1, 9, 2, 3]], frozenset({1, 2, 3})).total == 0

    def test_a_skipped_and_a_repeated_id_are_found(self) -> None:
        found = check_walks([[1, 3, 3]], frozenset({1, 2, 3}))
        assert (found.lost, found.duplicated) == (1, 1)


class TestStaleness:
    writes = (Seen("p", 2, 1.0), Seen("p", 3, 2.0), Seen("q", 9, 0.0))

    @pytest.mark.parametrize(
        ("version", "at_s", "stale"),
        [(1, 0.9, 0), (2, 1.5, 0), (3, 2.5, 0), (1, 1.4, 0), (1, 1.6, 1), (2, 2.4, 0), (2, 2.6, 1), (1, 2.4, 1)],
    )
    def test_a_read_may_be_older_than_what_was_acknowledged_for_the_bound_and_no_longer(
        self, version: int, at_s: float, stale: int
    ) -> None:
        found, _ = check_staleness(self.writes, [Seen("p", version, at_s)], bound_s=0.5)
        assert found.lost == stale

    def test_the_stalest_read_is_told_also_within_the_bound(self) -> None:
        found, stalest_s = check_staleness(self.writes, [Seen("p", 2, 2.3), Seen("q", 9, 5)], bound_s=0.5)
        assert found.lost == 0
        assert stalest_s == pytest.approx(0.3)


def test_an_operation_ends_once() -> None:
    made = History()
    operation = made.invoke(0, "order", "k")
    made.complete(operation, "ok")
    with pytest.raises(ValueError, match="has ended before"):
        made.complete(operation, "fail")


def test_anomalies_add_up() -> None:
    both = Anomalies(lost=1, examples=("a",)) + Anomalies(lost=2, negative=1, examples=("b",))
    assert (both.lost, both.total, both.examples) == (3, 4, ("a", "b"))
