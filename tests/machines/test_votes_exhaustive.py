"""Every state the votes protocol can reach with a few environments: none is stuck, and none closes on stale news.

Time goes in ticks. An environment votes, asks, crashes with a lease in its hands, answers late, or is never heard of
again; the store may lose everything at any moment. Walked breadth first, so that what is found is a shortest way there.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.machines.votes_model import FOREVER, Fleet, Request, Rules, Store, Verdict, sync

TICK = 10_000  # a token may run ahead of the clock by one for each lease given in the same millisecond, never by a tick
LEASE = 2 * TICK
RULES = Rules(quorum=2, vote_ms=3 * TICK, base_ms=TICK, max_ms=2 * TICK, probes=2)
ENVIRONMENTS = ("a", "b", "c")
STALE = -1  # a token that is not the fleet's any more; which one it was no longer matters, for tokens never come again
NOW = 100 * TICK  # every state is shifted to this moment: only distances matter


@dataclass(frozen=True, slots=True)
class World:
    store: Store
    probes: tuple[tuple[str, int], ...] = ()  # environment, token it holds: one call in flight each


@dataclass(frozen=True, slots=True)
class Step:
    label: str
    world: World
    closed_by_stale: bool = False


def steps(world: World, rules: Rules) -> Iterator[Step]:
    yield Step("tick", _shifted(world, TICK))
    yield Step("store lost", World(Store(), world.probes))
    holding = dict(world.probes)
    for environment in ENVIRONMENTS:
        voted, _ = sync(world.store, NOW, Request(environment, vote=1), rules)
        yield Step(f"{environment} opens", World(voted, world.probes))
        if environment in holding:
            yield Step(f"{environment} crashes", World(world.store, _without(world.probes, environment)))
            for action in ("good", "bad", "void"):
                yield _settled(world, environment, action, rules)
        else:
            yield _asked(world, environment, rules)


def _asked(world: World, environment: str, rules: Rules) -> Step:
    store, reply = sync(world.store, NOW, Request(environment, action="admit", lease_ms=LEASE), rules)
    if reply.verdict is not Verdict.LEASED:
        return Step(f"{environment} is answered {reply.verdict.name}", World(store, world.probes))
    assert reply.token not in dict(world.probes).values()
    return Step(f"{environment} takes the lease", World(store, (*world.probes, (environment, reply.token))))


def _settled(world: World, environment: str, action: str, rules: Rules) -> Step:
    token = dict(world.probes)[environment]
    store, _ = sync(world.store, NOW, Request(environment, action=action, token=token), rules)
    fleet = world.store.fleet
    stale = fleet is None or token != fleet.generation or fleet.lease_until <= NOW
    was_open = fleet is not None and fleet.ends > NOW
    after = World(store, _without(world.probes, environment))
    return Step(f"{environment} says {action}", after, was_open and store.fleet is None and stale)


def canonical(world: World) -> World:
    """Tokens to what matters of them, what is over to nothing, and environments to one order: they are all alike."""
    fleet = world.store.fleet
    if fleet is not None and fleet.ends <= NOW:
        fleet = None
    current = fleet.generation if fleet else None
    if fleet is not None:
        fleet = replace(fleet, generation=NOW, open_until=max(fleet.open_until, NOW))
    votes = {e: ends for e, ends in world.store.votes if ends > NOW}
    tokens = {e: NOW if token == current else STALE for e, token in world.probes}
    alike = sorted((votes.get(e, 0), tokens.get(e, 0)) for e in ENVIRONMENTS)
    named = list(zip(ENVIRONMENTS, alike, strict=True))
    return World(
        Store(tuple((e, ends) for e, (ends, _) in named if ends), fleet),
        tuple((e, token) for e, (_, token) in named if token),
    )


def _shifted(world: World, by: int) -> World:
    fleet = world.store.fleet
    if fleet is not None:
        fleet = Fleet(
            fleet.generation,  # equality is all that is asked of it
            fleet.open_until - by,
            fleet.interval,
            fleet.ends if fleet.ends >= FOREVER else fleet.ends - by,
            fleet.lease_until if fleet.lease_until in (0, FOREVER) else fleet.lease_until - by,
            fleet.good,
        )
    return World(Store(tuple((e, ends - by) for e, ends in world.store.votes), fleet), world.probes)


def _without(probes: tuple[tuple[str, int], ...], environment: str) -> tuple[tuple[str, int], ...]:
    return tuple(p for p in probes if p[0] != environment)


@dataclass
class Explored:
    came_from: dict[World, tuple[World, str] | None]
    transitions: int
    stale_close: list[str] | None

    def way_to(self, world: World) -> list[str]:
        labels: list[str] = []
        while (origin := self.came_from[world]) is not None:
            world = origin[0]
            labels.append(origin[1])
        return labels[::-1]


def explore(rules: Rules) -> Explored:
    start = canonical(World(Store()))
    explored = Explored({start: None}, 0, None)
    queue = deque([start])
    while queue:
        world = queue.popleft()
        for step in steps(world, rules):
            explored.transitions += 1
            if step.closed_by_stale and explored.stale_close is None:
                explored.stale_close = [*explored.way_to(world), step.label]
            after = canonical(step.world)
            if after not in explored.came_from:
                explored.came_from[after] = (world, step.label)
                queue.append(after)
    return explored


def ticks_to_close(world: World, rules: Rules, at_most: int) -> int | None:
    """A healthy environment asks at every tick, and nobody else ever says a word again: how long until closed."""
    for ticks in range(at_most + 1):
        for _ in range(rules.probes + 1):
            store, reply = sync(world.store, NOW, Request("healthy", action="admit", lease_ms=LEASE), rules)
            if reply.verdict is Verdict.CLOSED:
                return ticks
            if reply.verdict is Verdict.LEASED:
                store, _ = sync(store, NOW, Request("healthy", action="good", token=reply.token), rules)
            world = World(store)
        world = canonical(_shifted(world, TICK))
    return None


def stuck(explored: Explored, rules: Rules) -> list[World]:
    # One lease that is lost, and one interval of back-off; the probes themselves take no time here.
    bound = (LEASE + rules.max_ms) // TICK
    return [w for w in explored.came_from if ticks_to_close(World(w.store), rules, bound) is None]


def test_no_state_is_stuck_and_none_closes_on_stale_news() -> None:
    explored = explore(RULES)
    assert len(explored.came_from) > 3_000  # the walk has really been somewhere
    assert stuck(explored, RULES) == []
    assert explored.stale_close is None


def test_the_check_finds_the_state_that_is_stuck_when_leases_do_not_expire() -> None:
    rules = replace(RULES, leases_expire=False)
    explored = explore(rules)
    wedged = stuck(explored, rules)
    assert wedged
    shortest = min((explored.way_to(w) for w in wedged), key=len)
    assert shortest[-1].endswith("takes the lease")  # and there it stays: its holder need only never come back
    assert explored.stale_close is None


def test_the_check_finds_the_stale_close_when_nothing_fences_late_results() -> None:
    rules = replace(RULES, fenced=False)
    explored = explore(rules)
    assert explored.stale_close is not None
    assert explored.stale_close[-1].endswith("says good")
    assert stuck(explored, rules) == []


@pytest.mark.parametrize("quorum", [1, 3])
def test_other_quorums_are_as_safe(quorum: int) -> None:
    rules = replace(RULES, quorum=quorum, probes=1)
    explored = explore(rules)
    assert stuck(explored, rules) == []
    assert explored.stale_close is None


def test_fewer_environments_than_the_quorum_never_open_the_fleet() -> None:
    store = Store()
    for _ in range(10):
        for environment in ("a", "b"):
            store, reply = sync(store, NOW, Request(environment, vote=1), replace(RULES, quorum=3))
            assert reply.verdict is Verdict.CLOSED
    store, reply = sync(store, NOW, Request("c", vote=1), replace(RULES, quorum=3))
    assert reply.verdict is Verdict.REJECT


def test_an_environment_that_closed_takes_its_vote_back() -> None:
    store = Store()
    for request in (Request("a", vote=1), Request("a", vote=-1), Request("b", vote=1)):
        store, reply = sync(store, NOW, request, RULES)
        assert reply.verdict is Verdict.CLOSED
