"""Keys and their effects on a real Postgres against a model: requests, twins in flight, crashes, expiry, refusals.

The model says what each request must be answered with, and what must then be in the database: one effect for each key
that was answered, none for what was refused or did not commit.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import integers, sampled_from
from warmfront.backing.postgres import Postgres

from shared.kit import environment
from shared.kit.idempotency import Answer, Claim, purge
from shared.kit.problems import KeyInFlight, KeyReused
from shared.kit.requests import encode
from shared.shop import orders
from shared.shop.contract import NewOrder, NewOrderLine
from shared.shop.problems import OutOfStock
from tests.functions.conftest import load, shop_environ

SCOPES = ("POST /pooled/orders alice", "POST /pooled/orders bob")
KEYS = ("a", "b")
STOCK = 8
# A product for each key: a twin in flight holds the row of its own, and nobody has to wait for it but its twins.
PRODUCTS = {(scope, key): 1 + n for n, (scope, key) in enumerate((s, k) for s in SCOPES for k in KEYS)}

type Place = tuple[str, str]


@dataclass
class Stored:
    quantity: int
    body: str
    live: bool = True


@dataclass
class Model:
    """What is committed."""

    stored: dict[Place, Stored] = field(default_factory=dict)
    sold: dict[Place, int] = field(default_factory=lambda: dict.fromkeys(PRODUCTS, 0))
    effects: int = 0

    def commit(self, place: Place, quantity: int, body: str) -> None:
        self.sold[place] += quantity
        self.effects += 1
        self.stored[place] = Stored(quantity, body)


class Keys(RuleBasedStateMachine):
    server: ClassVar[Postgres]
    runner: ClassVar[asyncio.Runner]
    connection: ClassVar[Any]
    """Of the environment that asks now."""
    other: ClassVar[Any]
    """Of the one whose request is in flight."""

    @initialize()
    def empty(self) -> None:
        self.model = Model()
        self.flight: tuple[Place, int, str] | None = None
        self.run(self.connection.execute("TRUNCATE orders, order_lines, idempotency_keys"))
        self.run(self.connection.execute("UPDATE products SET stock = $1", STOCK))

    def teardown(self) -> None:
        if getattr(self, "flight", None) is not None:
            self.run(self.other.execute("ROLLBACK"))

    def run(self, awaitable: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(10):
                return await awaitable

        return self.runner.run(bounded())

    def ask(self, connection: Any, place: Place, quantity: int) -> Answer | Exception:
        order = NewOrder(1, [NewOrderLine(PRODUCTS[place], quantity)])
        claim = Claim.of(*place, encode(order), ttl_h=24)
        try:
            answer: Answer = self.run(orders.place(connection, claim, "alice", order))
        except (KeyInFlight, KeyReused, OutOfStock) as refusal:
            return refusal
        return answer

    def expected(self, place: Place, quantity: int) -> type[Exception] | str:
        """An error, "replayed" or "done"."""
        known = self.model.stored.get(place)
        if known is not None and known.live:
            return "replayed" if known.quantity == quantity else KeyReused
        if known is None and self.flight is not None and self.flight[0] == place:
            return KeyInFlight
        return "done" if self.model.sold[place] + quantity <= STOCK else OutOfStock

    def check(self, place: Place, quantity: int, outcome: Answer | Exception) -> bool:
        """Whether there is a new effect."""
        expected = self.expected(place, quantity)
        if isinstance(expected, type):
            assert type(outcome) is expected
            known = self.model.stored.get(place)
            if known is not None and not known.live:
                del self.model.stored[place]  # an expired key is forgotten first, and its request refused after that
            return False
        assert isinstance(outcome, Answer)
        assert outcome.replayed is (expected == "replayed")
        if outcome.replayed:
            assert outcome.body == self.model.stored[place].body
        return not outcome.replayed

    @rule(scope=sampled_from(SCOPES), key=sampled_from(KEYS), quantity=integers(1, 2))
    def request(self, scope: str, key: str, quantity: int) -> None:
        place = (scope, key)
        outcome = self.ask(self.connection, place, quantity)
        if self.check(place, quantity, outcome):
            assert isinstance(outcome, Answer)
            self.model.commit(place, quantity, outcome.body)

    @precondition(lambda self: self.flight is None)
    @rule(scope=sampled_from(SCOPES), key=sampled_from(KEYS), quantity=integers(1, 2))
    def take_off(self, scope: str, key: str, quantity: int) -> None:
        """A request that has done its work and not yet committed. Of an expired key a twin would have to wait."""
        place = (scope, key)
        if place in self.model.stored:
            return
        self.run(self.other.execute("BEGIN"))
        outcome = self.ask(self.other, place, quantity)
        if self.check(place, quantity, outcome):
            assert isinstance(outcome, Answer)
            self.flight = (place, quantity, outcome.body)
        else:
            self.run(self.other.execute("ROLLBACK"))

    @precondition(lambda self: self.flight is not None)
    @rule()
    def land(self) -> None:
        assert self.flight is not None
        self.run(self.other.execute("COMMIT"))
        self.model.commit(*self.flight)
        self.flight = None

    @precondition(lambda self: self.flight is not None)
    @rule()
    def crash(self) -> None:
        """The environment is killed before the commit; the server notices."""
        pid = self.other.get_server_pid()
        assert self.run(self.connection.fetchval("SELECT pg_terminate_backend($1, 10000)", pid))
        self.other.terminate()
        type(self).other = self.run(asyncpg.connect(self.server.url("keys")))
        self.flight = None

    @precondition(lambda self: self.model.stored)
    @rule(data=integers(0, 5))
    def expire(self, data: int) -> None:
        place = sorted(self.model.stored)[data % len(self.model.stored)]
        self.run(
            self.connection.execute(
                "UPDATE idempotency_keys SET expires_at = now() - interval '1 s' WHERE scope = $1 AND key = $2", *place
            )
        )
        self.model.stored[place].live = False

    @rule(at_most=integers(1, 3))
    def purge_expired(self, at_most: int) -> None:
        dead = [place for place, stored in self.model.stored.items() if not stored.live]
        assert self.run(purge(self.connection, at_most)) == min(at_most, len(dead))
        rows = self.run(self.connection.fetch("SELECT scope, key FROM idempotency_keys"))
        left = {tuple(row) for row in rows}
        self.model.stored = {p: s for p, s in self.model.stored.items() if s.live or p in left}

    @invariant()
    def one_effect_for_each_answer_and_none_else(self) -> None:
        if not hasattr(self, "model"):
            return
        stock = dict(self.run(self.connection.fetch("SELECT id, stock FROM products")))
        assert stock == {PRODUCTS[place]: STOCK - sold for place, sold in self.model.sold.items()}
        assert self.run(self.connection.fetchval("SELECT count(*) FROM orders")) == self.model.effects
        rows = self.run(self.connection.fetch("SELECT scope, key, body, expires_at > now() FROM idempotency_keys"))
        stored = {(scope, key): (body, live) for scope, key, body, live in rows}
        assert stored == {place: (each.body, each.live) for place, each in self.model.stored.items()}


@pytest.fixture
def machine() -> Iterator[type[Keys]]:
    with Postgres.start({"PATH": os.environ["PATH"]}, origin="wheel") as server, asyncio.Runner() as runner:
        migrate = load("migrate", "functions.migrate.app", shop_environ(server, "postgres"))
        migrate.invoke({"action": "apply", "databases": ["keys"]})
        environment.reset()
        Keys.server, Keys.runner = server, runner
        Keys.connection, Keys.other = (runner.run(asyncpg.connect(server.url("keys"))) for _ in range(2))
        rows = [(number, "P", "", 1, STOCK) for number in PRODUCTS.values()]
        columns = "id, name, description, price_cents, stock"
        runner.run(Keys.connection.executemany(f"INSERT INTO products ({columns}) VALUES ($1, $2, $3, $4, $5)", rows))
        yield Keys
        for connection in (Keys.connection, Keys.other):
            runner.run(connection.close())


@pytest.mark.slow
def test_a_key_stands_for_one_effect_whatever_happens_around_it(machine: type[Keys]) -> None:
    everything = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    run_state_machine_as_test(machine, settings=everything)
