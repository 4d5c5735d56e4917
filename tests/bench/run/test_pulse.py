"""The machine's pulse: heard on every processor, hardly moved by load, and judged by what this machine usually does."""

import os
import threading
import time
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warmfront.bench.run import pulse
from warmfront.bench.run.pulse import FEWEST, SLOW, BeatHistory, Pulse

ALWAYS = 1 << 62


def test_every_processor_beats_until_the_pulse_is_left() -> None:
    with Pulse(every_s=0.001) as own:
        time.sleep(0.1)
        half = time.monotonic_ns()
        time.sleep(0.1)
    beats = own.between(0, ALWAYS)
    assert len(own.between(0, half)) + len(own.between(half + 1, ALWAYS)) == len(beats)
    assert all(own.between(0, half))
    assert len(own._beats) == min(len(os.sched_getaffinity(0)), pulse.PROCESSORS)
    assert all(len(beaten) >= 10 for beaten in own._beats)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pulse")]


def test_this_thread_keeps_its_processors() -> None:
    before = os.sched_getaffinity(0)
    with Pulse(every_s=0.001):
        assert os.sched_getaffinity(0) == before


def test_waiting_for_a_turn_is_no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time excludes a thread's waits and includes its work."""

    def typical() -> float:
        with Pulse(every_s=0.001) as own:
            time.sleep(0.1)
        return median(own.between(0, ALWAYS))

    def while_it_waits(_base: int, _power: int, _modulus: int) -> None:
        time.sleep(0.003)

    def while_it_works(_base: int, _power: int, _modulus: int) -> None:
        until = time.thread_time_ns() + 3_000_000
        while time.thread_time_ns() < until:
            pass

    monkeypatch.setattr(pulse, "pow", while_it_waits, raising=False)
    assert typical() < 1_500_000
    monkeypatch.setattr(pulse, "pow", while_it_works, raising=False)
    assert typical() >= 3_000_000


def test_a_stretch_is_judged_by_what_is_usual() -> None:
    beat_history = BeatHistory()
    assert beat_history.stalled([30_000] * 40) == 0.0
    assert beat_history.stalled([30_000] * 30 + [400_000] * 10) == 0.25
    assert beat_history.stalled([45_000] * 40) == 0.0, "half as slow again is what caches and clock speeds do"
    assert beat_history.stalled([400_000] * 10) == 1.0


def test_a_machine_that_stalls_most_of_the_time_still_has_its_usual_speed() -> None:
    beat_history = BeatHistory()
    assert beat_history.stalled([30_000] * 20 + [400_000] * 80) == 0.8


def test_of_few_beats_nothing_is_said() -> None:
    assert BeatHistory().stalled([30_000] * (FEWEST - 1)) is None
    assert BeatHistory().stalled([]) is None


@given(st.lists(st.integers(1, 10**6), min_size=FEWEST, max_size=60), st.integers(2, 1000))
def test_the_share_is_of_the_beats_and_knows_no_unit(beats: list[int], factor: int) -> None:
    share = BeatHistory().stalled(beats)
    assert share is not None
    assert 0.0 <= share < 1.0, "the beat_history beat itself is never slow"
    assert share <= sum(beat > SLOW * min(beats) for beat in beats) / len(beats)
    assert BeatHistory().stalled([factor * beat for beat in beats]) == pytest.approx(share, abs=1 / len(beats))
