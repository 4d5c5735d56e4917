"""The procedure `events`: requests effects while AWS rejects calls, then counts their events in the queue."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from typing import Any

import boto3
import msgspec
from botocore.config import Config

from warmfront.lab.emulator_process import EmulatorError
from warmfront.lab.fault_actions import applied
from warmfront.lab.history import History, check_effects
from warmfront.lab.http_client import NoAnswer
from warmfront.lab.scene import Observation, Scene, Span, as_request, build_fault, ratio

ATTEMPTS_MAX = 20
PAUSE_S = 0.3  # longer than a cold start
RUNS_MAX = 30  # of the function that publishes events, after the fault


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the procedure `events`: each effect that is requested over HTTP must have exactly one event in the queue."""

    operations: int = 60
    seconds: float = 6.0  # over which the requests are spread, with the faults applied
    request: dict[str, Any]
    id: str = "id"  # field of the effect's id in the response
    carrier: str = (
        ""  # the function that publishes events, invoked repeatedly; empty: the handler publishes them itself
    )
    event: dict[str, Any] = {}
    pending: str = "pending"  # field of the carrier's response: how many events are still to be published
    queue: str
    event_id: str = "subject"  # field of the effect's id in a message


async def events(scene: Scene) -> Observation:
    """Check that every acknowledged effect has exactly one event in the queue, and that there are no other events."""
    wanted = scene.options(Events)
    history = History()
    began_s = time.monotonic()
    async with applied(*(build_fault(scene, spec) for spec in scene.experiment.fault)):
        on_s = time.monotonic() - began_s
        carrying = asyncio.create_task(_carry_on(scene, wanted))
        try:
            answers = await _place_all(scene, wanted, history, began_s)
        finally:
            carrying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await carrying
        off_s = time.monotonic() - began_s
    pending = await _carry_the_rest(scene, wanted)
    aws = (await scene.emulator.state())["backing"]["aws"]
    met = await asyncio.to_thread(_drain, f"http://127.0.0.1:{aws['port']}", wanted)
    found = check_effects((each for each in history.operations if each.end == "ok"), met)
    return Observation(
        {
            "anomalies": float(found.lost + found.duplicated),
            "lost": float(found.lost),
            "duplicated": float(found.duplicated),
            "pending": pending,
            "placed": float(history.count("ok")),
            "placed_share": ratio(history.count("ok"), wanted.operations),
        },
        spans=[Span("fault", ", ".join(spec.kind for spec in scene.experiment.fault), on_s, off_s)],
        examples=[*answers, *found.examples],
    )


async def _place_all(scene: Scene, wanted: Events, history: History, began_s: float) -> list[str]:
    async def place(number: int) -> None:
        await asyncio.sleep(max(0.0, began_s + number * wanted.seconds / wanted.operations - time.monotonic()))
        method, path, headers, body = as_request(wanted.request, {"number": number, "key": f"{scene.seed}-{number}"})
        operation = history.invoke(number, "place", f"unknown {number}")
        client = scene.emulator.client()
        while operation.ended_s is None and operation.attempts < ATTEMPTS_MAX:
            operation.attempts += 1
            with contextlib.suppress(NoAnswer):
                reply = await client.request(
                    method, scene.variant.prefix + path, headers=headers, body=body, timeout_s=10
                )
                answers[reply.status] += 1
                if reply.status in (200, 201):
                    operation.key = str(reply.json()[wanted.id])
                    history.complete(operation, "ok")
                    continue
            await asyncio.sleep(PAUSE_S)
        await client.close()

    answers: Counter[int] = Counter()
    await asyncio.gather(*(place(number) for number in range(wanted.operations)))
    return [f"{count} x {status}" for status, count in sorted(answers.items())]


async def _carry_on(scene: Scene, wanted: Events) -> None:
    """Invoke the carrier repeatedly, as its schedule would. A failed run is made up for by the next one."""
    while wanted.carrier:
        with contextlib.suppress(EmulatorError):
            await scene.emulator.invoke(wanted.carrier, wanted.event)
        await asyncio.sleep(0.2)


async def _carry_the_rest(scene: Scene, wanted: Events) -> float:
    left = 0.0
    for _ in range(RUNS_MAX if wanted.carrier else 0):
        left = float((await scene.emulator.invoke(wanted.carrier, wanted.event))[wanted.pending])
        if not left:
            break
    return left


def _drain(endpoint_url: str, wanted: Events) -> Counter[str]:
    """Return how many events each effect has in the queue."""
    # Its own session, so that no AWS profile of the user is read.
    session = boto3.session.Session("local", "local", region_name="us-east-1")
    sqs = session.client("sqs", endpoint_url=endpoint_url, config=Config(read_timeout=10))
    names = sqs.list_queues().get("QueueUrls", ())
    urls = sorted((url for url in names if wanted.queue in url.rpartition("/")[2]), key=len)  # ..-dead is longer
    met: Counter[str] = Counter()
    for url in urls[:1]:
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            met.update(str(json.loads(message["Body"])[wanted.event_id]) for message in messages)
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    return met
