"""Reads of limits, decisions and marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final

from apps.engine.model import MINUTE_MS
from apps.engine.risk.values import Limits
from apps.engine.risk.words import plain
from apps.market.selectors import closed_minute
from apps.portfolio.selectors import closes_at
from apps.risk.models import OrderIntent, RiskLimits

DAY_MS: Final = 86_400_000
SECOND_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class MarkSet:
    """The prices that a decision values everything with, and the closed minute they are from (None: none closed)."""

    minute: int | None
    prices: Mapping[str, Decimal]

    def as_json(self) -> dict[str, Any]:
        prices = {symbol: plain(price) for symbol, price in sorted(self.prices.items())}
        return {"minute": self.minute, "prices": prices}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> MarkSet:
        prices = {symbol: Decimal(price) for symbol, price in stored.get("prices", {}).items()}
        return cls(stored.get("minute"), prices)

    def narrowed(self, symbols: Iterable[str], older: MarkSet) -> MarkSet:
        """Only `symbols`; one that has no price here keeps the one it had in `older`."""
        known = {**older.prices, **self.prices}
        return MarkSet(self.minute, {symbol: known[symbol] for symbol in symbols if symbol in known})


def marks_for(*, epoch_id: int, ts_event: int, symbol: str, price: Decimal) -> MarkSet:
    """Closes of the last minute that all shards had closed before the trigger's minute; `symbol` at its own price."""
    closed = closed_minute(epoch_id=epoch_id)
    if closed is None:
        return MarkSet(None, {symbol: price})
    minute = min(closed, ts_event // MINUTE_MS - 1)
    return MarkSet(minute, {**closes_at(epoch_id=epoch_id, minute=minute), symbol: price})


def current_limits(account_id: int) -> RiskLimits:
    """The newest version. Raises `RiskLimits.DoesNotExist` for an account without limits."""
    newest = RiskLimits.objects.filter(account_id=account_id).order_by("-version").first()
    if newest is None:
        raise RiskLimits.DoesNotExist(f"account {account_id} has no limits")
    return newest


def limits_of(row: RiskLimits) -> Limits:
    return Limits(**{field.name: getattr(row, field.name) for field in fields(Limits)})


@dataclass(frozen=True, slots=True)
class Earlier:
    """Approved orders near an event time, on either side of it: signals of several shards do not arrive in order."""

    orders_second: int
    orders_minute: int
    orders_day: int
    exits_second: int
    twin_ms: int | None


def earlier_orders(
    *, account_id: int, ts_event: int, instrument_id: int, side: str, quantity: Decimal, duplicate_ms: int
) -> Earlier:
    """Counts for throttle and duplicate. Two plain queries: one conditional aggregate costs more than both."""
    reach = max(MINUTE_MS, duplicate_ms + 1)
    day = ts_event // DAY_MS * DAY_MS
    orders = OrderIntent.objects.filter(account_id=account_id)
    of_the_day = orders.filter(reducing=False, ts_event__gte=day, ts_event__lt=day + DAY_MS).count()
    near = orders.filter(ts_event__gt=ts_event - reach, ts_event__lt=ts_event + reach)
    rows = near.values_list("ts_event", "reducing", "instrument_id", "side", "quantity")
    opening: list[int] = []
    exits: list[int] = []
    twins: list[int] = []
    for ts, reducing, instrument, row_side, row_quantity in rows:
        away_ms = abs(ts - ts_event)
        (exits if reducing else opening).append(away_ms)
        if not reducing and (instrument, row_side, row_quantity) == (instrument_id, side, quantity):
            twins.append(away_ms)
    return Earlier(
        orders_second=sum(away_ms < SECOND_MS for away_ms in opening),
        orders_minute=sum(away_ms < MINUTE_MS for away_ms in opening),
        orders_day=of_the_day,
        exits_second=sum(away_ms < SECOND_MS for away_ms in exits),
        twin_ms=min(twins, default=None),
    )
