"""Runs the template's schedules and queue event sources, each as a task."""

import asyncio
import json
import uuid
import zoneinfo
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, tzinfo

from warmfront.emulator.lambda_service.event_sources.event_pattern import PatternError
from warmfront.emulator.lambda_service.event_sources.schedule_expression import Schedule, ScheduleError, parse_schedule
from warmfront.emulator.lambda_service.event_sources.sqs import SqsPoller
from warmfront.emulator.lambda_service.service import LambdaService, new_trace_id
from warmfront.emulator.lambda_service.types import InvocationResult, ServiceError
from warmfront.emulator.template import ACCOUNT_ID, ScheduleSource, SqsSource

SLEEP_MAX_S = 3600.0
"""A schedule looks at the clock at least so often, because the clock can be set."""


class SourceError(Exception):
    """An event source that cannot work, in one line that names the fix."""


class EventSources:
    """All of a template's. Use as an async context manager."""

    def __init__(self, service: LambdaService) -> None:
        """Raises SourceError where an expression is wrong."""
        self._service = service
        self._note = service.options.note
        now = datetime.now(UTC)
        self._schedules = [
            (source, _parse(source, now))
            for source in service.template.event_sources
            if isinstance(source, ScheduleSource) and source.enabled and source.function in service.functions
        ]
        self._queues = [
            source
            for source in service.template.event_sources
            if isinstance(source, SqsSource) and source.enabled and source.function in service.functions
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def needs_aws(self) -> bool:
        return bool(self._queues)

    async def __aenter__(self) -> "EventSources":
        for source, schedule in self._schedules:
            timer = ScheduleTimer(source, schedule, self._submit, region=self._service.options.region)
            self._tasks.append(asyncio.ensure_future(timer.run()))
        aws = self._service.options.aws
        for queue in self._queues:
            if aws is None:
                self._note(
                    f"{queue.function}: nobody reads queue {queue.queue_name}: there is no AWS here (--aws local)"
                )
                continue
            try:
                poller = SqsPoller(queue, aws, self._invoke, self._note)
            except PatternError as error:  # a message that is filtered out is deleted, so none is read
                self._note(
                    f"{queue.function}: event {queue.event}: filter pattern: {error}; queue {queue.queue_name} is not read"
                )
                continue
            self._tasks.append(asyncio.ensure_future(poller.run()))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _invoke(self, function: str, event: bytes) -> InvocationResult:
        tracing = self._service.functions[function].config.tracing
        alias = self._service.alias(function)
        return await self._service.invoke(function, event, trace_id=new_trace_id(sampled=tracing), qualifier=alias)

    def _submit(self, function: str, event: bytes) -> None:
        try:
            self._service.submit(function, event, qualifier=self._service.alias(function))
        except ServiceError as error:
            self._note(f"schedule of {function}: {error}")


def _parse(source: ScheduleSource, now: datetime) -> Schedule:
    try:
        return parse_schedule(source.expression, began=now, zone=_zone(source.timezone))
    except ScheduleError as error:
        raise SourceError(f"{source.function}: event {source.event}: {error}") from None


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise ScheduleError(f"timezone {name!r} is not known here") from None


class ScheduleTimer:
    """Sends one schedule's events when they are due."""

    def __init__(
        self,
        source: ScheduleSource,
        schedule: Schedule,
        submit: Callable[[str, bytes], None],
        *,
        region: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._schedule = schedule
        self._submit = submit
        self._region = region
        self._now = now
        self._sleep = sleep

    async def run(self) -> None:
        """Until nothing is due any more.

        After a suspend of the machine, or a step of its clock, what was due meanwhile is sent once.
        """
        due = self._schedule.next_after(self._now())
        while due is not None:
            left_s = (due - self._now()).total_seconds()
            if left_s > 0:
                await self._sleep(min(left_s, SLEEP_MAX_S))
                continue
            self._submit(self._source.function, scheduled_event(self._source, due, self._region))
            due = self._schedule.next_after(max(due, self._now()))


def scheduled_event(source: ScheduleSource, due: datetime, region: str) -> bytes:
    """What EventBridge sends: the template's Input, or its own event.

    docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html; a schedule of EventBridge Scheduler names itself in source
    and resources, and its detail is a string (recorded on AWS).
    """
    time = due.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    execution_id = str(uuid.uuid4())
    place = f"{region}:{ACCOUNT_ID}"
    arn = (
        f"arn:aws:scheduler:{place}:schedule/default/{source.name}"
        if source.scheduler
        else f"arn:aws:events:{place}:rule/{source.name}"
    )
    if source.input is not None:
        text = source.input
        if source.scheduler:
            for name, value in {
                "<aws.scheduler.schedule-arn>": arn,
                "<aws.scheduler.scheduled-time>": time,
                "<aws.scheduler.execution-id>": execution_id,
                "<aws.scheduler.attempt-number>": "1",
            }.items():
                text = text.replace(name, value)
        return text.encode()
    event = {
        "version": "0",
        "id": execution_id,
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler" if source.scheduler else "aws.events",
        "account": ACCOUNT_ID,
        "time": time,
        "region": region,
        "resources": [arn],
        "detail": "{}" if source.scheduler else {},
    }
    return json.dumps(event).encode()
