"""The trading day in event time: whole, without holes, in every zone and over every change of the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.risk.days import UnknownZone, trading_day, zone_of
from apps.engine.risk.values import EquityRecord

HOUR_MS = 3_600_000
ZONES = sorted(available_timezones() - {"Factory", "localtime"})
SOME_TIME_MS = st.integers(0, 2_200_000_000_000)  # 1970 to 2039


def ms(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@given(zone=st.sampled_from(ZONES), ts=SOME_TIME_MS)
def test_every_moment_lies_in_the_day_that_a_calendar_there_shows(zone: str, ts: int) -> None:
    found = trading_day(ts, zone)
    assert found.first_ms <= ts < found.end_ms
    assert found.day == datetime.fromtimestamp(ts / 1000, UTC).astimezone(ZoneInfo(zone)).date()
    for edge in (found.first_ms, found.end_ms - 1):
        assert trading_day(edge, zone) == found
    assert trading_day(found.end_ms, zone).first_ms == found.end_ms
    assert trading_day(found.first_ms - 1, zone).end_ms == found.first_ms


@given(zone=st.sampled_from(ZONES), pair=st.tuples(SOME_TIME_MS, SOME_TIME_MS).map(sorted))
def test_later_is_never_an_earlier_day(zone: str, pair: list[int]) -> None:
    first, later = (trading_day(ts, zone) for ts in pair)
    assert first.day <= later.day
    assert (first.day == later.day) is (first == later)


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-28", 24), ("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25), ("2026-10-26", 24)],
)
def test_a_day_in_berlin_has_an_hour_less_in_spring_and_one_more_in_autumn(day: str, hours: int) -> None:
    found = trading_day(ms(f"{day}T12:00", "Europe/Berlin"), "Europe/Berlin")
    assert (found.day, found.end_ms - found.first_ms) == (date.fromisoformat(day), hours * HOUR_MS)
    assert found.first_ms == ms(f"{day}T00:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-03-28T22:59:59.999+00:00", "2026-03-28"),
        ("2026-03-28T23:00:00+00:00", "2026-03-29"),
        ("2026-03-29T21:59:59.999+00:00", "2026-03-29"),  # an hour earlier than the day before
        ("2026-03-29T22:00:00+00:00", "2026-03-30"),
        ("2026-10-25T00:30:00+00:00", "2026-10-25"),  # 02:30 for the first time
        ("2026-10-25T01:30:00+00:00", "2026-10-25"),  # and for the second
        ("2026-10-25T22:59:59.999+00:00", "2026-10-25"),
        ("2026-10-25T23:00:00+00:00", "2026-10-26"),
    ],
)
def test_midnight_in_berlin_is_where_its_clocks_say(moment: str, day: str) -> None:
    ts = round(datetime.fromisoformat(moment).timestamp() * 1000)
    assert trading_day(ts, "Europe/Berlin").day.isoformat() == day


def test_where_midnight_is_skipped_the_day_begins_with_the_change() -> None:
    found = trading_day(ms("2018-11-04T12:00", "America/Sao_Paulo"), "America/Sao_Paulo")
    assert found.end_ms - found.first_ms == 23 * HOUR_MS
    assert found.first_ms == ms("2018-11-04T03:00")


@pytest.mark.parametrize("name", ["", "Europe/Atlantis", "CEST+1:00", "../etc/passwd", "Europe", "/usr/share"])
def test_a_zone_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone, match="is no time zone such as Europe/Berlin or UTC"):
        zone_of(name)


# --- what an account's worth is compared with -------------------------------------------------------------------------

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
D = Decimal


def test_a_day_begins_with_the_first_decision_and_only_the_peak_outlives_it() -> None:
    record = EquityRecord().moved_on(MONDAY, D(100)).moved_on(MONDAY, D(120)).moved_on(MONDAY, D(90))
    assert record == EquityRecord(MONDAY, D(100), D(120), D(90))
    assert record.moved_on(TUESDAY, D(95)) == EquityRecord(TUESDAY, D(95), D(120), D(95))


def test_what_falls_overnight_counts_as_a_loss_of_the_new_day() -> None:
    record = EquityRecord().moved_on(MONDAY, D(100)).moved_on(TUESDAY, D(93))
    assert (record.day_start, record.last) == (D(100), D(93))


def test_a_late_decision_of_an_earlier_day_changes_no_start() -> None:
    record = EquityRecord().moved_on(TUESDAY, D(100)).moved_on(MONDAY, D(90))
    assert record == EquityRecord(TUESDAY, D(100), D(100), D(90))
