"""Types of command line arguments: numbers, times, percentages and lists, each with its own error message."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path


def names(text: str) -> tuple[str, ...]:
    """Parse NAME,..."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def named_file(text: str) -> tuple[str, Path]:
    """Parse VARIANT=FILE."""
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form VARIANT=FILE")
    return name, Path(path)


def numbers(text: str) -> tuple[int, ...]:
    """Parse N,... into ascending whole numbers."""
    found = sorted({at_least(1)(part.strip()) for part in text.split(",")})
    return tuple(found)


def at_least(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `least`."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number


_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0}


def seconds(text: str) -> float:
    """Parse a time such as 30s, 500ms or 2m into seconds."""
    found = _TIME.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30s, 500ms or 2m")
    return float(found[1]) * _UNITS_S[found[2] or "s"]


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def not_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (0.0 <= value < math.inf):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of at least 0")
    return value


def percent(text: str) -> float:
    """Parse a percentage such as 5% into a share from 0 to 1."""
    try:
        value = float(text.removesuffix("%")) / 100.0
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage, such as 5%") from None
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0% and 100%")
    return value


def port(text: str) -> int:
    """A TCP port, or 0 for a free one."""
    if not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to 65535")
    return int(text)


def count_up_to(most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from 1 to `most`."""

    def number(text: str) -> int:
        if not text.isdigit() or not 0 < int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return int(text)

    return number
