"""The four ways an execution environment can start, and which of them a function asks for."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from warmfront.emulator.template import FunctionConfig


class Way(StrEnum):
    ON_DEMAND = "on-demand"
    SNAP_START = "snap-start"
    PROVISIONED = "provisioned"
    MANAGED = "managed"

    @property
    def initialization_type(self) -> str:
        """AWS_LAMBDA_INITIALIZATION_TYPE (docs: lambda/latest/dg/configuration-envvars.html)."""
        return _INITIALIZATION_TYPES.get(self, self.value)


_INITIALIZATION_TYPES = {Way.PROVISIONED: "provisioned-concurrency", Way.MANAGED: "lambda-managed-instances"}

type StartChoice = Literal["template", "on-demand", "snap-start", "provisioned", "managed"]

LONG_INIT_LIMIT_S = 130.0
"""Init ahead of invocations has this long or the function's timeout, whichever is longer
(docs: lambda/latest/dg/lambda-runtime-environment.html)."""
RESTORE_LIMIT_S = 10.0
"""Loading the runtime and the after-restore hooks (docs: lambda/latest/dg/snapstart-runtime-hooks.html)."""
MANAGED_ENVIRONMENTS = 1
"""Environments a function with Managed Instances has from the start; Lambda has at least three, one for each zone."""


@dataclass(frozen=True, slots=True)
class StartPlan:
    """How the environments of one function start."""

    way: Way = Way.ON_DEMAND
    ahead: int = 0
    """Environments that are there before any invocation and are replaced when they die."""
    processes: int = 1
    """Of one environment: how many invocations it runs at once."""

    @property
    def spill_over(self) -> Way:
        """How an environment starts that an invocation waits for."""
        return Way.ON_DEMAND if self.way is Way.PROVISIONED else self.way


def plan_start(config: FunctionConfig, choice: StartChoice, *, provisioned: int, processes: int) -> StartPlan:
    """`choice` over what the template says; `provisioned` and `processes` go with it."""
    if not config.runtime.startswith("python"):
        return StartPlan()  # what is started ahead of need here is this machine's Python
    if choice == "template":
        if config.snap_start:
            return StartPlan(Way.SNAP_START)
        if config.max_concurrency is not None:
            return StartPlan(Way.MANAGED, MANAGED_ENVIRONMENTS, config.max_concurrency)
        if config.provisioned_concurrency:
            return StartPlan(Way.PROVISIONED, config.provisioned_concurrency)
        return StartPlan()
    way = Way(choice)
    if way is Way.PROVISIONED:
        return StartPlan(way, provisioned)
    if way is Way.MANAGED:
        return StartPlan(way, provisioned, processes)
    return StartPlan(way)
