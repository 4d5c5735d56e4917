"""A function whose wall clock is set from outside: what its process sees."""

import os
import subprocess
import sys
from pathlib import Path

from warmfront.lab.clock import FOLDER, set_clock, with_clocks

OWN = """
import time
from time import time as early
def handler(event, context):
    return time.time(), time.time_ns() / 1e9, early(), time.monotonic()
"""
ASK = """
import os, struct, sys, time
import lab_clock
real = lab_clock._time()
with open(os.environ["LAB_CLOCK"], "r+b") as file:
    file.write(struct.pack("d", -3600.0))
seen = lab_clock.handler(None, None)
print([round((each - real) / 60) for each in seen[:3]], abs(seen[3] - time.monotonic()) < 60)
"""


def environment(tmp_path: Path) -> dict[str, str]:
    variables = with_clocks({"F": {"A": "b"}}, ("F",), tmp_path / "clock")["F"]
    assert variables["A"] == "b"
    return {**os.environ, **variables, "LAB_HANDLER": "functions.shop.app.handler"}


def test_the_wall_clock_jumps_for_every_reader_and_the_monotonic_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(OWN)
    found = subprocess.run(
        [sys.executable, "-c", ASK], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[-60, -60, -60] True"


def test_a_handler_that_cannot_be_imported_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import not_installed")
    found = subprocess.run(
        [sys.executable, "-c", "import lab_clock"],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'not_installed'" in found.stderr


def test_functions_without_a_clock_keep_their_variables(tmp_path: Path) -> None:
    variables = {"F": {"A": "b"}}
    assert with_clocks(variables, (), tmp_path / "clock") is variables
    assert not (tmp_path / "clock").exists()


def test_a_clock_that_is_set_again_keeps_its_file(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    set_clock(file, 1.0)
    inode = file.stat().st_ino
    set_clock(file, 2.0)
    assert file.stat().st_ino == inode
    assert FOLDER.joinpath("lab_clock.py").exists()
