"""Times in UTC and durations in words. `ms` is milliseconds since 1970, always an aware UTC time when a datetime."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

MINUTE_MS: Final = 60_000
_HOUR_MINUTES: Final = 60
_DAY_HOURS: Final = 24


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000)


def to_ms(when: datetime) -> int:
    return int(when.timestamp()) * 1000 + when.microsecond // 1000


def iso(ms: int) -> str:
    """`2019-10-11T14:03:22.412Z`"""
    return moment(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def full(ms: int) -> str:
    """`2019-10-11 14:03:22.412 UTC`: lists and details of records."""
    return iso(ms).replace("T", " ").replace("Z", " UTC")


def minute_text(minute: int) -> str:
    """The start of a minute since 1970: `2019-10-11 14:03 UTC`."""
    return f"{moment(minute * MINUTE_MS):%Y-%m-%d %H:%M} UTC"


def short(ms: int, now_ms: int) -> str:
    """`14:03:22 UTC` today, `20 Nov 14:03 UTC` this year, else with the year."""
    when, now = moment(ms), moment(now_ms)
    if when.date() == now.date():
        return f"{when:%H:%M:%S} UTC"
    if when.year == now.year:
        return f"{when.day} {when:%b %H:%M} UTC"
    return f"{when.day} {when:%b %Y %H:%M} UTC"


def clock(ms: int, now_ms: int) -> str:
    """As `short`, but without seconds: for sentences."""
    when = moment(ms)
    return f"{when:%H:%M} UTC" if when.date() == moment(now_ms).date() else short(ms, now_ms)


def duration(ms: int) -> str:
    """`0.4 s`, `74 s`, `12 min`, `6 h 12 min`, `3 d 4 h`. Rounded down; a negative one reads as zero."""
    ms = max(ms, 0)
    seconds = ms // 1000
    if seconds < 10:
        return f"{seconds}.{ms % 1000 // 100} s"
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < _HOUR_MINUTES:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, _HOUR_MINUTES)
    if hours < 2 * _DAY_HOURS:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, _DAY_HOURS)
    return f"{days} d {hours} h" if hours else f"{days} d"
