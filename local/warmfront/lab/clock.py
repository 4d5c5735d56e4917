"""Functions whose wall clock can be set: what their template must say for it. Knows no experiment; `faketime/` runs inside.

The function's handler is imported by one of the lab's, which first puts `time.time` on a clock that a file sets. The
monotonic clock goes on as ever: that is what a step of NTP, a resumed virtual machine or a bad host does.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("faketime")
OFFSET = struct.Struct("d")
HANDLER = "lab_clock.handler"


def with_clocks(
    variables: Mapping[str, Mapping[str, str]], functions: tuple[str, ...], file: Path
) -> Mapping[str, Mapping[str, str]]:
    """The variables by function, and what makes the clock of these functions settable."""
    if not functions:
        return variables
    set_clock(file, 0.0)
    own = {"PYTHONPATH": str(FOLDER), "LAB_CLOCK": str(file)}
    return {**variables, **{function: {**variables.get(function, {}), **own} for function in functions}}


def set_clock(file: Path, offset_s: float) -> None:
    """Written in one piece: whoever has mapped the file reads the old offset or the new one."""
    if file.exists():
        with file.open("r+b") as opened:
            opened.write(OFFSET.pack(offset_s))
    else:
        file.write_bytes(OFFSET.pack(offset_s))
