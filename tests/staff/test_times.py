"""Times in UTC and durations in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.staff import times

NOON_MS = 1_700_000_040_123  # 2023-11-14 22:14:00.123 UTC


@given(ms=st.integers(0, 4_000_000_000_000))
def test_a_moment_keeps_every_millisecond(ms: int) -> None:
    assert times.to_ms(times.moment(ms)) == ms


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (0, "0.0 s"),
        (449, "0.4 s"),
        (9_999, "9.9 s"),
        (10_000, "10 s"),
        (74_900, "74 s"),
        (119_999, "119 s"),
        (120_000, "2 min"),
        (3_599_999, "59 min"),
        (3_600_000, "1 h"),
        (22_320_000, "6 h 12 min"),
        (172_800_000, "2 d"),
        (187_200_000, "2 d 4 h"),
        (-5, "0.0 s"),
    ],
)
def test_durations_use_the_largest_unit_that_still_says_something(ms: int, expected: str) -> None:
    assert times.duration(ms) == expected


@pytest.mark.parametrize(
    ("now_ms", "expected"),
    [
        (NOON_MS + 60_000, "22:14:00 UTC"),
        (NOON_MS + 86_400_000, "14 Nov 22:14 UTC"),
        (NOON_MS + 366 * 86_400_000, "14 Nov 2023 22:14 UTC"),
    ],
)
def test_a_time_is_as_short_as_its_distance_allows(now_ms: int, expected: str) -> None:
    assert times.short(NOON_MS, now_ms) == expected


def test_records_show_the_full_time_in_utc() -> None:
    assert times.iso(NOON_MS) == "2023-11-14T22:14:00.123Z"
    assert times.full(NOON_MS) == "2023-11-14 22:14:00.123 UTC"
    assert times.minute_text(NOON_MS // 60_000) == "2023-11-14 22:14 UTC"
    assert times.clock(NOON_MS, NOON_MS) == "22:14 UTC"
