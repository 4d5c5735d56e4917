"""Computes when `rate(...)`, `cron(...)` and `at(...)` schedules are due next.

docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html and scheduler/latest/UserGuide/schedule-types.html
"""

import calendar
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Protocol

_UNITS_S = {"minute": 60, "hour": 3600, "day": 86_400}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_YEARS = (1970, 2199)
_HORIZON_DAYS = 366 * 28
"""Long enough for every 29 February that falls on a given day of the week."""


class ScheduleError(ValueError):
    """An expression AWS would refuse; the message names the field."""


class Schedule(Protocol):
    def next_after(self, moment: datetime) -> datetime | None:
        """The first due time later than `moment` (aware), or None when there is none any more."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so often, counted from when it began."""

    period: timedelta
    began: datetime

    def next_after(self, moment: datetime) -> datetime:
        periods = max((moment - self.began) // self.period, 0) + 1
        return self.began + periods * self.period


@dataclass(frozen=True, slots=True)
class Once:
    due: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        return self.due if self.due > moment else None


@dataclass(frozen=True, slots=True)
class Cron:
    """Minutes, hours, day of month, month, day of week, year; the days as one predicate."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    years: frozenset[int]
    is_day: Callable[[date], bool]
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime | None:
        earliest = moment.astimezone(self.zone)
        day = earliest.date()
        for _ in range(_HORIZON_DAYS):
            if day.year in self.years and day.month in self.months and self.is_day(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        due = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone)
                        if due > earliest:
                            return due
            day += timedelta(days=1)
        return None


def parse_schedule(expression: str, *, began: datetime, zone: tzinfo = UTC) -> Schedule:
    """Raises ScheduleError. `began`: from when on a rate counts."""
    match = re.fullmatch(r"(rate|cron|at)\((.*)\)", expression.strip())
    if match is None:
        raise ScheduleError(f"{expression!r} is not rate(...), cron(...) or at(...)")
    kind, inside = match[1], match[2].strip()
    if kind == "rate":
        return _rate(inside, began)
    if kind == "at":
        try:
            return Once(datetime.strptime(inside, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone))
        except ValueError:
            raise ScheduleError(f"at({inside}): must be at(yyyy-mm-ddThh:mm:ss)") from None
    return _cron(inside, zone)


def _rate(inside: str, began: datetime) -> Rate:
    match = re.fullmatch(r"(\d+)\s+(minute|hour|day)(s?)", inside)
    if match is None or int(match[1]) == 0:
        raise ScheduleError(f"rate({inside}): must be a positive number and minutes, hours or days")
    if (int(match[1]) == 1) == bool(match[3]):
        raise ScheduleError(f"rate({inside}): one {match[2]}, or more {match[2]}s")
    return Rate(timedelta(seconds=int(match[1]) * _UNITS_S[match[2]]), began)


def _cron(inside: str, zone: tzinfo) -> Cron:
    fields = inside.upper().split()
    if len(fields) != 6:
        raise ScheduleError(f"cron({inside}): has {len(fields)} fields, not minutes hours day month weekday year")
    minutes, hours, days, months, weekdays, years = fields
    if (days == "?") == (weekdays == "?"):
        raise ScheduleError(f"cron({inside}): one of day and weekday must be ?, and only one")
    is_day = _weekday_test(weekdays) if days == "?" else _day_test(days)
    return Cron(
        tuple(sorted(_numbers(minutes, 0, 59, "minutes"))),
        tuple(sorted(_numbers(hours, 0, 23, "hours"))),
        frozenset(_numbers(months, 1, 12, "month", _MONTHS)),
        frozenset(_numbers(years, *_YEARS, "year")),
        is_day,
        zone,
    )


def _numbers(text: str, low: int, high: int, field: str, names: dict[str, int] | None = None) -> set[int]:
    """`*`, `5`, `1-5`, `*/15`, `10/5`, and lists of them."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step_text = part.partition("/")
        first_text, _, last_text = span.partition("-")
        try:
            step = int(step_text) if step_text else 1
            if span == "*":
                first, last = low, high
            else:
                first = _number(first_text, names)
                last = _number(last_text, names) if last_text else (high if step_text else first)
        except ValueError:
            raise ScheduleError(f"cron: {part!r} is no {field}") from None
        if not (low <= first <= high and low <= last <= high and step > 0):
            raise ScheduleError(f"cron: {part!r} is not within {low}-{high} ({field})")
        # FRI-MON and 22-2 run over the end.
        values = range(first, last + 1) if first <= last else [*range(first, high + 1), *range(low, last + 1)]
        found |= set(list(values)[::step])
    return found


def _number(text: str, names: dict[str, int] | None) -> int:
    return names[text] if names is not None and text in names else int(text)


def _day_test(text: str) -> Callable[[date], bool]:
    if text == "L":
        return lambda day: day.day == _days_in(day)
    if text == "LW":
        return lambda day: day.day == _nearest_workday(day, _days_in(day))
    if match := re.fullmatch(r"(\d+)W", text):
        wanted = int(match[1])
        return lambda day: wanted <= _days_in(day) and day.day == _nearest_workday(day, wanted)
    numbers = _numbers(text, 1, 31, "day")
    return lambda day: day.day in numbers


def _weekday_test(text: str) -> Callable[[date], bool]:
    if match := re.fullmatch(r"(\w+)#([1-5])", text):
        (wanted,), nth = _numbers(match[1], 1, 7, "weekday", _DAYS), int(match[2])
        return lambda day: _weekday(day) == wanted and (day.day - 1) // 7 + 1 == nth
    if match := re.fullmatch(r"(\w+)L", text):
        (wanted,) = _numbers(match[1], 1, 7, "weekday", _DAYS)
        return lambda day: _weekday(day) == wanted and day.day > _days_in(day) - 7
    numbers = _numbers("7" if text == "L" else text, 1, 7, "weekday", _DAYS)
    return lambda day: _weekday(day) in numbers


def _weekday(day: date) -> int:
    """1 is Sunday."""
    return day.isoweekday() % 7 + 1


def _days_in(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_workday(day: date, wanted: int) -> int:
    """The weekday nearest to a day of the month, within the month."""
    candidates: Iterable[int] = (wanted, wanted - 1, wanted + 1, wanted - 2, wanted + 2)
    return next(
        number
        for number in candidates
        if 1 <= number <= _days_in(day) and date(day.year, day.month, number).isoweekday() <= 5
    )
