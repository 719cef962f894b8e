"""The statement of one trading day: what there was, what happened, what there is, and that it adds up.

A day is one of the account's limits' time zone, in event time. Its end is the day's, or for a day that is not over the
last minute that every shard has closed. Each line comes from where it is kept - cash from ledger legs, results from
fills, worth from balances at marks - so that the sums say something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db.models import Q, QuerySet, Sum

from apps.engine.money import ZERO, exact, notional, total
from apps.engine.risk.days import TradingDay, trading_day
from apps.execution.models import Trade
from apps.market.selectors import closed_minute
from apps.ops.selectors.results import Prices, Replayed, Result, replayed, results_of, summed
from apps.portfolio.models import CORRECTION, Account, EquityPoint, LedgerEntry
from apps.portfolio.selectors import DEPOSIT, MINUTE_MS, Worth, closes_at, ledger_balances, symbols_by_asset, worth_of
from apps.risk.models import OrderIntent, RiskLimits
from apps.staff import times

CASH, FEE = LedgerEntry.Kind.CASH, LedgerEntry.Kind.FEE


class NoStatement(ValueError):
    """There is nothing to state of that day; one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Cash:
    """`closing` is `opening` and everything between; `other` are cash legs that are none of these."""

    opening: Decimal
    deposits: Decimal
    corrections: Decimal
    bought: Decimal
    sold: Decimal
    fees: Decimal
    other: Decimal
    closing: Decimal

    @property
    def adds_up(self) -> bool:
        moved = total([self.deposits, self.corrections, -self.bought, self.sold, -self.fees, self.other])
        return self.closing == total([self.opening, moved])


@dataclass(frozen=True, slots=True)
class Equity:
    """`coins` is what coins outside of positions gained or lost, fees paid from them left out: those stand in `fees`.

    What needs a mark that is missing is None.
    """

    opening: Decimal | None
    deposits: Decimal
    corrections: Decimal
    realized: Decimal
    unrealized: Decimal | None
    fees: Decimal
    coins: Decimal | None
    closing: Decimal | None

    @property
    def adds_up(self) -> bool | None:
        """None if something that it would need has no price."""
        if self.opening is None or self.closing is None or self.unrealized is None or self.coins is None:
            return None
        moved = [self.deposits, self.corrections, self.realized, self.unrealized, -self.fees, self.coins]
        return self.closing == total([self.opening, *moved])


@dataclass(frozen=True, slots=True)
class Statement:
    """`begin_ms` and `end_ms` bound the event time that it speaks of; `over`: the whole day has been."""

    account: Account
    day: date
    zone: str
    begin_ms: int
    end_ms: int
    over: bool
    trades: int
    cash: Cash
    equity: Equity
    fees_by_currency: dict[str, Decimal]
    corrections: list[str]
    results: list[Result]
    holdings: dict[str, Decimal]
    unmarked: tuple[str, ...]
    unvalued: dict[str, Decimal]

    @property
    def adds_up(self) -> bool:
        return self.cash.adds_up and self.equity.adds_up is not False


def statement_of(*, account: Account, day: date) -> Statement:
    """Raises `NoStatement` for a day of which the account has no data."""
    zone = _zone(account)
    span = day_of(day, zone)
    begin_ms, end_ms = span.first_ms, _end_ms(account, span)
    legs = LedgerEntry.objects.filter(account=account, ts_event__gte=begin_ms, ts_event__lt=end_ms)
    rows = replayed(account=account, begin_ms=begin_ms, end_ms=end_ms)
    opening, closing = _marks(account, begin_ms), _marks(account, end_ms)
    results = results_of(rows, opening, closing)
    owned_before, owned = _owned(account, span, begin_ms), ledger_balances(account, before_ms=end_ms)
    worth_before, worth = worth_of(account, owned_before, opening), worth_of(account, owned, closing)
    cash = _cash(account, legs, owned_before, owned, begin_ms, end_ms, span)
    return Statement(
        account=account,
        day=day,
        zone=zone,
        begin_ms=begin_ms,
        end_ms=end_ms,
        over=end_ms == span.end_ms,
        trades=Trade.objects.filter(account=account, ts_event__gte=begin_ms, ts_event__lt=end_ms).count(),
        cash=cash,
        equity=_equity(account, cash, results, rows, (owned_before, worth_before, opening), (owned, worth, closing)),
        fees_by_currency=_sums(legs.filter(kind=FEE)),
        corrections=sorted(set(legs.filter(reference__startswith=CORRECTION).values_list("reference", flat=True))),
        results=results,
        holdings={coin: amount for coin, amount in owned.items() if coin != account.currency},
        unmarked=tuple(sorted({*worth_before.unmarked, *worth.unmarked})),
        unvalued=worth.unvalued,
    )


