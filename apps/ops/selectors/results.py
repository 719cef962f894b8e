"""Realised and unrealised results of positions over a span of event time: each, by symbol, by strategy, and in all.

They are worked out from the fills again, by the arithmetic that booked them, so a span in the past has the results that
it had then. Money is in the account's currency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from django.db.models import Q

from apps.engine.money import ZERO, exact, notional, total
from apps.engine.portfolio import Fill, Holding, Side, after_fill
from apps.execution.models import Trade
from apps.portfolio.models import Account, Position
from apps.portfolio.selectors import MINUTE_MS, coin_price
from apps.signals.models import StrategyVersion

Prices = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Result:
    """What a position came to within the span, before fees; `fees` apart, and those without a price by coin.

    `unrealized` is the change of what it would bring if it were sold at the marks less what it has cost; None if a mark
    is missing at either end.
    """

    position: int
    symbol: str
    strategy: str
    realized: Decimal
    unrealized: Decimal | None
    fees: Decimal
    unvalued: Mapping[str, Decimal]


@dataclass(slots=True)
class Replayed:
    """A position's numbers at both ends of the span, and the fees it did not pay out of what it held."""

    symbol: str
    base: str
    version_id: int
    before: Holding = field(default_factory=Holding)
    after: Holding = field(default_factory=Holding)
    fees_outside: Decimal = ZERO


def replayed(*, account: Account, begin_ms: int, end_ms: int) -> dict[int, Replayed]:
    """Positions that held something or were traded within the span, at its begin and at its end (event ms)."""
    alive = Position.objects.filter(Q(closed_ts__isnull=True) | Q(closed_ts__gte=begin_ms), account=account)
    trades = Trade.objects.filter(position__in=alive, ts_event__lt=end_ms).select_related("instrument", "position")
    price_of = _fee_prices(account)
    found: dict[int, Replayed] = {}
    for trade in trades.order_by("sequence"):
        instrument = trade.instrument
        row = found.setdefault(
            trade.position_id,
            Replayed(instrument.symbol, instrument.base_asset, trade.position.strategy_version_id),
        )
        fill = Fill(
            Side(trade.side), trade.price, trade.quantity, trade.fee, trade.fee_currency, trade.ts_event
        )  # fmt: skip
        if trade.ts_event < begin_ms:
            row.before = _after(row.before, fill, instrument.base_asset, account.currency, price_of)[0]
        row.after, outside = _after(row.after, fill, instrument.base_asset, account.currency, price_of)
        if trade.ts_event >= begin_ms:
            row.fees_outside = total([row.fees_outside, outside])
    return found


FeePrice = Callable[[Fill], Decimal | None]


def _fee_prices(account: Account) -> FeePrice:
    """What a third coin was worth at a fill's minute, asked for once."""
    known: dict[tuple[str, int], Decimal | None] = {}

    def price_of(fill: Fill) -> Decimal | None:
        key = (fill.fee_currency, fill.ts_event // MINUTE_MS)
        if key not in known:
            known[key] = coin_price(
                epoch_id=account.session.epoch_id, coin=fill.fee_currency, quote=account.currency,
                before_ms=fill.ts_event,
            )  # fmt: skip
        return known[key]

    return price_of


@exact
def _after(holding: Holding, fill: Fill, base: str, quote: str, price_of: FeePrice) -> tuple[Holding, Decimal]:
    """The holding after a fill, and what of its fee was paid from a coin's own balance, valued."""
    third = bool(fill.fee) and fill.fee_currency not in (base, quote)
    price = price_of(fill) if third else None
    after = after_fill(holding, fill, base=base, quote=quote, fee_price=price)
    if third:
        return after, ZERO if price is None else notional(fill.fee, price)
    if fill.fee_currency != base:
        return after, ZERO
    sign = 1 if fill.side is Side.BUY else -1
    taken = holding.quantity + sign * fill.quantity - after.quantity
    return after, notional(fill.fee - taken, fill.price)


def results(*, account: Account, begin_ms: int, end_ms: int, opening: Prices, closing: Prices) -> list[Result]:
    """One result per position that had one in the span; `opening` and `closing` are marks by symbol at its ends."""
    return results_of(replayed(account=account, begin_ms=begin_ms, end_ms=end_ms), opening, closing)


def results_of(rows: Mapping[int, Replayed], opening: Prices, closing: Prices) -> list[Result]:
    names = dict(
        StrategyVersion.objects.filter(pk__in={row.version_id for row in rows.values()}).values_list(
            "pk", "strategy__name"
        )
    )
    return [_result(pk, row, names.get(row.version_id, ""), opening, closing) for pk, row in sorted(rows.items())]


@exact
def _result(pk: int, row: Replayed, strategy: str, opening: Prices, closing: Prices) -> Result:
    before, after = paper_gain(row.before, opening.get(row.symbol)), paper_gain(row.after, closing.get(row.symbol))
    earlier = dict(row.before.unvalued)
    return Result(
        position=pk,
        symbol=row.symbol,
        strategy=strategy,
        realized=row.after.realized - row.before.realized,
        unrealized=None if before is None or after is None else after - before,
        fees=row.after.fees - row.before.fees,
        unvalued={
            coin: amount - earlier.get(coin, ZERO)
            for coin, amount in row.after.unvalued
            if amount != earlier.get(coin, ZERO)
        },
    )


@exact
def paper_gain(holding: Holding, mark: Decimal | None) -> Decimal | None:
    """What a holding would bring at a mark less what it has cost; None without one."""
    if not holding.quantity:
        return ZERO
    return None if mark is None else notional(holding.quantity, mark) - holding.cost


@dataclass(frozen=True, slots=True)
class Sum:
    """Results of several positions. `unrealized` is None if that of one of them is."""

    positions: int
    realized: Decimal
    unrealized: Decimal | None
    fees: Decimal


def grouped(rows: Iterable[Result], key: Callable[[Result], str]) -> dict[str, Sum]:
    """Sums by symbol, strategy or whatever `key` names, in its order."""
    groups: dict[str, list[Result]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {name: summed(found) for name, found in sorted(groups.items())}


def summed(rows: Iterable[Result]) -> Sum:
    found = list(rows)
    gains = [row.unrealized for row in found]
    known = [gain for gain in gains if gain is not None]
    return Sum(
        positions=len(found),
        realized=total(row.realized for row in found),
        unrealized=total(known) if len(known) == len(gains) else None,
        fees=total(row.fees for row in found),
    )
