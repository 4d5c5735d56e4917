"""The structure of a workload file, as msgspec types.

msgspec rejects unknown keys and wrong types, and reports where they are.
"""

from typing import Any

import msgspec


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """One HTTP request of an exchange."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    expect: list[int] = msgspec.field(default_factory=lambda: [200])
    contains: list[str] = []
    json: dict[str, str | int | float | bool] = {}
    capture: dict[str, dict[str, str]] = {}


class Request(Step, forbid_unknown_fields=True):
    """A [[request]]: its last step, with the steps `before` it."""

    name: str = ""
    weight: float = 1.0
    before: list[Step] = []
    workload: str = ""


class Walk(msgspec.Struct, forbid_unknown_fields=True):
    """The [walk] section."""

    start: str
    next: str
    cursor: str
    rows: int


class Setup(msgspec.Struct, forbid_unknown_fields=True):
    """A [[setup]]: a function to invoke before the load."""

    function: str
    event: dict[str, Any] = {}


class Variant(msgspec.Struct, forbid_unknown_fields=True):
    """A [[variant]]."""

    name: str
    prefix: str = ""
    function: str = ""
    description: str = ""
    cursor_at_depth: str | None = None
    complexity: str = ""
    best_for: str = ""


class Workload(msgspec.Struct, forbid_unknown_fields=True):
    """A [[workload]]: requests of its own, or a mix of other workloads."""

    name: str
    description: str = ""
    request: list[Request] = []
    mix: dict[str, float] = {}
    counted: bool = False
    fresh: bool = False


class File(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    variant: list[Variant]
    name: str = ""
    headers: dict[str, str] = {}
    setup: list[Setup] = []
    workload: list[Workload] = []
    request: list[Request] = []
    walk: Walk | None = None
