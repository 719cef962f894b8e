"""The trading day: from midnight to midnight of a time zone, in event time.

Bounds are worked out once per zone and day, so a decision asks a small table and not the zone's rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Date = date
"""A day of a calendar, without a time zone."""
_DAY: Final = timedelta(days=1)
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class TradingDay:
    """`first_ms` is the first millisecond of event time that belongs to `day`, `end_ms` the first after it."""

    day: Date
    first_ms: int
    end_ms: int


def trading_day(ts_event: int, zone: str) -> TradingDay:
    """The day of an event time (ms). A day with a change of the clocks has 23 or 25 hours. Raises `UnknownZone`."""
    for found in _days_near(ts_event // _DAY_MS, zone):
        if found.first_ms <= ts_event < found.end_ms:
            return found
    raise AssertionError(f"{ts_event} lies in no day of {zone}")


class UnknownZone(ValueError):
    """No time zone has this name."""


def zone_of(name: str) -> ZoneInfo:
    """The zone with this IANA name. Raises `UnknownZone`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # a folder's name, a path, nonsense
        raise UnknownZone(f"{name!r} is no time zone such as Europe/Berlin or UTC") from error


@lru_cache(maxsize=4_096)
def _days_near(utc_day: int, zone: str) -> tuple[TradingDay, ...]:
    """The zone's days that overlap one day of UTC (counted from 1970), the one that begins in it first."""
    where = zone_of(zone)
    noon = datetime.fromtimestamp(0, UTC) + utc_day * _DAY + _DAY / 2
    middle = noon.date()
    days = [_day(middle + step * _DAY, where) for step in (0, -1, 1)]
    return tuple(
        found for found in days if found.first_ms < (utc_day + 1) * _DAY_MS and found.end_ms > utc_day * _DAY_MS
    )


def _day(day: Date, zone: ZoneInfo) -> TradingDay:
    return TradingDay(day, _midnight_ms(day, zone), _midnight_ms(day + _DAY, zone))


def _midnight_ms(day: Date, zone: ZoneInfo) -> int:
    """When a date begins. Where the clocks skip midnight that is the moment of the change; where they show it twice,
    the first time."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
