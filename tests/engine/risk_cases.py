"""An account, an order of each kind, and for every check the cases at and beyond its limit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from apps.engine.portfolio import Side
from apps.engine.risk.values import SOUND_PATH, Intent, Limits, Outcome, Sizing, TradingState, View

D = Decimal

LIMITS = Limits(
    order_size=D("0.02"),
    order_notional_max=D("0.05"),
    position_max=D("0.10"),
    exposure_max=D("0.50"),
    collar=D("0.02"),
    exit_band=D("0.10"),
    positions_per_symbol_max=2,
    open_orders_symbol_max=1,
    open_orders_max=10,
    orders_per_second_max=5,
    orders_per_minute_max=60,
    orders_per_day_max=500,
    exits_per_second_max=20,
    duplicate_ms=1_000,
    feed_age_max_ms=2_000,
    signal_age_max_ms=2_000,
    sizing=Sizing.FIXED_FRACTION, order_notional=D("1000"), risk_fraction=D("0.001"), volatility_multiple=D(2),
    repeat_max=3, repeat_window_ms=60_000, day_loss_reducing=D("0.05"), day_loss_halted=D("0.07"),
    drawdown_reducing=D("0.05"), drawdown_halted=D("0.07"), bad_tick=D("0.10"), heartbeat_age_max_ms=15_000,
    trading_day_zone="UTC",
)  # fmt: skip
# Equity 60 000, so: order 3 000, symbol 6 000, gross 30 000.
VIEW = View(
    trading_state=TradingState.ACTIVE,
    state_words="",
    in_session=True,
    tradable=True,
    path=SOUND_PATH,
    feed_age_ms=100,
    feed_words="",
    signal_age_ms=50,
    unproven_minutes=0,
    unproven_reason="",
    bid=D("1.00"),
    ask=D("1.01"),
    median=D("1.00"),
    confirmed=D("1.00"),
    quantity_min=D(1),
    notional_min=D(5),
    size_words="",
    currency="USDT",
    equity=D(60_000),
    day_start_equity=D(60_000),
    peak_equity=D(60_000),
    order_cap=None,
    free_cash=D(60_000),
    needed_cash=D(1_001),
    exposure=D(0),
    symbol_exposure=D(0),
    unvalued=(),
    positions_symbol=0,
    open_orders=0,
    open_orders_symbol=0,
    open_exits=0,
    opposite_orders=0,
    repeats=0,
    orders_second=0,
    orders_minute=0,
    orders_day=0,
    exits_second=0,
    twin_ms=None,
)
OPENING = Intent(
    symbol="XRPUSDT", side=Side.BUY, reducing=False, price=D("1.00"), limit_price=D("1.00"), quantity=D(1_000)
)
REDUCING = replace(OPENING, side=Side.SELL, reducing=True)

PASSED, FAILED, HELD = Outcome.PASSED, Outcome.FAILED, Outcome.HELD

# check, what is different, its answer to an opening order, its answer to a reducing one
TABLE: list[tuple[str, dict[str, Any], Outcome, Outcome]] = [
    ("SYMBOL", {}, PASSED, PASSED),
    ("SYMBOL", {"in_session": False}, FAILED, PASSED),
    ("SYMBOL", {"tradable": False}, FAILED, PASSED),
    ("HALTED", {"trading_state": TradingState.HALTED}, FAILED, FAILED),
    ("HALTED", {"trading_state": TradingState.REDUCING}, PASSED, PASSED),
    ("REDUCING", {"trading_state": TradingState.REDUCING}, FAILED, PASSED),
    ("REDUCING", {"trading_state": TradingState.ACTIVE}, PASSED, PASSED),
    ("STALE_FEED", {"feed_age_ms": 2_000}, PASSED, PASSED),
    ("STALE_FEED", {"feed_age_ms": 2_001}, FAILED, HELD),
    ("STALE_FEED", {"feed_age_ms": None, "feed_words": "nothing is known"}, FAILED, HELD),
    ("STALE_SIGNAL", {"signal_age_ms": 2_000}, PASSED, PASSED),
    ("STALE_SIGNAL", {"signal_age_ms": 2_001}, FAILED, PASSED),
    ("STALE_SIGNAL", {"signal_age_ms": 2_001, "feed_age_ms": 2_001}, FAILED, HELD),
    ("STALE_SIGNAL", {"signal_age_ms": 2_001, "feed_age_ms": None}, FAILED, HELD),
    ("DATA_GAP", {"unproven_minutes": 1, "unproven_reason": "gap of 3 s"}, FAILED, PASSED),
    ("PRICE_COLLAR", {"price": D("1.0200"), "limit_price": D("1.04")}, PASSED, PASSED),
    ("PRICE_COLLAR", {"price": D("1.0201"), "limit_price": D("1.04")}, FAILED, PASSED),  # from the median
    ("PRICE_COLLAR", {"price": D("1.0302"), "median": D("1.03")}, PASSED, PASSED),  # 2 % above the ask
    ("PRICE_COLLAR", {"price": D("1.0303"), "median": D("1.03")}, FAILED, PASSED),  # from the quote
    ("PRICE_COLLAR", {"price": D("0.9799")}, FAILED, PASSED),
    ("PRICE_COLLAR", {"bid": None, "ask": None}, FAILED, PASSED),
    ("PRICE_COLLAR", {"median": None}, FAILED, PASSED),
    ("FAT_FINGER", {"quantity": D(3_000)}, PASSED, PASSED),
    ("FAT_FINGER", {"quantity": D("3000.01")}, FAILED, PASSED),
    ("FAT_FINGER", {"equity": D(0)}, FAILED, PASSED),
    ("FAT_FINGER", {"equity": D(-1)}, FAILED, PASSED),
    ("MIN_NOTIONAL", {"quantity": D(5)}, PASSED, PASSED),
    ("MIN_NOTIONAL", {"quantity": D("4.99")}, FAILED, PASSED),
    ("MIN_NOTIONAL", {"quantity": D(0)}, FAILED, PASSED),
    ("MIN_NOTIONAL", {"quantity": D(0), "notional_min": D(0)}, FAILED, PASSED),
    ("MIN_NOTIONAL", {"quantity": D(999), "quantity_min": D(1_000)}, FAILED, PASSED),
    ("POSITION_LIMIT", {"symbol_exposure": D(5_000)}, PASSED, PASSED),
    ("POSITION_LIMIT", {"symbol_exposure": D("5000.01")}, FAILED, PASSED),
    ("POSITION_LIMIT", {"positions_symbol": 1}, PASSED, PASSED),
    ("POSITION_LIMIT", {"positions_symbol": 2}, FAILED, PASSED),
    ("POSITION_LIMIT", {"unvalued": ("XRPUSDT",)}, FAILED, PASSED),
    ("POSITION_LIMIT", {"unvalued": ("ADAUSDT",)}, PASSED, PASSED),
    ("OPEN_ORDERS", {"open_orders": 9}, PASSED, PASSED),
    ("OPEN_ORDERS", {"open_orders": 10}, FAILED, PASSED),
    ("OPEN_ORDERS", {"open_orders_symbol": 1}, FAILED, PASSED),
    ("EXPOSURE", {"exposure": D(29_000)}, PASSED, PASSED),
    ("EXPOSURE", {"exposure": D("29000.01")}, FAILED, PASSED),
    ("EXPOSURE", {"exposure": D(90_000)}, FAILED, PASSED),
    ("EXPOSURE", {"unvalued": ("ADAUSDT",)}, FAILED, PASSED),
    ("CASH", {"free_cash": D(1_001)}, PASSED, PASSED),
    ("CASH", {"free_cash": D("1000.99")}, FAILED, PASSED),
    ("CASH", {"free_cash": D(-5)}, FAILED, PASSED),
    ("THROTTLE", {"orders_second": 4}, PASSED, PASSED),
    ("THROTTLE", {"orders_second": 5}, FAILED, PASSED),
    ("THROTTLE", {"orders_minute": 60}, FAILED, PASSED),
    ("THROTTLE", {"orders_day": 500}, FAILED, PASSED),
    ("THROTTLE", {"exits_second": 20}, PASSED, PASSED),
    ("LEASE", {"path": replace(SOUND_PATH, lease_age_ms=6_000)}, PASSED, PASSED),
    ("LEASE", {"path": replace(SOUND_PATH, lease_age_ms=6_001)}, FAILED, PASSED),
    ("LEASE", {"path": replace(SOUND_PATH, lease_age_ms=None)}, FAILED, PASSED),
    ("VERSION", {"path": replace(SOUND_PATH, strangers=1, version_words="drain-0")}, FAILED, PASSED),
    ("VERSION", {"path": replace(SOUND_PATH, strangers=None)}, FAILED, PASSED),
    ("HEARTBEAT", {"path": replace(SOUND_PATH, heartbeat_age_ms=15_000)}, PASSED, PASSED),
    ("HEARTBEAT", {"path": replace(SOUND_PATH, heartbeat_age_ms=15_001)}, FAILED, PASSED),
    ("HEARTBEAT", {"path": replace(SOUND_PATH, heartbeat_age_ms=None)}, FAILED, PASSED),
    ("RECON", {"path": replace(SOUND_PATH, differences=1)}, FAILED, PASSED),
    ("RECON", {"path": replace(SOUND_PATH, differences=None)}, FAILED, PASSED),
    ("BAD_TICK", {"price": D("1.1")}, PASSED, PASSED),
    ("BAD_TICK", {"price": D("1.1001")}, FAILED, PASSED),
    ("BAD_TICK", {"price": D("0.9")}, PASSED, PASSED),
    ("BAD_TICK", {"price": D("0.8999")}, FAILED, PASSED),
    ("BAD_TICK", {"price": D(100)}, FAILED, PASSED),
    ("BAD_TICK", {"confirmed": None}, FAILED, PASSED),
    ("FAT_FINGER", {"order_cap": D(1_000)}, PASSED, PASSED),
    ("FAT_FINGER", {"order_cap": D("999.99")}, FAILED, PASSED),
    ("MIN_NOTIONAL", {"quantity": D(0), "size_words": "nothing is known of it"}, FAILED, PASSED),
    ("SELF_TRADE", {"opposite_orders": 1}, FAILED, PASSED),
    ("LOSS_LIMIT", {"day_start_equity": D(63_157)}, PASSED, PASSED),  # less than 5 % lost
    ("LOSS_LIMIT", {"day_start_equity": D(63_158)}, FAILED, PASSED),
    ("LOSS_LIMIT", {"day_start_equity": D(90_000)}, FAILED, PASSED),
    ("LOSS_LIMIT", {"day_start_equity": None}, FAILED, PASSED),
    ("LOSS_LIMIT", {"day_start_equity": D(0)}, FAILED, PASSED),
    ("LOSS_LIMIT", {"unvalued": ("ADAUSDT",)}, FAILED, PASSED),
    ("DRAWDOWN", {"peak_equity": D(63_157)}, PASSED, PASSED),
    ("DRAWDOWN", {"peak_equity": D(63_158)}, FAILED, PASSED),
    ("DRAWDOWN", {"peak_equity": None}, FAILED, PASSED),
    ("REPEAT", {"repeats": 2}, PASSED, PASSED),
    ("REPEAT", {"repeats": 3}, FAILED, PASSED),
    ("DUPLICATE", {"twin_ms": 1_001}, PASSED, PASSED),
    ("DUPLICATE", {"twin_ms": 1_000}, FAILED, PASSED),
    ("DUPLICATE", {"twin_ms": 0}, FAILED, PASSED),
    ("DUPLICATE", {"open_exits": 1}, PASSED, FAILED),
]  # fmt: skip


def changed(intent: Intent, changes: dict[str, Any]) -> tuple[Intent, View]:
    """The base case with some fields of the intent and of the view replaced."""
    ours = {name: value for name, value in changes.items() if name in Intent.__dataclass_fields__}
    theirs = {name: value for name, value in changes.items() if name not in ours}
    return replace(intent, **ours), replace(VIEW, **theirs)
