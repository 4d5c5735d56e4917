"""The first request with a login by secret beside one with the login in the URL: both are measured, in one table."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from warmfront.results import read_result

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_both_logins_are_measured_in_one_table_and_their_ratio_is_told(tmp_path: Path) -> None:
    output = tmp_path / "cold.json"
    command = [sys.executable, "-m", "tools.cold_login", "--n", "2", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, check=False)
    (ratio,) = re.findall(r"login by secret / login in the URL: ([\d.]+) ", done.stdout)
    assert done.returncode == (float(ratio) > 1.5)
    assert {(each.function, each.n) for each in read_result(output).cold} == {("LoginInUrl", 2), ("LoginBySecret", 2)}
