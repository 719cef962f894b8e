"""The state sentence: every situation has its words, and the most urgent one comes first."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.reconciling import Compared
from apps.ops.sentence import Severity, sentence
from apps.ops.snapshot import Gated, Mover, Snapshot, SymbolFeed, UnknownOrder

NOW = 1_700_000_040_000  # 22:14:00 UTC
FRESH = tuple(SymbolFeed(symbol, 400) for symbol in ("ADAUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"))
SILENT = tuple(SymbolFeed(feed.symbol, 74_000) for feed in FRESH)
WELL = Snapshot(
    now_ms=NOW,
    mode="PAPER",
    tier="LOW_TRUST",
    quote_asset="USDT",
    started_ms=NOW - 7_200_000,
    reported_ms=NOW - 100,
    feeds=FRESH,
    last_trade_ms=NOW - 400,
    event_time_ms=NOW,
    warm=True,
    positions=2,
    position_value=Decimal("212.4"),
    equity=Decimal(10_000),
    exposure=Decimal(410),
    exposure_limit=Decimal(1000),
    last_fill_ms=NOW - 60_000,
    compared=Compared(NOW - 30_000, NOW - 180_000, 0, 30_000, 180_000, differences=1),
)
ORDER = UnknownOrder("BUY", "XRPUSDT", "40.00", NOW - 22_000)


def changed(**fields: Any) -> Snapshot:
    return replace(WELL, **fields)


@pytest.mark.parametrize(
    ("situation", "snapshot", "text"),
    [
        (
            "well",
            WELL,
            ("Nothing needs you. Newest trade 0.4 s old, 5 of 5 symbols fresh. 2 positions, 41\u202f% of the limit."),
        ),
        (
            "well",
            changed(last_trade_ms=None, positions=0, exposure=None),
            "Nothing needs you. No trade yet, 5 of 5 symbols fresh. No position.",
        ),
        ("no-session", Snapshot(NOW), "No session: nothing is traded. `make demo` or `manage.py stack up` starts one."),
        (
            "starting",
            changed(started_ms=NOW - 3_000, reported_ms=None, feeds=tuple(SymbolFeed(f.symbol, None) for f in FRESH)),
            "Just started: waiting for the first data from the exchange.",
        ),
        (
            "warming-up",
            changed(warm=False, minutes_known=9, minutes_needed=16, first_decision_ms=NOW + 360_000),
            "Warming up: 9 of 16 minutes of history. First decision possible at 22:20 UTC.",
        ),
        (
            "warming-up",
            changed(warm=False, minutes_known=0, minutes_needed=16),
            "Warming up: 0 of 16 minutes of history.",
        ),
        (
            "quiet",
            changed(
                last_fill_ms=NOW - 10_800_000,
                started_ms=NOW - 20_000_000,
                threshold=Decimal("0.03"),
                lookback_minutes=15,
                closest=Mover("XRPUSDT", Decimal("0.018")),
            ),
            ("Nothing traded for 3 h: no symbol has moved 3.0\u202f% in 15 min (closest XRPUSDT 1.8\u202f%)."),
        ),
        (
            "replay-stands",
            changed(replay=True, last_trade_ms=NOW - 300_000, event_time_ms=1_570_838_340_000),
            (
                "The recording stands at 11 Oct 2019 23:59 UTC: no trade for 5 min. 5 of 5 symbols fresh. "
                "2 positions, 41\u202f% of the limit."
            ),
        ),
        (
            "stale",
            changed(feeds=(*FRESH[:4], SymbolFeed("XRPUSDT", 74_000))),
            "XRPUSDT has no data for 74 s; it is not traded until it is back. 4 of 5 symbols fresh.",
        ),
        (
            "stale",
            changed(feeds=(*FRESH[:3], SymbolFeed("SOLUSDT", None), SymbolFeed("XRPUSDT", 3_100))),
            "SOLUSDT, XRPUSDT have no data for 3.1 s; they are not traded until it is back. 3 of 5 symbols fresh.",
        ),
        (
            "no-data",
            changed(feeds=SILENT, trouble="connection 1 is CLOSED: 1006"),
            (
                "No data for 74 s (connection 1 is CLOSED: 1006). Entries are off, "
                "stops cannot act: 2 positions, 212.40\u202fUSDT."
            ),
        ),
        (
            "no-data",
            changed(feeds=SILENT, reported_ms=NOW - 74_000, positions=0),
            "The ingest has not reported for 74 s. Entries are off.",
        ),
        (
            "no-data",
            changed(feeds=SILENT, reported_ms=None, positions=0),
            "The ingest has never reported, so the age of the data is unknown. Entries are off.",
        ),
        (
            "no-data",
            changed(feeds=SILENT, reported_ms=None, redis_answers=False, positions=0),
            "Redis does not answer, so the age of the data is unknown. Entries are off.",
        ),
        (
            "no-data",
            changed(feeds=tuple(SymbolFeed(f.symbol, None) for f in FRESH), positions=0),
            "No connection to the exchange streams yet. Entries are off.",
        ),
        (
            "reducing",
            changed(
                trading_state="REDUCING", state_since_ms=NOW - 2_040_000, state_set_by="mara", state_reason="odd fills"
            ),
            'Reducing since 21:40 UTC by mara ("odd fills"). Exits run, entries are denied.',
        ),
        (
            "not-compared",
            changed(compared=Compared(NOW - 45_000, NOW - 45_000, 0, 30_000, 180_000)),
            "Our books were not compared with the venue's for 45 s. If it lasts, entries go off.",
        ),
        (
            "not-compared",
            changed(compared=Compared(NOW - 5_000, None, NOW - 200_000, 30_000, 180_000)),
            "All fills and balances were not compared with the venue's for 3 min. If it lasts, entries go off.",
        ),
        (
            "reducing",
            changed(trading_state="REDUCING", compared=Compared(None, None, 0, 30_000, 180_000)),
            "Reducing. Exits run, entries are denied.",
        ),
        (
            "halted",
            changed(trading_state="HALTED", state_since_ms=NOW - 960_000, state_set_by="mara"),
            "HALTED since 21:58 UTC by mara. Nothing is sent, not even exits. 2 positions run without protection.",
        ),
        (
            "halted",
            changed(trading_state="HALTED", positions=1),
            "HALTED. Nothing is sent, not even exits. 1 position runs without protection.",
        ),
        (
            "halted",
            changed(trading_state="HALTED", positions=0),
            "HALTED. Nothing is sent, not even exits. No position is open.",
        ),
        (
            "blocked",
            changed(refused=(("ABCUSDT", "Blocked!"),)),
            'The exchange refuses ABCUSDT ("Blocked!"); asked again every 10 min. Others unaffected.',
        ),
        (
            "blocked",
            changed(
                feeds=(*FRESH[:4], SymbolFeed("XRPUSDT", None)),
                refused=(("XRPUSDT", "Not Subscribed successfully! [spot@x@XRPUSDT].  Reason： Blocked! " + "x" * 90),),
            ),
            f'The exchange refuses XRPUSDT ("Blocked! {"x" * 30}…"); asked again every 10 min. Others unaffected.',
        ),
        (
            "blocked",
            changed(
                feeds=(*FRESH[:3], SymbolFeed("SOLUSDT", None), SymbolFeed("XRPUSDT", None)),
                refused=(("SOLUSDT", "Blocked!"), ("XRPUSDT", "Blocked!")),
                connections=3,
                blocked=("connection 3",),
            ),
            '1 of 3 connections is BLOCKED ("Blocked!"): SOLUSDT, XRPUSDT not traded.',
        ),
        (
            "no-data",
            changed(
                feeds=tuple(SymbolFeed(f.symbol, None) for f in FRESH),
                refused=tuple((f.symbol, "Blocked!") for f in FRESH),
                connections=2,
                blocked=("connection 1", "connection 2"),
                positions=1,
            ),
            (
                'BLOCKED: every subscription is refused ("Blocked!"). Entries are off, '
                "stops cannot act: 1 position, 212.40\u202fUSDT."
            ),
        ),
        (
            "no-data",
            changed(feeds=(), positions=0),
            "No symbol is followed, so nothing can arrive. Entries are off.",
        ),
        (
            "no-data",
            changed(feeds=SILENT, reported_ms=NOW - 7_000, lease_taken=True, lease_age_ms=7_100, positions=0),
            "No ingest holds the feed's lease, nothing is known for 7.0 s. Entries are off.",
        ),
        (
            "unproven",
            changed(gated=Gated(("ADAUSDT",), "no_pong", NOW + 300_000, final=False)),
            "No entries in ADAUSDT until 22:19 UTC: UNPROVEN minutes (no_pong). Repair goes on.",
        ),
        (
            "unproven",
            changed(gated=Gated(tuple(f.symbol for f in FRESH), "Redis was away", NOW + 300_000, final=True)),
            ("No entries in 5 symbols until 22:19 UTC: UNPROVEN minutes (Redis was away). They cannot be repaired."),
        ),
        (
            "taken-over",
            changed(lease_taken=True, lease_age_ms=900, taken_over_ms=12_000),
            (
                "The standby took over 12 s ago; what was missed is repaired. 5 of 5 symbols fresh. "
                "2 positions, 41\u202f% of the limit."
            ),
        ),
        (
            "well",
            changed(lease_taken=True, lease_age_ms=900, taken_over_ms=61_000),
            "Nothing needs you. Newest trade 0.4 s old, 5 of 5 symbols fresh. 2 positions, 41\u202f% of the limit.",
        ),
        (
            "unknown-order",
            changed(unknown_orders=(ORDER,)),
            (
                "1 order is UNKNOWN for 22 s (BUY XRPUSDT 40.00). Its money stays reserved. "
                "Asking the venue; no action yet."
            ),
        ),
        (
            "unknown-order",
            changed(unknown_orders=(ORDER, replace(ORDER, since_ms=NOW - 61_000))),
            (
                "2 orders are UNKNOWN for 61 s (BUY XRPUSDT 40.00). Their money stays reserved. "
                "Asking the venue has not settled it."
            ),
        ),
    ],
)
def test_each_situation_has_its_sentence(situation: str, snapshot: Snapshot, text: str) -> None:
    said = sentence(snapshot)
    assert (said.situation, said.text) == (situation, text)
    assert said.line == text


@pytest.mark.parametrize(
    ("snapshot", "severity"),
    [
        (WELL, Severity.NORMAL),
        (changed(trading_state="REDUCING"), Severity.WARNING),
        (changed(trading_state="HALTED"), Severity.CRITICAL),
        (changed(trading_state="HALTED", positions=0), Severity.WARNING),
        (changed(feeds=SILENT), Severity.CRITICAL),
        (changed(feeds=SILENT, positions=0), Severity.WARNING),
        (changed(unknown_orders=(ORDER,)), Severity.WARNING),
        (changed(unknown_orders=(replace(ORDER, since_ms=NOW - 61_000),)), Severity.CRITICAL),
    ],
)
def test_a_situation_is_critical_only_where_money_is_at_risk(snapshot: Snapshot, severity: Severity) -> None:
    assert sentence(snapshot).severity is severity


def test_the_most_urgent_comes_first_and_the_rest_is_counted() -> None:
    late = replace(ORDER, since_ms=NOW - 61_000)
    said = sentence(changed(trading_state="REDUCING", refused=(("ABCUSDT", "Blocked!"),), unknown_orders=(late,)))
    assert said.situation == "unknown-order"
    assert said.line.endswith(" +2 more.")


def test_the_four_words_keep_their_order_and_mark_what_is_not_normal() -> None:
    normal = sentence(WELL).parts
    assert [part.text for part in normal] == ["trading on", "paper", "data 0.4 s", "tier LOW_TRUST"]
    assert not any(part.abnormal for part in normal)
    markets = {kind: sentence(changed(market=kind)).parts[1].text for kind in ("live", "synthetic", "replay")}
    assert markets == {"live": "paper", "synthetic": "paper on a synthetic market", "replay": "paper on a replay"}
    odd = sentence(changed(trading_state="HALTED", feeds=(*FRESH[:4], SymbolFeed("XRPUSDT", None)))).parts
    assert [part.name for part in odd if part.abnormal] == ["state", "data"]
    assert odd[2].text == "data age unknown"


@given(
    feeds=st.lists(st.one_of(st.none(), st.integers(0, 10**9)), max_size=6),
    reported=st.one_of(st.none(), st.integers(NOW - 10**9, NOW)),
    trade=st.one_of(st.none(), st.integers(NOW - 10**9, NOW)),
    state=st.sampled_from(["ACTIVE", "REDUCING", "HALTED"]),
    warm=st.booleans(),
    redis=st.booleans(),
    positions=st.integers(0, 3),
)
def test_whatever_is_known_there_is_one_sentence_and_stale_data_is_never_well(
    feeds: list[int | None],
    reported: int | None,
    trade: int | None,
    state: str,
    warm: bool,
    redis: bool,
    positions: int,
) -> None:
    symbols = tuple(SymbolFeed(f"S{n}USDT", age) for n, age in enumerate(feeds))
    snapshot = changed(
        feeds=symbols,
        reported_ms=reported,
        last_trade_ms=trade,
        trading_state=state,
        warm=warm,
        redis_answers=redis,
        positions=positions,
    )
    said = sentence(snapshot)
    assert said.line.endswith(".")
    assert "None" not in said.line
    everything_fresh = bool(symbols) and all(feed.fresh for feed in symbols)
    assert (said.situation == "well") <= (everything_fresh and state == "ACTIVE" and warm)
    assert (said.severity is Severity.NORMAL) <= (state == "ACTIVE")
