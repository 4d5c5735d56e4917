"""The votes model as a store that a VotingBreaker can talk to: its clock and its troubles are the test's to set."""

from asyncio import sleep
from collections.abc import Callable

from shared.kit.breaker_votes import Exchange, Reply
from tests.machines.votes_model import Request, Rules, Store, sync


class StoreDownError(Exception):
    pass


class ModelStore:
    def __init__(self, clock: Callable[[], float], *, leases_expire: bool = True, fenced: bool = True) -> None:
        self._clock = clock
        self._leases_expire = leases_expire
        self._fenced = fenced
        self.store = Store()
        # "down": nothing arrives; "reply lost": done, but nobody hears of it; "slow": others run before it answers
        self.trouble: str | None = None
        self.exchanges: list[Exchange] = []

    def lose_everything(self) -> None:
        self.store = Store()

    async def exchange(self, name: str, exchange: Exchange) -> Reply:
        assert name == "quotes"
        self.exchanges.append(exchange)
        if self.trouble == "down":
            raise StoreDownError("connection refused")
        if self.trouble == "slow":
            await sleep(0)
        e = exchange
        request = Request(e.environment_id, e.vote, e.action, e.token, e.lease_ms)
        rules = Rules(e.quorum, e.vote_ms, e.base_ms, e.max_ms, e.probes, self._leases_expire, self._fenced)
        self.store, reply = sync(self.store, round(self._clock() * 1000), request, rules)
        if self.trouble == "reply lost":
            raise StoreDownError("connection reset")
        return Reply(int(reply.verdict), reply.wait_ms, reply.token)
