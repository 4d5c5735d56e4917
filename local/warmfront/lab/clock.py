"""Makes the wall clock of functions settable, for faults that move it.

A wrapper handler (in `faketime/`) first replaces `time.time` by a clock whose offset comes from a file, then imports the
function's handler. The monotonic clock is not changed, as with an NTP step or a resumed virtual machine.
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
    """Return the environment variables by function, with those added that make these functions' clocks settable."""
    if not functions:
        return variables
    set_clock(file, 0.0)
    own = {"PYTHONPATH": f"{FOLDER}:/.warmfront/host{FOLDER}", "LAB_CLOCK": str(file)}
    return {**variables, **{function: {**variables.get(function, {}), **own} for function in functions}}


def set_clock(file: Path, offset_s: float) -> None:
    """Set the offset in seconds. It is written at once, so that a process that maps the file reads no partial value."""
    if file.exists():
        with file.open("r+b") as opened:
            opened.write(OFFSET.pack(offset_s))
    else:
        file.write_bytes(OFFSET.pack(offset_s))
