"""What each check of a decision was given, and how far it was from the other verdict, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from apps.engine.money import exact
from apps.engine.risk.values import Reason, share_left
from apps.engine.risk.words import (
    CHECK_NAMES,
    cents_down,
    cents_up,
    number,
    percent_left,
    percent_up,
    seconds,
    seconds_up,
)
from apps.ops.explain.parts import CheckPart

AT_LEAST: Final = frozenset({Reason.MIN_NOTIONAL.value, Reason.DUPLICATE.value})
"""Checks whose limit is the least that passes; of all others it is the most."""
AGES: Final = frozenset(
    {
        Reason.STALE_FEED.value,
        Reason.STALE_SIGNAL.value,
        Reason.DUPLICATE.value,
        Reason.LEASE.value,
        Reason.HEARTBEAT.value,
    }
)
FRACTIONS: Final = frozenset({Reason.PRICE_COLLAR.value, Reason.BAD_TICK.value})
MONEY: Final = frozenset(
    {
        Reason.FAT_FINGER.value,
        Reason.MIN_NOTIONAL.value,
        Reason.POSITION_LIMIT.value,
        Reason.EXPOSURE.value,
        Reason.CASH.value,
        Reason.LOSS_LIMIT.value,
        Reason.DRAWDOWN.value,
    }
)
ADDS_THE_ORDER: Final = frozenset({Reason.POSITION_LIMIT.value, Reason.EXPOSURE.value})
"""Checks of a sum to which this order adds its own worth."""


def check_parts(stored: Any, *, currency: str, reducing: bool) -> tuple[CheckPart, ...]:
    """The stored checks in the order in which they ran."""
    rows = [row for row in stored if isinstance(row, dict)] if isinstance(stored, list) else []
    order = next((decimal(row.get("value")) for row in rows if row.get("code") == Reason.FAT_FINGER.value), None)
    return tuple(_part(row, order, currency, reducing=reducing) for row in rows)


def by_urgency(checks: Iterable[CheckPart]) -> list[CheckPart]:
    """Failed ones first, then by what was left of their limit; what has no measure stands last."""
    return sorted(checks, key=lambda row: (row.passed, row.left is None, row.left or Decimal(0)))


def decimal(stored: Any) -> Decimal | None:
    """A stored figure; None for what is no number."""
    try:
        return None if stored is None or stored == "" else Decimal(str(stored))
    except InvalidOperation:
        return None


def _part(row: Mapping[str, Any], order: Decimal | None, currency: str, *, reducing: bool) -> CheckPart:
    code = str(row.get("code", ""))
    value, limit, passed = decimal(row.get("value")), decimal(row.get("limit")), row.get("passed") is True
    left = decimal(row.get("left"))
    if left is None:
        left = _left(code, value, limit, reducing=reducing)
    return CheckPart(
        code=code,
        words=name_of(code),
        value=row.get("value"),
        limit=row.get("limit"),
        passed=passed,
        note=str(row.get("note") or ""),
        left=left,
        margin=_margin(code, value, limit, order, currency, passed=passed, reducing=reducing),
    )


def name_of(code: str) -> str:
    return CHECK_NAMES[Reason(code)] if code in set(Reason) else code.replace("_", " ").lower()


@exact
def _left(code: str, value: Decimal | None, limit: Decimal | None, *, reducing: bool) -> Decimal | None:
    if value is None or limit is None or reducing or not limit:
        return None
    return (value - limit) / limit if code in AT_LEAST else share_left(value, limit)


@exact
def _margin(
    code: str, value: Decimal | None, limit: Decimal | None, order: Decimal | None, currency: str,
    *, passed: bool, reducing: bool,
) -> str:  # fmt: skip
    """`29 940 + 425 = 30 365 > 30 000; 365 less would have passed`"""
    if limit is None:
        return ""
    if value is None:
        return "nothing to compare" if passed else "not known, which never passes"
    over = (limit - value) if code in AT_LEAST else (value - limit)
    sign = ("≥" if over <= 0 else "<") if code in AT_LEAST else ("≤" if over <= 0 else ">")
    if _is_count(code, value, order):
        return f"{number(value)} {sign} {number(limit)}; {number(over)} less would have passed"
    left_side = shown(code, value, up=True)
    if code in ADDS_THE_ORDER and order and not reducing:
        left_side = f"{shown(code, value - order, up=True)} + {shown(code, order, up=True)} = {left_side}"
    compared = f"{left_side} {sign} {shown(code, limit)}{f' {currency}' if code in MONEY else ''}"
    if reducing:
        return f"{compared}; an order that reduces is not limited by it" if over > 0 else compared
    if passed:
        share = None if code in AT_LEAST else _left(code, value, limit, reducing=False)
        return f"{compared}; {percent_left(share)} left" if share is not None else compared
    return f"{compared}; {_way_out(code, over, order)}"


def _is_count(code: str, value: Decimal, order: Decimal | None) -> bool:
    """The check of a symbol's positions counts them too: a sum that holds this order is never smaller than it."""
    return code == Reason.POSITION_LIMIT.value and order is not None and value < order


def _way_out(code: str, over: Decimal, order: Decimal | None) -> str:
    if code in AT_LEAST:
        return f"{shown(code, over, up=True)} more would have passed"
    if code in MONEY and order is not None and over >= order:
        return "no order would have passed"
    return f"{shown(code, over, up=True)} less would have passed"


def shown(code: str, value: Decimal, *, up: bool = False) -> str:
    """A figure in the unit of its check; `up` rounds against us, as a sentence that must not flatter does."""
    if code in AGES:
        return seconds_up(int(value)) if up else seconds(int(value))
    if code in FRACTIONS:
        return percent_up(value)
    if code in MONEY:
        return cents_up(value) if up else cents_down(value)
    return number(value)
