"""The relay against a real Postgres and a played SQS: everything arrives, in order, and nothing is lost on the way."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from warmfront.backing.aws import Aws
from warmfront.backing.postgres import Postgres

from shared.kit import environment
from shared.kit.settings import BadSetting
from tests.functions.conftest import Context, Function, load, shop_environ

AWS_ENVIRON = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "eu-central-1"}
BODY = {"customer_id": 1, "lines": [{"product_id": 21, "quantity": 1}]}


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with Aws.start() as aws:
        yield aws


@pytest.fixture
def sqs(aws: Aws) -> Any:
    return boto3.client(
        "sqs",
        endpoint_url=aws.endpoint_url,
        region_name="eu-central-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


@pytest.fixture
def queue(sqs: Any) -> Iterator[str]:
    url: str = sqs.create_queue(QueueName="orders.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def relay(server: Postgres, migrate: Function, aws: Aws, queue: str) -> Iterator[Function]:
    migrate.invoke({"action": "reset", "databases": ["distributed"]})
    environ = shop_environ(server, "distributed") | AWS_ENVIRON
    yield load(
        "relay",
        "functions.relay.app",
        environ
        | {
            "SHOP_EVENTS_QUEUE_URL": queue,
            "AWS_ENDPOINT_URL": aws.endpoint_url,
            "SHOP_STATEMENT_TIMEOUT_MS": "20000",
            "NO_PROXY": "127.0.0.1",
        },
    )
    environment.reset()


def run(relay: Function, remaining_ms: int = 60_000) -> Any:
    return relay.invoke({}, Context(remaining_ms))


def received(sqs: Any, queue: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while batch := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        messages += (json.loads(message["Body"]) for message in batch)
        for message in batch:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return messages


def ask(server: Postgres, sql: str, *args: Any) -> Any:
    async def whole() -> Any:
        connection = await asyncpg.connect(server.admin_url("distributed"))
        try:
            return await connection.fetch(sql, *args)
        finally:
            await connection.close()

    return asyncio.run(whole())


def happened(server: Postgres, *aggregates: int) -> list[int]:
    rows = ask(
        server,
        "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) SELECT 'order', a, 'order.placed', jsonb_build_object('n', n) "
        "FROM unnest($1::bigint[]) WITH ORDINALITY AS t (a, n) ORDER BY n RETURNING id",
        list(aggregates),
    )
    return [row["id"] for row in rows]


def unpublished(server: Postgres) -> list[int]:
    return [row["id"] for row in ask(server, "SELECT id FROM outbox WHERE published_at IS NULL ORDER BY id")]


def test_what_was_ordered_arrives_as_a_cloud_event(
    relay: Function, distributed: Function, server: Postgres, sqs: Any, queue: str
) -> None:
    placed = distributed.request("POST", "/orders", body=BODY)
    assert run(relay) == {"published": 1, "refused": 0, "pending": 0, "purged": 0}
    (message,) = received(sqs, queue)
    assert message["data"] == placed.json
    assert message["time"].endswith("Z")
    told = {name: message[name] for name in ("specversion", "type", "source", "subject", "datacontenttype")}
    assert told == {
        "specversion": "1.0",
        "type": "order.placed",
        "source": "/shop",
        "subject": str(placed.json["id"]),
        "datacontenttype": "application/json",
    }
    assert unpublished(server) == []
    assert run(relay)["published"] == 0
    assert received(sqs, queue) == []


def test_many_events_go_out_in_batches_and_those_of_one_aggregate_in_order(
    relay: Function, server: Postgres, sqs: Any, queue: str
) -> None:
    happened(server, *([1, 2, 1, 3, 1] * 7))
    assert run(relay) == {"published": 35, "refused": 0, "pending": 0, "purged": 0}
    numbers: dict[str, list[int]] = {}
    for message in received(sqs, queue):
        numbers.setdefault(message["subject"], []).append(message["data"]["n"])
    assert {subject: len(n) for subject, n in numbers.items()} == {"1": 21, "2": 7, "3": 7}
    assert all(n == sorted(n) for n in numbers.values())


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, relay: Function) -> Callable[[set[int]], list[list[int]]]:
    """From now on the queue refuses these; the batches that were asked for are noted."""

    def refuse(event_ids: set[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        client = relay.module.boto3.client("sqs", region_name="eu-central-1", endpoint_url="http://127.0.0.1:9")

        def answer(*, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - as boto3 has it
            del QueueUrl
            ids = [int(entry["Id"]) for entry in Entries]
            batches.append(ids)
            return {
                "Successful": [{"Id": str(i)} for i in ids if i not in event_ids],
                "Failed": [
                    {"Id": str(i), "Code": "InternalError", "SenderFault": False} for i in ids if i in event_ids
                ],
            }

        monkeypatch.setattr(client, "send_message_batch", answer)
        monkeypatch.setattr(relay.module, "sqs", lambda: client)
        return batches

    return refuse


def test_what_the_queue_refuses_is_kept_and_keeps_back_only_what_follows_it(
    relay: Function, server: Postgres, refusing: Callable[[set[int]], list[list[int]]]
) -> None:
    first, second, other, *rest = happened(server, 1, 1, 2, *range(3, 15))
    refusing({first})
    assert run(relay) == {"published": 13, "refused": 1, "pending": 2, "purged": 0}
    assert unpublished(server) == [first, second]
    batches = refusing(set())
    assert run(relay) == {"published": 2, "refused": 0, "pending": 0, "purged": 0}
    assert batches == [[first], [second]]
    assert {other, *rest}.isdisjoint(unpublished(server))


def test_a_head_of_refused_events_does_not_stop_the_others(
    relay: Function, server: Postgres, refusing: Callable[[set[int]], list[list[int]]]
) -> None:
    events = happened(server, *range(1, 26))
    refusing(set(events[:12]))
    assert run(relay) == {"published": 13, "refused": 12, "pending": 12, "purged": 0}


def test_a_queue_that_cannot_be_reached_fails_the_run_and_loses_nothing(
    relay: Function, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = happened(server, 1, 2)

    class Unreachable:
        def send_message_batch(self, **_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://sqs")

    monkeypatch.setattr(relay.module, "sqs", Unreachable)
    with pytest.raises(EndpointConnectionError):
        run(relay)
    assert unpublished(server) == events
    monkeypatch.undo()
    assert run(relay)["published"] == 2


def test_a_relay_killed_after_it_sent_and_before_it_noted_sends_again(
    relay: Function, server: Postgres, sqs: Any, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event,) = happened(server, 1)

    class KilledError(BaseException):
        pass

    async def killed(*_: Any) -> None:
        raise KilledError

    monkeypatch.setattr(relay.module.outbox, "settle", killed)
    with pytest.raises(KilledError):
        run(relay)
    monkeypatch.undo()
    assert unpublished(server) == [event]
    assert run(relay)["published"] == 0, "its claim still holds"
    ask(server, "UPDATE outbox SET claimed_until = now() - interval '1 s'")
    assert run(relay)["published"] == 1
    # Sent twice, and the queue has dropped the second: the same deduplication id within five minutes.
    assert [message["id"] for message in received(sqs, queue)] == [str(event)]


def test_two_relays_claim_different_events_and_none_out_of_turn(relay: Function, server: Postgres) -> None:
    outbox = relay.module.outbox
    first, second, other = happened(server, 1, 1, 2)

    async def both() -> None:
        ours, theirs = [await asyncpg.connect(server.url("distributed"), command_timeout=20) for _ in range(2)]

        async def claimed(connection: Any, at_most: int = 10, lease_s: float = 30.0) -> list[int]:
            return [event.id for event in await outbox.claim(connection, at_most, without=[], lease_s=lease_s)]

        async with ours.transaction():
            assert await claimed(ours, 1) == [first]
            assert await claimed(theirs) == [other], "a row that another claim is at is not waited for"
        assert await claimed(theirs) == []
        await outbox.settle(ours, [first], [first])
        assert await claimed(theirs) == [second]
        await outbox.settle(theirs, [second, other], [])
        assert await claimed(ours, lease_s=0.01) == [second, other], "what was not sent is free at once"
        await asyncio.sleep(0.05)
        assert await claimed(theirs) == [second, other], "a claim ends by itself"
        await ours.close()
        await theirs.close()

    asyncio.run(both())


def test_aggregates_of_different_types_do_not_hold_each_other_back(relay: Function, server: Postgres) -> None:
    (product,) = happened(server, 5)
    ask(server, "UPDATE outbox SET aggregate_type = 'product'")
    (order,) = happened(server, 5)

    async def both() -> list[int]:
        connection = await asyncpg.connect(server.url("distributed"))
        try:
            return [event.id for event in await relay.module.outbox.claim(connection, 9, without=[product], lease_s=9)]
        finally:
            await connection.close()

    assert asyncio.run(both()) == [order]


def test_events_of_one_aggregate_keep_the_order_of_its_row(relay: Function, server: Postgres) -> None:
    """The precondition: who writes an event holds the aggregate's row, so a later one draws its id after the commit."""

    async def both() -> list[str]:
        ours, theirs, sender = [await asyncpg.connect(server.url("distributed"), command_timeout=20) for _ in range(3)]
        event = "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', 7, $1, '{}')"
        taken: list[str] = []

        async def write(connection: Any, kind: str, locked: asyncio.Event | None = None) -> None:
            async with connection.transaction():
                await connection.execute("SELECT FROM orders WHERE id = 7 FOR UPDATE")
                await connection.execute(event, kind)
                if locked is not None:
                    locked.set()
                    await asyncio.sleep(0.2)  # the other waits for the row meanwhile, and has drawn no id

        async def send() -> None:
            events = await relay.module.outbox.claim(sender, 9, without=[], lease_s=9)
            ids = [event.id for event in events]
            await relay.module.outbox.settle(sender, ids, ids)
            taken.extend(event.type for event in events)

        locked = asyncio.Event()
        first = asyncio.create_task(write(ours, "order.placed", locked))
        await locked.wait()
        second = asyncio.create_task(write(theirs, "order.cancelled"))
        await send()
        await asyncio.gather(first, second)
        await send()
        await send()
        for connection in (ours, theirs, sender):
            await connection.close()
        return taken

    assert asyncio.run(both()) == ["order.placed", "order.cancelled"]


