"""What a person asks of a backtest, and the one line that every wrong word gets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.backtest.values import (
    BacktestRefused,
    Request,
    parse_assignments,
    parse_day,
    parse_request,
    shown_instant,
)

DAY_MS = 86_400_000
ARCHIVE = {"strategy": "momentum", "first": "2026-11-20", "last": "2026-11-21", "symbols": "XRPUSDT"}


def ask(**words: Any) -> Request:
    return parse_request(**{**ARCHIVE, **words})


def test_a_request_says_what_was_asked() -> None:
    asked = ask(
        strategy="momentum:3", symbols="XRPUSDT, BTCUSDT", assignments=["threshold_pct=1.5", "rsi_min = 40"],
        capital="2500.50", seed="7",
    )  # fmt: skip
    assert (asked.strategy, asked.version) == ("momentum", 3)
    assert asked.symbols == ("BTCUSDT", "XRPUSDT")
    assert asked.changes == {"threshold_pct": "1.5", "rsi_min": "40"}
    assert (asked.capital, asked.seed) == (Decimal("2500.50"), 7)


def test_a_day_as_the_end_is_included_and_a_time_is_not() -> None:
    whole, part = ask(), ask(last="2026-11-21T06:40")
    assert whole.first_ms == part.first_ms == 1_795_132_800_000
    assert whole.last_ms == 1_795_132_800_000 + 2 * DAY_MS
    assert part.last_ms == 1_795_132_800_000 + DAY_MS + (6 * 60 + 40) * 60_000


def test_recorded_files_need_neither_days_nor_symbols() -> None:
    asked = parse_request(strategy="momentum", trades=["a.csv.gz"])
    assert (asked.trades, asked.first_ms, asked.last_ms, asked.symbols) == (("a.csv.gz",), None, None, ())


@settings(deadline=None, max_examples=50)
@given(
    version=st.none() | st.integers(1, 10**8),
    changes=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True), st.text(min_size=1), max_size=4),
    capital=st.decimals(10, 10**9, places=8),
    seed=st.integers(0, 2**63 - 1),
    first=st.none() | st.integers(10**11, 10**13),
)
def test_a_request_comes_back_from_its_stored_form_as_it_was(
    version: int | None, changes: dict[str, str], capital: Decimal, seed: int, first: int | None
) -> None:
    asked = Request("momentum", version, ("a.csv",), first, first and first + 1, ("XRPUSDT",), changes, capital, seed)
    assert Request.from_json(asked.as_json()) == asked


@settings(deadline=None, max_examples=50)
@given(st.integers(32_000_000, 10**10).map(lambda seconds: seconds * 1000))
def test_a_time_that_is_shown_is_read_as_the_same_time(ms: int) -> None:
    assert ask(first=shown_instant(ms), last="9999-12-30").first_ms == ms


WRONG = [
    ({"strategy": "Momentum"}, "'Momentum' is no strategy: write its name, such as momentum or momentum:3"),
    ({"strategy": "momentum:"}, "'momentum:': '' is no version, write a number such as momentum:3"),
    ({"strategy": "momentum:0"}, "'momentum:0': '0' is no version"),
    ({"strategy": "momentum:1.5"}, "'momentum:1.5': '1.5' is no version"),
    ({"first": "yesterday"}, "'yesterday' is no day such as 2026-11-21 and no time such as 2026-11-21T06:40"),
    ({"first": "2026-02-30"}, "'2026-02-30' is no day such as 2026-11-21"),
    ({"first": "2026-11-21T25:00"}, "'2026-11-21T25:00' is no day such as 2026-11-21"),
    ({"first": "1969-12-31"}, "'1969-12-31' lies before there was anything to trade"),
    ({"last": "9999-12-31"}, "'9999-12-31' is no day such as 2026-11-21"),
    ({"first": "2026-11-22"}, "from 2026-11-22 to 2026-11-21 is no time at all: from must lie before to"),
    ({"last": "2026-11-20T00:00"}, "from 2026-11-20 to 2026-11-20T00:00 is no time at all"),
    ({"symbols": "BTC/USDT"}, "'BTC/USDT' is not a symbol such as BTCUSDT"),
    ({"symbols": "btcusdt"}, "'btcusdt' is not a symbol such as BTCUSDT: write BTCUSDT"),
    ({"symbols": "BTCUSDT,ETHUSDT,BTCUSDT"}, "BTCUSDT is named twice"),
    ({"symbols": ",".join(f"C{number}USDT" for number in range(3_000))}, "3000 symbols are too many at once"),
    ({"symbols": " "}, "name recorded files (--trades PATH), or a part of the archive (--from, --to, --symbols)"),
    ({"first": ""}, "name recorded files (--trades PATH), or a part of the archive"),
    ({"assignments": ["threshold_pct"]}, "'threshold_pct' sets nothing: write name=value, such as threshold_pct=1.5"),
    ({"assignments": ["=2"]}, "'=2' sets nothing"),
    ({"assignments": ["threshold_pct="]}, "'threshold_pct=' sets nothing"),
    ({"assignments": ["rsi_min=4", "rsi_min=5"]}, "rsi_min is set twice"),
    ({"capital": "much"}, "capital 'much' is not an amount such as 100000"),
    ({"capital": "NaN"}, "capital NaN is not from 10 to 1000000000 units of the quote currency"),
    ({"capital": "-5"}, "capital -5 is not from 10 to 1000000000"),
    ({"capital": "1e30"}, "capital 1e30 is not from 10 to 1000000000"),
    ({"capital": "10.123456789"}, "capital 10.123456789 has more than 8 decimals"),
    ({"seed": "-1"}, "seed '-1' is not a whole number from 0 to"),
    ({"seed": "1.5"}, "seed '1.5' is not a whole number"),
    ({"seed": str(2**63)}, f"seed '{2**63}' is not a whole number"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_word_is_one_line_that_says_what_to_write(words: dict[str, Any], line: str) -> None:
    with pytest.raises(BacktestRefused) as refused:
        ask(**words)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("words", ["", "2026-11", "2026-11-21T06:40", "21.11.2026", "2026-13-01"])
def test_a_day_is_a_day(words: str) -> None:
    with pytest.raises(BacktestRefused, match="is no day such as 2026-11-21"):
        parse_day(words)


def test_a_value_may_hold_anything_but_nothing() -> None:
    assert parse_assignments(["name=a=b"]) == {"name": "a=b"}
