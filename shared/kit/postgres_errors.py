"""One table from a failure of Postgres or asyncpg to its meaning: which problem, evidence for the breaker, run again or not.

    kind         problem        breaker      idempotent work   the failed statement
    ANSWER       as raised      success      -                 was not done: the server answered, and the answer was no
    MISSING      as raised      success      -                 was not done: the database, or a table in it, does not exist
    MISUSE       as raised      ignored      -                 was not done: the driver was called wrongly
    CONTENTION   contention     ignored      runs again        was not done: other transactions were in the way
    LOCKED       contention     ignored      -                 was not done: it waited for a lock, and would wait again
    SLOW         timed-out      failure      -                 was not done: the server cancelled it
    OUTAGE       unavailable    failure      -                 was not done: the server cannot work
    READ_ONLY    unavailable    failure      runs again        was not done: this server is no longer the primary
    LOST         unavailable    failure      runs again        may have been done: no answer will come
    UNKNOWN      unavailable    ignored      runs again        may have been done, says the server
    TIMEOUT      timed-out      failure      -                 may have been done: no answer in the time that a call has
    CUT_SHORT    timed-out      abandoned    -                 may have been done: the request had less time than that

Work that promised to run once, or with a key, and may have been done is answered `outcome-unknown`, whatever the table
says: its client must not take it for work that was not done.

SQLSTATEs: postgresql.org/docs/current/errcodes-appendix.html
"""

from enum import Enum

from asyncpg import exceptions as pg

from shared.kit.circuit import Outcome
from shared.kit.problems import MISSING


class Kind(Enum):
    ANSWER = "answer"
    MISSING = "missing"
    MISUSE = "misuse"
    CONTENTION = "contention"
    LOCKED = "locked"
    SLOW = "slow"
    OUTAGE = "outage"
    READ_ONLY = "read-only"
    LOST = "lost"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
    CUT_SHORT = "cut short"


OUTCOMES = {
    Kind.ANSWER: Outcome.SUCCESS,
    Kind.MISSING: Outcome.SUCCESS,  # however often it is asked, the server works
    Kind.MISUSE: Outcome.IGNORED,
    Kind.CONTENTION: Outcome.IGNORED,
    Kind.LOCKED: Outcome.IGNORED,
    Kind.SLOW: Outcome.FAILURE,
    Kind.OUTAGE: Outcome.FAILURE,
    Kind.READ_ONLY: Outcome.FAILURE,
    Kind.LOST: Outcome.FAILURE,
    Kind.UNKNOWN: Outcome.IGNORED,
    Kind.TIMEOUT: Outcome.FAILURE,
    Kind.CUT_SHORT: Outcome.ABANDONED,  # it had no fair chance: evidence only if it was slow by then
}
AS_RAISED = frozenset({Kind.ANSWER, Kind.MISSING, Kind.MISUSE})
RUNS_AGAIN = frozenset({Kind.CONTENTION, Kind.READ_ONLY, Kind.LOST, Kind.UNKNOWN})
MAY_BE_DONE = frozenset({Kind.LOST, Kind.UNKNOWN, Kind.TIMEOUT, Kind.CUT_SHORT})
# The connection is of no more use, or its state is unknown.
CLOSES = frozenset({Kind.MISUSE, Kind.READ_ONLY, *MAY_BE_DONE})

BY_SQLSTATE = {
    **dict.fromkeys(MISSING, Kind.MISSING),
    "25006": Kind.READ_ONLY,  # read_only_sql_transaction: after a failover, on a connection to the old primary
    "25P03": Kind.LOST,  # idle_in_transaction_session_timeout: the server has closed the session
    "25P04": Kind.LOST,  # transaction_timeout, likewise
    "40003": Kind.UNKNOWN,  # statement_completion_unknown
    "55P03": Kind.LOCKED,  # lock_not_available: lock_timeout, or NOWAIT
    "57014": Kind.SLOW,  # query_canceled: statement_timeout
    "57P01": Kind.LOST,  # admin_shutdown
    "57P02": Kind.LOST,  # crash_shutdown
    "57P03": Kind.LOST,  # cannot_connect_now: it starts or stops
    "57P04": Kind.LOST,  # database_dropped
    "57P05": Kind.LOST,  # idle_session_timeout
}
BY_CLASS = {
    "08": Kind.LOST,  # connection exception
    "28": Kind.OUTAGE,  # invalid authorization: nobody can log in
    "40": Kind.CONTENTION,  # transaction rollback: deadlock, serialization failure
    "53": Kind.OUTAGE,  # insufficient resources: disk, memory, connections
    "57": Kind.OUTAGE,  # operator intervention
    "58": Kind.OUTAGE,  # system error: I/O
    "XX": Kind.OUTAGE,  # internal error, corruption
}


def kind_of(error: BaseException, *, closed: bool) -> Kind | None:
    """What a failure means; None if it is neither Postgres' nor the driver's. `closed`: the connection is closed by now."""
    if isinstance(error, pg.PostgresError):
        sqlstate: str = error.sqlstate or ""
        return BY_SQLSTATE.get(sqlstate) or BY_CLASS.get(sqlstate[:2]) or Kind.ANSWER
    if isinstance(error, pg.InterfaceError | pg.InternalClientError):
        # asyncpg raises the same types for wrong arguments (those are ValueErrors as well), for a connection that two
        # tasks use at once, and for one that is gone.
        return Kind.LOST if closed and not isinstance(error, ValueError) else Kind.MISUSE
    return Kind.LOST if closed and isinstance(error, OSError) else None


def kind_of_connecting(error: Exception) -> Kind | None:
    """The same for a connection that could not be opened: whatever else the server says, the database cannot be used."""
    kind = kind_of(error, closed=True)
    return Kind.OUTAGE if kind is Kind.ANSWER else kind
