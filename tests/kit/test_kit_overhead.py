"""What the kit costs over a bare handler: that the figure is one, that it moves when the cost does, and its limit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def measured(*arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tools.kit_overhead", "--json", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_the_cost_of_each_part_is_told_and_a_limit_below_it_is_a_failure() -> None:
    status, figures = measured("--rounds", "4", "--calls", "50", "--limit-us", "1")
    assert (status, figures["within"]) == (1, False)
    assert [*figures["steps"]] == ["bare", "guard", "endpoint", "metrics", "logger", "tracer"]
    assert figures["steps"]["bare"]["over_bare_us"] == 0
    assert figures["kit_us"] == figures["steps"]["logger"]["over_bare_us"] > 0


@pytest.mark.stress
def test_the_kit_costs_no_more_than_150_microseconds_and_the_figure_moves_with_the_cost() -> None:
    status, figures = measured()
    print(figures)
    assert status == 0, figures
    _, logging_events = measured("--rounds", "15", POWERTOOLS_LOGGER_LOG_EVENT="true")
    print(logging_events["kit_us"])
    assert logging_events["kit_us"] > figures["kit_us"] + 20  # each event once more as a line of the log
