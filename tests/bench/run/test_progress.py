"""What a person is told while a run goes on, by a clock that the test turns."""

import io

from warmfront.bench.run.budget import Budget, budget_of
from warmfront.bench.run.progress import Progress


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def last(self) -> str:
        return self.getvalue().rpartition("\x1b[K")[2]


def told(stream: io.StringIO, budget: Budget, clock: Clock) -> None:
    """A phase of four steps, ten seconds each, half a minute into the run; the third step begins."""
    progress = Progress(stream, budget)
    clock.now_s += 30
    progress.phase("reading")
    for done in (1, 2, 3):
        progress.step(done, 4, "pooled")
        clock.now_s += 10 if done < 3 else 0


def test_a_phase_says_how_long_it_will_go_on_by_how_long_its_steps_took() -> None:
    clock, terminal = Clock(), Terminal()
    told(terminal, Budget(float("inf"), clock), clock)
    assert terminal.last == "[0:50] reading: 3 of 4, pooled, 0:20 of it left"


def test_a_run_with_a_budget_says_what_is_left_of_it() -> None:
    clock, terminal, file = Clock(), Terminal(), io.StringIO()
    told(terminal, budget_of(240.0, clock), clock)
    assert terminal.last == "[0:50, about 3:10 of its budget left] reading: 3 of 4, pooled, 0:20 of it left"
    told(file, budget_of(240.0, clock), clock)
    assert file.getvalue() == "[0:30, about 3:30 of its budget left] reading\n"
