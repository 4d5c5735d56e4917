"""A finding of the doctor, and the limits of the account and the database that it assumes."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"  # two settings contradict each other: something will fail
    WARNING = "warning"  # a default or a choice that is dangerous under load
    ADVICE = "advice"  # depends on what the template does not say

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    severity: Severity
    where: str  # the resource
    line: int
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that the template does not state: the database's connections and the account's concurrency."""

    max_connections: int = 100
    kept_connections: int = 10  # for superusers, migrations and people with psql
    account_concurrency: int = 1000  # lambda/latest/dg/gettingstarted-limits.html

    @property
    def connections(self) -> int:
        return self.max_connections - self.kept_connections
