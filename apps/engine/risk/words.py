"""Numbers and names in the sentences of decisions. Values round so that a sentence never flatters."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

from apps.engine.money import exact
from apps.engine.risk.values import Reason

NARROW_SPACE: Final = "\u202f"

CHECK_NAMES: Final[dict[Reason, str]] = {
    Reason.SYMBOL: "symbol",
    Reason.HALTED: "trading state",
    Reason.REDUCING: "reducing only",
    Reason.LEASE: "lease",
    Reason.VERSION: "code version",
    Reason.HEARTBEAT: "heartbeats",
    Reason.RECON: "reconciliation",
    Reason.STALE_FEED: "feed age",
    Reason.STALE_SIGNAL: "signal age",
    Reason.DATA_GAP: "data coverage",
    Reason.BAD_TICK: "price jump",
    Reason.PRICE_COLLAR: "price collar",
    Reason.FAT_FINGER: "order notional",
    Reason.MIN_NOTIONAL: "order minimum",
    Reason.POSITION_LIMIT: "symbol exposure",
    Reason.OPEN_ORDERS: "open orders",
    Reason.SELF_TRADE: "opposite orders",
    Reason.EXPOSURE: "gross exposure",
    Reason.CASH: "cash",
    Reason.LOSS_LIMIT: "daily loss",
    Reason.DRAWDOWN: "drawdown",
    Reason.THROTTLE: "order rate",
    Reason.REPEAT: "repetition",
    Reason.DUPLICATE: "duplicate",
}


def plain(value: Decimal) -> str:
    """The exact value for machines: no grouping, no exponent, no zeros at the end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(value: Decimal) -> str:
    """All digits that matter, thousands set apart: 30365.50 is `30 365.5`."""
    whole, _, fraction = f"{abs(value):f}".partition(".")
    fraction = fraction.rstrip("0")
    grouped = f"{int(whole):,}".replace(",", NARROW_SPACE)
    sign = "-" if value < 0 else ""
    return f"{sign}{grouped}.{fraction}" if fraction else f"{sign}{grouped}"


@exact
def cents_up(value: Decimal) -> str:
    """Money with two places at most, rounded up."""
    return number(value.quantize(Decimal("0.01"), rounding=ROUND_CEILING))


@exact
def cents_down(value: Decimal) -> str:
    return number(value.quantize(Decimal("0.01"), rounding=ROUND_FLOOR))


@exact
def percent_up(fraction: Decimal) -> str:
    """0.02411 is `2.42 %`."""
    return f"{number((fraction * 100).quantize(Decimal('0.01'), rounding=ROUND_CEILING))}{NARROW_SPACE}%"


@exact
def percent_left(fraction: Decimal) -> str:
    return f"{number((fraction * 100).quantize(Decimal(1), rounding=ROUND_FLOOR))}{NARROW_SPACE}%"


def six_digits(value: Decimal, rounding: str) -> str:
    """A price with six significant digits, rounded as asked."""
    return number(Context(prec=6, rounding=rounding).plus(value))


def seconds_up(age_ms: int) -> str:
    """2301 ms is `2.4 s`."""
    tenths = -(-age_ms // 100)
    return f"{number(Decimal(tenths) / 10)}{NARROW_SPACE}s"


def seconds(duration_ms: int) -> str:
    return f"{number(Decimal(duration_ms) / 1000)}{NARROW_SPACE}s"
