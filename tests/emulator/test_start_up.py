"""What `warmfront serve` imports up to its first answer, and how the bench tells how long that took."""

import re
import urllib.request

from warmfront.bench.overhead.start import TEMPLATE, Start, describe, measure_starts

from tests.emulator.serving import serve

BUDGET = 580
"""Modules, the standard library's among them. A new one has to be worth its milliseconds at every start."""
NEVER = {
    "asyncpg", "aws_lambda_powertools", "awslambdaric", "boto3", "botocore", "cryptography", "debugpy", "jwt", "matplotlib",
    "moto", "numpy", "pydantic", "redis", "requests", "samtranslator", "werkzeug",
}  # fmt: skip
NEVER_OURS = (
    "warmfront.bench",
    "warmfront.cli.cold",
    "warmfront.doctor",
    "warmfront.lab",
    "warmfront.cli.bench",
    "warmfront.report",
    "warmfront.results",
)


def imported_by_the_first_answer() -> set[str]:
    with serve(TEMPLATE, environ={"PYTHONPROFILEIMPORTTIME": "1"}) as served:
        with urllib.request.urlopen(served.url + "/silent/hello") as answer:
            assert answer.status == 200
        served.stop()
    return {found[1] for line in served.lines if (found := re.match(r"import time: .*\| +(\S+)$", line))}


def test_serving_imports_no_more_than_its_budget() -> None:
    imported = imported_by_the_first_answer()
    assert {"warmfront.emulator.compose", "uvicorn"} <= imported
    assert not sorted(name for name in imported if name.split(".")[0] in NEVER or name.startswith(NEVER_OURS))
    assert len(imported) <= BUDGET


def test_a_start_is_timed_from_nothing_to_the_first_answer() -> None:
    (start,) = measure_starts(1)
    assert 0 < start.imports_ms < start.answered_ms - start.ready_ms < start.answered_ms


def test_the_row_of_the_bench_leaves_the_handlers_own_imports_out() -> None:
    starts = [Start(400, 500, 60), Start(300, 420, 20), Start(410, 1500, 40)]
    assert describe(starts) == (
        "start to first answer, median of 3: 440 ms (400 to 1460) beyond the handler's imports of 40 ms,"
        " of which 400 ms until it was ready (aim: at most 1000 ms)"
    )
