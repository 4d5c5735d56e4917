"""Progress lines and bars, with a clock that the test controls."""

import io
import re

import pytest
from warmfront.bench.run.budget import Budget, budget_of
from warmfront.bench.run.progress import Progress

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def last(self) -> str:
        """The last line that was drawn, without colours and the bar itself."""
        text = ESCAPE.sub("", self.getvalue()).replace("\r", "\n")
        lines = [line for line in text.split("\n") if line.strip()]
        return re.sub(r"\s+", " ", re.sub(r"[━╸╺╶╴─]+", "", lines[-1])).strip()


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


def tell(stream: io.StringIO, budget: Budget, clock: Clock) -> Progress:
    """A phase of four steps, ten seconds each, half a minute into the run; the third step begins."""
    progress = Progress(stream, budget)
    clock.now_s += 30
    progress.phase("reading")
    for done in (1, 2, 3):
        progress.step(done, 4, "pooled")
        clock.now_s += 10 if done < 3 else 0
    return progress


def test_a_phase_says_how_long_it_will_go_on_by_how_long_its_steps_took() -> None:
    clock, terminal = Clock(), Terminal()
    progress = tell(terminal, Budget(float("inf"), clock), clock)
    assert terminal.last == "(0:50) reading, pooled 3/4 0:20 left"
    progress.end()


def test_a_run_with_a_budget_says_what_is_left_of_it() -> None:
    clock, terminal, file = Clock(), Terminal(), io.StringIO()
    progress = tell(terminal, budget_of(240.0, clock), clock)
    assert terminal.last == "(0:50, 3:10 of its budget left) reading, pooled 3/4 0:20 left"
    progress.end()
    tell(file, budget_of(240.0, clock), clock).end()
    assert file.getvalue() == "(0:30, 3:30 of its budget left) reading\n"


def test_the_next_phase_takes_the_place_of_the_last_one() -> None:
    clock, terminal = Clock(), Terminal()
    progress = tell(terminal, Budget(float("inf"), clock), clock)
    progress.phase("writing")
    assert terminal.last.startswith("(0:50) writing")
    progress.end()
    progress.end()