def day_of(day: date, zone: str) -> TradingDay:
    """The bounds of a date in a time zone: one of the three days around its noon in UTC is it."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    near = [trading_day(times.to_ms(noon + timedelta(days=step)), zone) for step in (0, -1, 1)]
    return next(found for found in near if found.day == day)


def _zone(account: Account) -> str:
    newest = RiskLimits.objects.filter(account=account).order_by("-version").first()
    return "UTC" if newest is None else newest.trading_day_zone


def _end_ms(account: Account, span: TradingDay) -> int:
    """The day's end, or how far the feed has come in it. Raises `NoStatement`."""
    in_day = Q(ts_event__gte=span.first_ms, ts_event__lt=span.end_ms)
    first, last = span.first_ms // MINUTE_MS, span.end_ms // MINUTE_MS
    has_points = EquityPoint.objects.filter(account=account, minute__gte=first, minute__lt=last).exists()
    if not has_points and not LedgerEntry.objects.filter(in_day, account=account).exists():
        raise NoStatement(f"{account} has no data of {span.day}: {_data_words(account)}")
    closed = closed_minute(epoch_id=account.session.epoch_id)
    reached = span.end_ms if closed is None else (closed + 1) * MINUTE_MS
    if reached <= span.first_ms:
        raise NoStatement(f"no minute of {span.day} is closed yet: {_data_words(account)}")
    return min(span.end_ms, reached)


def _data_words(account: Account) -> str:
    minutes = EquityPoint.objects.filter(account=account).order_by("minute").values_list("minute", flat=True)
    first, last = minutes.first(), minutes.last()
    if first is None or last is None:
        return "nothing was recorded yet"
    return f"its data reach from {times.minute_text(first)} to {times.minute_text(last)}"


def _marks(account: Account, at_ms: int) -> Prices:
    return closes_at(epoch_id=account.session.epoch_id, minute=at_ms // MINUTE_MS - 1)


def _owned(account: Account, span: TradingDay, begin_ms: int) -> dict[str, Decimal]:
    """What was owned when the day began. The first deposit came before, unless it was made on this very day."""
    owned = ledger_balances(account, before_ms=begin_ms)
    deposited = _deposit(account, span)
    if deposited:
        owned[account.currency] = total([owned.get(account.currency, ZERO), -deposited])
    return owned


def _deposit(account: Account, span: TradingDay) -> Decimal:
    legs = LedgerEntry.objects.filter(account=account, reference=DEPOSIT, kind=CASH)
    return _sum(legs.filter(ts_event__gte=span.first_ms, ts_event__lt=span.end_ms))


def _cash(
    account: Account,
    legs: QuerySet[LedgerEntry],
    before: Mapping[str, Decimal],
    after: Mapping[str, Decimal],
    begin_ms: int,
    end_ms: int,
    span: TradingDay,
) -> Cash:
    cash = legs.filter(kind=CASH)
    traded = cash.filter(reference__startswith="trade:")
    fees = _sum(legs.filter(kind=FEE, currency=account.currency, reference__startswith="trade:"))
    trades = Trade.objects.filter(account=account, ts_event__gte=begin_ms, ts_event__lt=end_ms)
    bought = _notionals(trades.filter(side=OrderIntent.Side.BUY))
    sold = _notionals(trades.filter(side=OrderIntent.Side.SELL))
    corrections = _sum(cash.filter(reference__startswith=CORRECTION))
    named = total([_sum(traded), corrections, _sum(cash.filter(reference=DEPOSIT))])
    return Cash(
        opening=before.get(account.currency, ZERO),
        deposits=_deposit(account, span),
        corrections=corrections,
        bought=bought,
        sold=sold,
        fees=fees,
        other=total([_sum(cash), -named]),
        closing=after.get(account.currency, ZERO),
    )


End = tuple[Mapping[str, Decimal], Worth, Prices]


@exact
def _equity(
    account: Account,
    cash: Cash,
    results: list[Result],
    rows: Mapping[int, Replayed],
    before: End,
    after: End,
) -> Equity:
    found = summed(results)
    symbols = symbols_by_asset(account)
    outside = [
        _outside(owned, prices, symbols, {pk: (row.base, quantity) for pk, row, quantity in _held(rows, at)})
        for at, (owned, _, prices) in enumerate((before, after))
    ]
    known = not before[1].unmarked and not after[1].unmarked
    return Equity(
        opening=None if before[1].unmarked else before[1].equity,
        deposits=cash.deposits,
        corrections=cash.corrections,
        realized=found.realized,
        unrealized=found.unrealized,
        fees=found.fees,
        coins=outside[1] - outside[0] + total(row.fees_outside for row in rows.values()) if known else None,
        closing=None if after[1].unmarked else after[1].equity,
    )


def _held(rows: Mapping[int, Replayed], at: int) -> list[tuple[int, Replayed, Decimal]]:
    return [(pk, row, (row.after if at else row.before).quantity) for pk, row in rows.items()]


@exact
def _outside(
    owned: Mapping[str, Decimal], prices: Prices, symbols: Mapping[str, str], held: Mapping[int, tuple[str, Decimal]]
) -> Decimal:
    """The worth of coins that no position holds, of those that have a price: of all of them less the positions'."""
    value = ZERO
    for coin, amount in owned.items():
        mark = prices.get(symbols.get(coin, ""))
        if mark is not None:
            value += notional(amount, mark)
    for base, quantity in held.values():
        mark = prices.get(symbols.get(base, ""))
        if mark is not None:
            value -= notional(quantity, mark)
    return value


def _notionals(trades: QuerySet[Trade]) -> Decimal:
    return total(notional(quantity, price) for quantity, price in trades.values_list("quantity", "price"))


def _sum(legs: QuerySet[LedgerEntry]) -> Decimal:
    return legs.aggregate(total=Sum("amount"))["total"] or ZERO


def _sums(legs: QuerySet[LedgerEntry]) -> dict[str, Decimal]:
    return dict(legs.values_list("currency").annotate(total=Sum("amount")).order_by("currency"))
