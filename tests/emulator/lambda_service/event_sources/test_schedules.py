"""Schedule expressions, and the events they send, on a clock of the test's own."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from warmfront.emulator.lambda_service.event_sources.schedule_expression import ScheduleError, parse_schedule
from warmfront.emulator.lambda_service.event_sources.sources import ScheduleTimer, scheduled_event
from warmfront.emulator.template import ScheduleSource

BEGAN = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)  # a Sunday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(expression: str, after: str, count: int = 3) -> list[str]:
    schedule = parse_schedule(expression, began=BEGAN)
    moment = at(after)
    found = []
    for _ in range(count):
        due = schedule.next_after(moment)
        if due is None:
            break
        found.append(due.strftime("%Y-%m-%d %H:%M:%S"))
        moment = due
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("rate(5 minutes)", "2026-11-22 12:00:30", ["2026-11-22 12:05:30", "2026-11-22 12:10:30", "2026-11-22 12:15:30"]),
        ("rate(1 hour)", "2026-11-22 13:30:00", ["2026-11-22 14:00:30", "2026-11-22 15:00:30", "2026-11-22 16:00:30"]),
        ("rate(7 days)", "2026-11-22 12:00:30", ["2026-11-29 12:00:30", "2026-12-06 12:00:30", "2026-12-13 12:00:30"]),
        ("at(2026-11-22T13:00:00)", "2026-11-22 12:00:30", ["2026-11-22 13:00:00"]),
        ("at(2026-11-22T11:00:00)", "2026-11-22 12:00:30", []),
        # The examples of the EventBridge guide.
        ("cron(0 10 * * ? *)", "2026-11-22 12:00:30", ["2026-11-23 10:00:00", "2026-11-24 10:00:00", "2026-11-25 10:00:00"]),
        ("cron(15 12 * * ? *)", "2026-11-22 12:00:30", ["2026-11-22 12:15:00", "2026-11-23 12:15:00", "2026-11-24 12:15:00"]),
        ("cron(0 18 ? * MON-FRI *)", "2026-11-26 12:00:00", ["2026-11-26 18:00:00", "2026-11-27 18:00:00", "2026-11-30 18:00:00"]),
        ("cron(0 8 1 * ? *)", "2026-11-22 12:00:30", ["2026-12-01 08:00:00", "2027-01-01 08:00:00", "2027-02-01 08:00:00"]),
        ("cron(0/15 * * * ? *)", "2026-11-22 12:00:30", ["2026-11-22 12:15:00", "2026-11-22 12:30:00", "2026-11-22 12:45:00"]),
        ("cron(0/10 * ? * MON-FRI *)", "2026-11-27 23:45:00", ["2026-11-27 23:50:00", "2026-11-30 00:00:00", "2026-11-30 00:10:00"]),
        ("cron(0/30 20-2 ? * MON-FRI *)", "2026-11-27 23:20:00", ["2026-11-27 23:30:00", "2026-11-30 00:00:00", "2026-11-30 00:30:00"]),
        # Days.
        ("cron(0 0 L * ? *)", "2026-11-22 12:00:30", ["2026-11-30 00:00:00", "2026-12-31 00:00:00", "2027-01-31 00:00:00"]),
        ("cron(0 0 LW * ? *)", "2027-01-01 00:00:00", ["2027-01-29 00:00:00", "2027-02-26 00:00:00", "2027-03-31 00:00:00"]),
        ("cron(0 0 15W * ? *)", "2026-11-01 00:00:00", ["2026-11-16 00:00:00", "2026-12-15 00:00:00", "2027-01-15 00:00:00"]),
        ("cron(0 0 1W * ? *)", "2026-11-01 00:00:00", ["2026-11-02 00:00:00", "2026-12-01 00:00:00", "2027-01-01 00:00:00"]),
        ("cron(0 0 ? * 6L *)", "2026-11-22 12:00:30", ["2026-11-27 00:00:00", "2026-12-25 00:00:00", "2027-01-29 00:00:00"]),
        ("cron(0 0 ? * TUE#2 *)", "2026-11-22 12:00:30", ["2026-12-08 00:00:00", "2027-01-12 00:00:00", "2027-02-09 00:00:00"]),
        ("cron(0 0 ? * 1,7 *)", "2026-11-22 12:00:30", ["2026-11-28 00:00:00", "2026-11-29 00:00:00", "2026-12-05 00:00:00"]),
        ("cron(0 0 ? JAN,JUL SUN 2027)", "2026-11-22 12:00:30", ["2027-01-03 00:00:00", "2027-01-10 00:00:00", "2027-01-17 00:00:00"]),
        ("cron(0 0 29 2 ? *)", "2026-11-22 12:00:30", ["2028-02-29 00:00:00", "2032-02-29 00:00:00", "2036-02-29 00:00:00"]),
        ("cron(0 0 31 2 ? *)", "2026-11-22 12:00:30", []),
        ("cron(0 0 1 1 ? 2026)", "2026-11-22 12:00:30", []),
    ],
)  # fmt: skip
def test_when_it_is_due(expression: str, after: str, expected: list[str]) -> None:
    assert following(expression, after) == expected


def test_a_time_zone_moves_with_its_summer_time() -> None:
    schedule = parse_schedule("cron(30 9 * * ? *)", began=BEGAN, zone=ZoneInfo("Europe/Berlin"))
    winter, summer = schedule.next_after(at("2026-01-10 12:00")), schedule.next_after(at("2026-07-10 12:00"))
    assert winter is not None
    assert summer is not None
    assert winter.astimezone(UTC) == at("2026-01-11 08:30")
    assert summer.astimezone(UTC) == at("2026-07-11 07:30")


@pytest.mark.parametrize(
    "expression",
    [
        "every day", "rate(0 minutes)", "rate(5 minute)", "rate(1 minutes)", "rate(5 seconds)", "rate(x)", "at(tomorrow)",
        "cron(0 10 * * *)", "cron(0 10 * * * *)", "cron(0 10 ? * ? *)", "cron(60 10 * * ? *)", "cron(0 24 * * ? *)",
        "cron(0 10 32 * ? *)", "cron(0 10 ? * 8 *)", "cron(0 10 ? FOO MON *)", "cron(0/0 10 * * ? *)", "cron(0 10 * * ? 1969)",
    ],
)  # fmt: skip
def test_what_aws_would_refuse(expression: str) -> None:
    with pytest.raises(ScheduleError, match=r"cron|rate|at\("):
        parse_schedule(expression, began=BEGAN)


# -- events ------------------------------------------------------------------------------------------------------------


def source(**settings: Any) -> ScheduleSource:
    return ScheduleSource(
        **{"function": "F", "event": "Tick", "expression": "rate(5 minutes)", "name": "FTick", **settings}
    )


def test_a_rules_event() -> None:
    event = json.loads(scheduled_event(source(), BEGAN, "us-east-1"))
    assert len(event.pop("id")) == 36
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-11-22T12:00:30Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/FTick"],
        "detail": {},
    }


def test_a_schedulers_event() -> None:
    event = json.loads(scheduled_event(source(scheduler=True), BEGAN, "us-east-1"))
    assert (event["source"], event["detail"]) == ("aws.scheduler", "{}")
    assert event["resources"] == ["arn:aws:scheduler:us-east-1:123456789012:schedule/default/FTick"]


def test_an_input_is_sent_as_it_is() -> None:
    assert scheduled_event(source(input='{"a": 1}'), BEGAN, "us-east-1") == b'{"a": 1}'
    text = '{"t": "<aws.scheduler.scheduled-time>", "a": "<aws.scheduler.schedule-arn>"}'
    event = json.loads(scheduled_event(source(input=text, scheduler=True), BEGAN, "us-east-1"))
    assert event == {
        "t": "2026-11-22T12:00:30Z",
        "a": "arn:aws:scheduler:us-east-1:123456789012:schedule/default/FTick",
    }
    assert scheduled_event(source(input=text), BEGAN, "us-east-1") == text.encode()


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


def timed(expression: str, until: datetime) -> tuple[list[str], list[float]]:
    clock = Clock()
    sent: list[str] = []

    class Over(Exception):
        pass

    def submit(function: str, event: bytes) -> None:
        assert function == "F"
        sent.append(json.loads(event)["time"])
        if clock.now >= until:
            raise Over

    timer = ScheduleTimer(
        source(expression=expression), parse_schedule(expression, began=BEGAN), submit,
        region="us-east-1", now=lambda: clock.now, sleep=clock.sleep,
    )  # fmt: skip
    with contextlib.suppress(Over):
        asyncio.run(timer.run())
    return sent, clock.slept


def test_events_are_sent_when_they_are_due_and_not_before() -> None:
    sent, slept = timed("rate(5 minutes)", BEGAN + timedelta(minutes=15))
    assert sent == ["2026-11-22T12:05:30Z", "2026-11-22T12:10:30Z", "2026-11-22T12:15:30Z"]
    assert slept == [300.0, 300.0, 300.0]


def test_long_waits_look_at_the_clock_every_hour() -> None:
    sent, slept = timed("cron(0 15 * * ? *)", BEGAN + timedelta(hours=2))
    assert sent == ["2026-11-22T15:00:00Z"]
    assert max(slept) == 3600.0


def test_a_timer_ends_when_nothing_is_due_any_more() -> None:
    assert timed("at(2026-11-22T13:00:00)", BEGAN + timedelta(days=9))[0] == ["2026-11-22T13:00:00Z"]


class Enough(Exception):
    """Ends a timer that would run for ever."""


def test_after_eight_hours_of_suspend_a_schedule_sends_once_and_goes_on() -> None:
    now = BEGAN
    sent: list[str] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += timedelta(hours=8) if len(sent) == 1 else timedelta(seconds=seconds)

    def submit(_: str, event: bytes) -> None:
        sent.append(json.loads(event)["time"])
        if len(sent) == 4:
            raise Enough

    timer = ScheduleTimer(
        source(expression="rate(1 minute)"), parse_schedule("rate(1 minute)", began=BEGAN), submit,
        region="us-east-1", now=lambda: now, sleep=sleep,
    )  # fmt: skip
    with contextlib.suppress(Enough):
        asyncio.run(timer.run())
    assert sent == [f"2026-11-22T{each}Z" for each in ("12:01:30", "12:02:30", "20:02:30", "20:03:30")]
