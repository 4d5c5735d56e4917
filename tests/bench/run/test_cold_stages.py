"""A cold start's milestones as stages: nothing is lost between them, and a span is counted once."""

import pytest
from warmfront.bench.run.cold_stages import WHOLE, ready_ms, stages_of, unaccounted

MS = 1_000_000
INIT = {
    "spawned_ns": 100 * MS,
    "bootstrap_ns": 120 * MS,
    "client_ns": 160 * MS,
    "imports_done_ns": 260 * MS,
    "ready_ns": 262 * MS,
    "first_invoke_ns": 263 * MS,
    "first_response_ns": 283 * MS,
    "spans": [
        {"name": "tcp", "start_ns": 265 * MS, "end_ns": 266 * MS},
        {"name": "connect", "start_ns": 264 * MS, "end_ns": 273 * MS},
        {"name": "prepare", "start_ns": 274 * MS, "end_ns": 276 * MS},
        {"name": "first_query", "start_ns": 274 * MS, "end_ns": 279 * MS},
    ],
}


def test_stages_follow_each_other_and_add_up() -> None:
    stages = stages_of(INIT, first_byte_ns=284 * MS)
    assert stages == {
        WHOLE: 184,
        "process_start": 20,
        "runtime_client": 40,
        "imports": 100,
        "runtime": 2,
        "dispatch": 1,
        "connect": 1,
        "authentication": 8,
        "prepare": 2,
        "query": 3,
        "handler": 6,
        "answer": 1,
    }
    assert ready_ms(INIT) == 162
    assert unaccounted([(stages, 184.0)]) == 0


def test_what_a_caller_waited_for_beside_the_stages_is_noticed() -> None:
    assert unaccounted([(stages_of(INIT, first_byte_ns=284 * MS), 230.0)]) == pytest.approx(0.2)


def test_spans_that_overlap_are_noticed_and_not_hidden_in_the_handler() -> None:
    secret = {"name": "secret", "start_ns": 264 * MS, "end_ns": 283 * MS}
    stages = stages_of(INIT | {"spans": [*INIT["spans"], secret]}, first_byte_ns=284 * MS)  # type: ignore[misc]
    assert unaccounted([(stages, 184.0)]) > 0.05


def test_an_init_that_nobody_waited_for_is_no_part_of_the_first_byte() -> None:
    stages = stages_of(INIT, first_byte_ns=284 * MS, ahead=True)
    assert stages[WHOLE] == 21
    assert "imports" not in stages
    assert sum(value for name, value in stages.items() if name != WHOLE) == pytest.approx(21)


def test_a_restore_has_stages_of_its_own() -> None:
    restored = {name: value for name, value in INIT.items() if name not in ("bootstrap_ns", "imports_done_ns")}
    restored |= {"forked_ns": 103 * MS, "client_ns": 105 * MS, "restored_ns": 106 * MS, "ready_ns": 107 * MS}
    stages = stages_of(restored, first_byte_ns=284 * MS)
    assert (stages["process_start"], stages["runtime_client"], stages["restore"], stages["runtime"]) == (3, 2, 1, 1)
    assert stages["dispatch"] == 156


def test_a_runtime_that_notes_nothing_has_one_stage_of_init() -> None:
    silent = {name: value for name, value in INIT.items() if name not in ("bootstrap_ns", "client_ns", "spans")}
    stages = stages_of(silent, first_byte_ns=284 * MS)
    assert stages["init"] == 162
    assert stages["handler"] == 20
