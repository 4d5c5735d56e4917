"""The votes protocol as one pure function: what the Lua script must answer, and what the exhaustive check walks.

The two ways to break it are here as well, so that the checks can be seen to find them.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

FOREVER = 1 << 60


class Verdict(IntEnum):
    CLOSED = 0
    REJECT = 1
    LEASED = 2


@dataclass(frozen=True, slots=True)
class Rules:
    quorum: int
    vote_ms: int
    base_ms: int
    max_ms: int
    probes: int
    leases_expire: bool = True  # False: broken on purpose
    fenced: bool = True  # False: broken on purpose


@dataclass(frozen=True, slots=True)
class Fleet:
    """The state while the fleet's circuit is not closed; None in its place while it is."""

    generation: int
    open_until: int
    interval: int
    ends: int  # when it is forgotten: the key's TTL
    lease_until: int = 0  # 0: nobody holds it
    good: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    votes: tuple[tuple[str, int], ...] = ()  # environment, when its vote ends; sorted by environment
    fleet: Fleet | None = None


@dataclass(frozen=True, slots=True)
class Request:
    environment: str
    vote: int = 0  # 1: this environment has opened, -1: it has closed, 0: no news
    action: str = "look"  # "admit": may this call go out; "good", "bad", "void": what became of the leased one
    token: int = 0
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    verdict: Verdict
    wait_ms: int
    token: int


def sync(store: Store, now: int, request: Request, rules: Rules) -> tuple[Store, Reply]:
    fleet = after_time(store.fleet, now, rules)
    votes = {environment: ends for environment, ends in store.votes if ends > now}
    if fleet is not None and request.action in ("good", "bad", "void") and _is_current(fleet, request, now, rules):
        fleet = _settle(fleet, request.action, now, rules)
        if fleet is None:
            votes = {}
    if request.vote > 0:
        votes[request.environment] = now + rules.vote_ms
        if fleet is None and len(votes) >= rules.quorum:
            fleet = _opened(0, now, rules.base_ms, rules)
    elif request.vote < 0:
        votes.pop(request.environment, None)
    fleet, reply = _answer(fleet, request, now, rules)
    return Store(tuple(sorted(votes.items())), fleet), reply


def after_time(fleet: Fleet | None, now: int, rules: Rules) -> Fleet | None:
    """What has become of the state by now without anybody's doing; the script writes it down only with its next step."""
    if fleet is None or now >= fleet.ends:
        return None
    if 0 < fleet.lease_until <= now:  # its holder is lost: as bad as a failed probe, since the lease ended
        interval = min(fleet.interval * 2, rules.max_ms)
        return replace(fleet, interval=interval, open_until=fleet.lease_until + interval, lease_until=0, good=0)
    return fleet


def _is_current(fleet: Fleet, request: Request, now: int, rules: Rules) -> bool:
    return now < fleet.lease_until and (fleet.generation == request.token or not rules.fenced)


def _settle(fleet: Fleet, action: str, now: int, rules: Rules) -> Fleet | None:
    if action == "bad":
        return _opened(fleet.generation, now, min(fleet.interval * 2, rules.max_ms), rules)
    good = fleet.good + (action == "good")
    if good >= rules.probes:
        return None
    return replace(fleet, good=good, lease_until=0, ends=now + rules.vote_ms)


def _opened(generation: int, now: int, interval: int, rules: Rules) -> Fleet:
    return Fleet(max(generation + 1, now), now + interval, interval, now + interval + rules.vote_ms)


def _answer(fleet: Fleet | None, request: Request, now: int, rules: Rules) -> tuple[Fleet | None, Reply]:
    if fleet is None:
        return None, Reply(Verdict.CLOSED, 0, 0)
    wait_ms = max(fleet.open_until - now, fleet.lease_until - now, 0)
    if wait_ms or request.action != "admit":
        return fleet, Reply(Verdict.REJECT, wait_ms, 0)
    generation = max(fleet.generation + 1, now)
    lease_until = now + request.lease_ms if rules.leases_expire else FOREVER
    ends = lease_until + min(fleet.interval * 2, rules.max_ms) + rules.vote_ms
    leased = replace(fleet, generation=generation, lease_until=lease_until, ends=ends)
    return leased, Reply(Verdict.LEASED, request.lease_ms, generation)
