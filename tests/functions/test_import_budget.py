"""What each handler imports: its share of a cold start. A new import has to be worth its milliseconds, and said here."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
ENVIRON = {
    "PYTHONPATH": f"{ROOT}:{Path(msgspec.__file__).parents[1]}",
    "DATABASE_URL": "postgresql://app:pw@localhost/shop",
    "REDIS_URL": "redis://localhost:6379/0",
    "SHOP_CURSOR_KEY": "only-for-these-tests",
    "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
}
# Modules beyond those of a bare interpreter; the kit's own are eight of them.
BUDGET = {"naive": 232, "pooled": 242, "distributed": 248, "migrate": 236}
# The dearest, in ms of import on 3.13: boto3 264, pydantic 125, the X-Ray SDK 106, Powertools' event handler 146, redis-py 83.
NEVER = ("boto3", "botocore.session", "pydantic", "aws_xray_sdk", "aws_lambda_powertools.event_handler", "redis")


def modules_after(statement: str) -> set[str]:
    script = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    # -S: what the site of this virtual environment imports for itself is nobody's budget.
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, env=ENVIRON, check=True, capture_output=True, text=True, cwd="/")
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("function", BUDGET)
def test_a_handler_imports_no_more_than_its_budget(function: str) -> None:
    imported = modules_after(f"import functions.{function}.app") - modules_after("pass")
    assert not [name for name in NEVER if name in imported]
    assert len(imported) <= BUDGET[function]


def test_the_budget_is_tight_enough_to_notice_one_heavy_import() -> None:
    imported = modules_after("import functions.pooled.app, http.client, urllib.request") - modules_after("pass")
    assert len(imported) > BUDGET["pooled"]