def test_a_slow_queue_holds_no_transaction_and_is_no_evidence_against_the_database(
    relay: Function, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch takes longer than a call that the breaker calls slow."""
    happened(server, *range(1, 71))
    open_transactions: list[int] = []

    class Slow:
        def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
            del QueueUrl
            time.sleep(0.25)
            mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'distributed' AND state LIKE 'idle in%'"
            open_transactions.append(ask(server, mine)[0][0])
            return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    impatient = load("relay", "functions.relay.app", {**relay.environ, "SHOP_BREAKER_SLOW_MS": "200"})
    monkeypatch.setattr(impatient.module, "sqs", Slow)
    assert run(impatient)["published"] == 70
    assert open_transactions == [0] * 7
    breaker = impatient.module.database().breaker.snapshot()
    assert (breaker.slow, breaker.failures) == (0, 0)


def test_with_too_little_time_no_batch_is_begun(relay: Function, server: Postgres) -> None:
    happened(server, 1)
    assert run(relay, remaining_ms=5_000) == {"published": 0, "refused": 0, "pending": 1, "purged": 0}


def test_without_a_queue_it_refuses_to_start(server: Postgres) -> None:
    with pytest.raises(BadSetting, match="SHOP_EVENTS_QUEUE_URL is not set"):
        load("relay", "functions.relay.app", shop_environ(server, "distributed"))


def test_what_was_published_long_ago_and_expired_keys_are_purged_in_batches(
    relay: Function, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = (
        """INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, published_at)
           SELECT 'order', n, 'order.placed', '{}', now() - (CASE WHEN n <= 7 THEN 169 ELSE 167 END) * interval '1 hour'
             FROM generate_series(1, 10) AS n""",
        """INSERT INTO idempotency_keys (scope, key, fingerprint, status, resource, body, expires_at)
           SELECT 's', n::text, '', 201, '1', '', now() + (CASE WHEN n <= 8 THEN -1 ELSE 1 END) * interval '1 hour'
             FROM generate_series(1, 10) AS n""",
    )

    async def store() -> None:
        connection = await asyncpg.connect(server.url("distributed"))
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    async def left() -> tuple[int, int]:
        connection = await asyncpg.connect(server.url("distributed"))
        counts = [await connection.fetchval(f"SELECT count(*) FROM {t}") for t in ("outbox", "idempotency_keys")]
        await connection.close()
        return counts[0], counts[1]

    asyncio.run(store())
    monkeypatch.setattr(relay.module, "PURGE_ROWS", 3)
    assert run(relay)["purged"] == 15
    assert asyncio.run(left()) == (3, 2)
    assert run(relay)["purged"] == 0


def test_without_time_nothing_is_purged_and_the_events_of_this_run_are_kept(relay: Function, server: Postgres) -> None:
    happened(server, 1)
    assert run(relay) == {"published": 1, "refused": 0, "pending": 0, "purged": 0}
    statement = "UPDATE outbox SET published_at = now() - interval '1 year'"

    async def age() -> None:
        connection = await asyncpg.connect(server.url("distributed"))
        await connection.execute(statement)
        await connection.close()

    asyncio.run(age())
    assert relay.invoke({}, Context(remaining_ms=1_900))["purged"] == 0
    assert run(relay)["purged"] == 1
