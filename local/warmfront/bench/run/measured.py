"""Collects a run's measurements until they become a result."""

from dataclasses import dataclass, field

from warmfront.results import Block, Cold, Growth, Sized, Sweep

from .equal_load import EqualLoad
from .servers import Distance


@dataclass(slots=True)
class Measured:
    """Measurements of a running session. `rerun`: blocks discarded because of a machine stall and measured again."""

    blocks: list[Block] = field(default_factory=list)
    floor_blocks: list[Block] = field(default_factory=list)
    rerun: list[Block] = field(default_factory=list)
    cold: list[Cold] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    backing: dict[str, object] = field(default_factory=dict)
    sweeps: list[Sweep] = field(default_factory=list)
    sized: list[Sized] = field(default_factory=list)
    late_shares: list[float] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    equal: EqualLoad | None = None
    distance: Distance | None = None
