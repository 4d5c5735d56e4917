"""The options of `warmfront cold`."""

from dataclasses import dataclass
from pathlib import Path

from warmfront.backing.executables import OriginChoice
from warmfront.bench.load.workloads import WorkloadFile
from warmfront.bench.run.servers import NO_SERVERS, Needs

WAYS = ("on-demand", "snap-start", "provisioned", "managed")
DEFAULT_WAYS = ("on-demand", "snap-start")
AHEAD = frozenset({"provisioned", "managed"})
"""Ways whose inits nobody waits for: they are done before the first event comes."""
PROCESSES = 4
"""Of a managed environment, each with an invocation of its own."""
N = 30
CROWD = 50
ANATOMY_RUNS = 5
RAMP_S = 15.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A function and what it is asked. `described`: the event in a few words."""

    function: str
    event: bytes
    described: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdOptions:
    template: Path
    subjects: tuple[Subject, ...]
    needs: Needs = NO_SERVERS
    backing: OriginChoice | None = None
    """Where Postgres and Redis come from; None: as WARMFRONT_BACKING says."""
    ways: tuple[str, ...] = DEFAULT_WAYS
    n: int = N
    warm: int = 10
    """Warm invocations after each cold start."""
    crowd: int = CROWD
    """Environments that are started at once, ahead of any invocation; 0: not measured."""
    anatomy_runs: int = ANATOMY_RUNS
    thaw: bool = False
    ramp: bool = False
    ramp_s: float = RAMP_S
    setup: WorkloadFile | None = None
    """Its set-up runs first, for those of its variants that are measured."""
    seed: int = 1
    output: Path | None = None
    command: str = "warmfront cold"

    @property
    def crowd_rounds(self) -> int:
        return 3 if self.n >= N else 1
