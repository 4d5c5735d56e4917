"""One environment of a fleet, as a process: so many callers at once for each line of its input. Judges nothing."""

import asyncio
import json
import sys

from shared.kit.breaker import BreakerSettings, CircuitBreaker, CircuitOpen
from shared.kit.breaker_votes import RedisVoteStore, VoteSettings, VotingBreaker
from shared.kit.guard import call

OPEN_S = 1.0
REMAINING_S = 60.0
BREAKER = BreakerSettings(
    slow_s=3.0, call_timeout_s=3.0, calls_min=3, open_base_s=OPEN_S, open_max_s=OPEN_S, probes_to_close=1
)
VOTES = VoteSettings(quorum=3, poll_s=0.001, budget_s=1.0)


class DownError(Exception):
    """What the dependency says while it is down."""


async def environment(url: str, port: int, name: str, shared: bool) -> None:
    """The process: so many callers at once for each line of its input."""

    async def fetch() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = (await reader.readline()).decode().strip()
        writer.close()
        if said != "up":
            raise DownError
        return said

    breaker = CircuitBreaker("fleet", BREAKER, rng=lambda: 1.0)
    voting = None
    if shared:
        store = RedisVoteStore(url, protects=None)
        voting = VotingBreaker(breaker, store, environment_id=name, settings=VOTES, rng=lambda: 1.0)

    async def caller() -> str:
        try:
            if voting is not None:
                return await voting.call(fetch, remaining_s=REMAINING_S, failures=DownError)
            return await call(breaker, fetch, remaining_s=REMAINING_S, failures=DownError)
        except CircuitOpen:
            return "rejected"
        except DownError:
            return "down"

    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        told = await asyncio.gather(*(caller() for _ in range(int(line))))
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(environment(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1"))
