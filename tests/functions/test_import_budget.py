"""What each handler imports: its share of a cold start. A new import has to be worth its milliseconds, and said here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
ENVIRON = {
    "PYTHONPATH": f"{ROOT}:{Path(msgspec.__file__).parents[1]}",
    "DATABASE_URL": "postgresql://app:pw@localhost/shop",
    "REDIS_URL": "redis://localhost:6379/0",
    "SHOP_CURSOR_KEY": "only-for-these-tests",
    "SHOP_DB_SSL": "disable",
    "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
}
# Modules beyond those of a bare interpreter. Of pooled's, 29 are in shared/: 11 ms of its import.
# redis-py is 93 of distributed's: `import redis` imports all of its clients, whichever of them is used.
BUDGET = {"naive": 232, "pooled": 249, "distributed": 346, "migrate": 240}
# CPU of the import, `python -c pass` being 1. In ms of CPU with byte code on 3.13: bare 8, pooled 102, distributed 165.
TIMES_BARE_MAX = {"pooled": 16.0, "distributed": 25.0}
# The most expensive, in ms of import on 3.13: boto3 264, pydantic 125, the X-Ray SDK 106, Powertools' event handler 146,
# redis-py 62 beside the rest of distributed, which alone has a Redis.
NEVER = ("boto3", "botocore.session", "pydantic", "aws_xray_sdk", "aws_lambda_powertools.event_handler")


def modules_after(statement: str) -> set[str]:
    script = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    # -S: what the site of this virtual environment imports for itself is nobody's budget.
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, env=ENVIRON, check=True, capture_output=True, text=True, cwd="/")
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("function", BUDGET)
def test_a_handler_imports_no_more_than_its_budget(function: str) -> None:
    imported = modules_after(f"import functions.{function}.app") - modules_after("pass")
    never = NEVER if function == "distributed" else (*NEVER, "redis")
    assert not [name for name in never if name in imported]
    assert len(imported) <= BUDGET[function]


def test_the_budget_is_tight_enough_to_notice_one_heavy_import() -> None:
    imported = modules_after("import functions.pooled.app, http.client, urllib.request") - modules_after("pass")
    assert len(imported) > BUDGET["pooled"]


def cpu_s(statement: str, *options: str) -> float:
    """CPU of a fresh interpreter: unlike the time on the wall it hardly knows what else the machine does."""
    command = [os.path.realpath(sys.executable), *options, "-c", statement]
    environ = ENVIRON if "-S" in options else {}  # bare is bare: no path of ours, where a sitecustomize may lie
    process = subprocess.Popen(command, env=environ, cwd="/", stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


def times_bare(statement: str) -> float:
    """How many times `python -c pass` it takes, in the median of pairs run next to each other."""
    cpu_s(statement, "-S")  # byte-code is written by the first
    return median(cpu_s(statement, "-S") / cpu_s("pass") for _ in range(5))


@pytest.mark.parametrize("function", TIMES_BARE_MAX)
def test_a_handler_costs_few_times_a_bare_interpreter(function: str) -> None:
    """Spawn to first byte of pooled is to stay below 16 times; the import is most of it."""
    assert times_bare(f"import functions.{function}.app") < TIMES_BARE_MAX[function]


def test_the_ratio_is_tight_enough_to_notice_boto3() -> None:
    assert times_bare("import functions.pooled.app, boto3") > TIMES_BARE_MAX["pooled"]


def test_all_that_a_handler_imports_runs_from_byte_code() -> None:
    """Without it an init takes twice as long."""
    script = (
        "import functions.distributed.app, os, sys\n"
        "specs = [module.__spec__ for module in sys.modules.values() if getattr(module, '__spec__', None)]\n"
        "sources = [spec for spec in specs if spec.has_location and spec.origin.endswith('.py')]\n"
        "assert len(sources) > 100, len(sources)\n"
        "missing = [spec.origin for spec in sources if not (spec.cached and os.path.exists(spec.cached))]\n"
        "assert not missing, missing\n"
    )
    subprocess.run([sys.executable, "-S", "-c", script], env=ENVIRON, check=True, cwd="/")
