"""Every small change to breaker.py must be noticed by some test of it: mutmut makes the changes, here is what it may use."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLED_MIN = 0.95  # exclusive
TESTS = [
    "tests/shared/kit/test_breaker.py",
    "tests/shared/kit/test_stampede.py",
    "tests/shared/kit/test_guard.py",
    "tests/machines/test_breaker_machine.py",
]
HELPERS = [
    "tests/__init__.py",
    "tests/machines/__init__.py",
    "tests/machines/breaker_oracle.py",
    "tests/shared/__init__.py",
    "tests/shared/kit/__init__.py",
]
CONFIGURATION = """
[mutmut]
source_paths=shared/
only_mutate=shared/kit/breaker.py
also_copy=tests/
pytest_add_cli_args_test_selection=
    {tests}
pytest_add_cli_args=
    -x
    -q
    -p
    no:cacheprovider
    --deselect=tests/shared/kit/test_breaker.py::test_the_import_pulls_in_nothing_heavy
"""


@pytest.mark.stress
def test_more_than_95_of_100_changes_to_the_breaker_are_noticed(tmp_path: Path) -> None:
    if importlib.util.find_spec("mutmut") is None:
        pytest.fail("mutation testing needs mutmut: pip install mutmut==3.8.1, then run this again")
    for name in [
        "shared/__init__.py",
        "shared/kit/__init__.py",
        "shared/kit/breaker.py",
        "shared/kit/circuit.py",
        "shared/kit/guard.py",
        *TESTS,
        *HELPERS,
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "setup.cfg").write_text(CONFIGURATION.format(tests="\n    ".join(TESTS)))
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    run = _mutmut(tmp_path, "run", "--max-children", str(os.cpu_count() or 1))
    _mutmut(tmp_path, "export-cicd-stats")
    statistics = json.loads((tmp_path / "mutants" / "mutmut-cicd-stats.json").read_text())
    total, noticed = statistics["total"], statistics["killed"] + statistics["timeout"]
    survivors = [line.split(":")[0].strip() for line in _mutmut(tmp_path, "results").splitlines() if "survived" in line]
    changes = "\n".join(_mutmut(tmp_path, "show", name) for name in survivors)
    print(f"{noticed} of {total} noticed; not noticed:\n{changes}")
    assert total > 400, run[-2000:]
    assert noticed / total > KILLED_MIN, changes


def _mutmut(directory: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": ""}  # nothing of this tree: the copy is what is tested
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
