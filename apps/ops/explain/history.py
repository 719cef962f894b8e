"""An account as it stood before a decision, from its trades, intents and order events alone.

No balance, position or reservation row is read: those are what the account has now. Everything that moves it carries a
number of the account's sequence, so the past is the sum of what has a smaller number.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import F

from apps.engine.desk.book import Book, Earlier, Held, MarkSet, NearOrder, Promised, earlier, reach_of
from apps.engine.money import ZERO, exact
from apps.engine.orders import ENDED, Event
from apps.engine.portfolio import (
    Fill,
    Holding,
    Side,
    after_fill,
    cash_change,
    legs_of,
    opening_promise,
    reducing_promise,
)
from apps.engine.risk.days import trading_day
from apps.engine.risk.values import EquityRecord, Intent, Limits
from apps.execution.models import OrderEvent, Trade
from apps.portfolio.models import Account, LedgerEntry
from apps.risk.models import OrderIntent, RiskDecision

FILLS = frozenset({Event.FILL.value, Event.COMPLETE.value})


class Judged(NamedTuple):
    """A decision, as far as later ones are compared with it."""

    ts_event: int
    equity: Decimal
    marks: dict[str, Any]
    zone: str


class Asked(NamedTuple):
    """An intent, with what its instrument's orders promise."""

    client_order_id: str
    symbol: str
    side: str
    reducing: bool
    position_id: int | None
    quantity: Decimal
    limit_price: Decimal
    ts_event: int
    base: str
    quote: str
    taker_fee: Decimal


class Booked(NamedTuple):
    """A fill."""

    client_order_id: str
    position_id: int
    symbol: str
    base: str
    quote: str
    fill: Fill


Step = tuple[int, Judged | Asked | Booked | str]
"""A number of the sequence and what happened there; a text is the client id of an order that ended unfilled."""


@dataclass(slots=True)
class Past:
    """The account, moved forwards step by step. `to(sequence)` never goes back."""

    account: Account
    cash: Decimal = ZERO
    held: dict[int, tuple[str, Holding]] = field(default_factory=dict)
    promised: dict[str, tuple[Asked, Decimal]] = field(default_factory=dict)
    near: list[NearOrder] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)  # event times of opening orders, in order
    record: EquityRecord = field(default_factory=EquityRecord)
    _steps: list[Step] = field(default_factory=list)
    _next: int = 0
    _moved: list[tuple[datetime, Decimal]] = field(default_factory=list)

    @classmethod
    def of(cls, account: Account, *, before: int | None = None) -> Past:
        """`before` leaves out what has that number of the sequence or a greater one."""
        steps = sorted(_steps(account, before), key=lambda step: step[0])
        return cls(account, _steps=steps, _moved=_moved_otherwise(account))

    def to(self, sequence: int) -> None:
        """Do everything that has a smaller number."""
        while self._next < len(self._steps) and self._steps[self._next][0] < sequence:
            step = self._steps[self._next][1]
            self._next += 1
            if isinstance(step, Judged):
                self._judge(step)
            elif isinstance(step, Asked):
                self._ask(step)
            elif isinstance(step, Booked):
                self._book(step)
            else:
                self.promised.pop(step, None)

    def _judge(self, judged: Judged) -> None:
        """What cannot be valued moves no record: so the decision itself has it."""
        _, unvalued = self.book().worth(MarkSet.from_json(judged.marks).prices)
        if not unvalued:
            self.record = self.record.moved_on(trading_day(judged.ts_event, judged.zone).day, judged.equity)

    def _ask(self, asked: Asked) -> None:
        self.promised[asked.client_order_id] = (asked, asked.quantity)
        insort(self.near, _near(asked), key=_time_of)
        if not asked.reducing:
            insort(self.opened, asked.ts_event)

    @exact
    def _book(self, booked: Booked) -> None:
        fill = booked.fill
        holding = self.held.get(booked.position_id, (booked.symbol, Holding()))[1]
        holding = after_fill(holding, fill, base=booked.base, quote=booked.quote)
        self.held[booked.position_id] = (booked.symbol, holding)
        self.cash += cash_change(legs_of(fill, base=booked.base, quote=booked.quote))
        if booked.client_order_id in self.promised:
            asked, leaves = self.promised.pop(booked.client_order_id)
            if leaves > fill.quantity:
                self.promised[booked.client_order_id] = (asked, leaves - fill.quantity)

    @exact
    def cash_at(self, moment: datetime) -> Decimal:
        """Cash of trades so far, and of deposits and corrections that were written by a moment of the wall clock."""
        return sum((amount for at, amount in self._moved if at <= moment), self.cash)

    def book(self) -> Book:
        """In the order in which the decision transaction reads it."""
        positions = [
            Held(number, symbol, holding.quantity)
            for number, (symbol, holding) in sorted(self.held.items())
            if holding.quantity
        ]
        return Book(positions, [_promise(asked, leaves) for asked, leaves in self.promised.values()])

    def earlier(self, ts_event: int, intent: Intent, limits: Limits) -> Earlier:
        """Counts for throttle, repetition and duplicate, of orders approved so far."""
        reach, day = reach_of(limits), trading_day(ts_event, limits.trading_day_zone)
        first = bisect_right(self.near, ts_event - reach, key=_time_of)
        last = bisect_left(self.near, ts_event + reach, key=_time_of)
        of_the_day = bisect_left(self.opened, day.end_ms) - bisect_left(self.opened, day.first_ms)
        rows = self.near[first:last]
        return earlier(rows, of_the_day=of_the_day, ts_event=ts_event, intent=intent, limits=limits)


def _time_of(row: NearOrder) -> int:
    return row.ts_event


def _near(asked: Asked) -> NearOrder:
    return NearOrder(asked.ts_event, asked.reducing, asked.symbol, Side(asked.side), asked.quantity)


def _promise(asked: Asked, leaves: Decimal) -> Promised:
    if asked.reducing:
        promise = reducing_promise(leaves, asked.base)
    else:
        promise = opening_promise(leaves, asked.limit_price, asked.taker_fee, asked.quote)
    return Promised(
        asked.symbol, asked.reducing, asked.position_id, promise.currency, promise.amount, promise.notional
    )  # fmt: skip


def _steps(account: Account, before: int | None) -> Iterator[Step]:
    """Intents, fills and endings of the account, in no order."""
    about = ("instrument__symbol", "instrument__base_asset", "instrument__quote_asset")
    decisions = RiskDecision.objects.filter(account=account)
    intents = OrderIntent.objects.filter(account=account)
    trades = Trade.objects.filter(account=account)
    ends = OrderEvent.objects.filter(
        order__account=account, sequence__isnull=False, status__in=[status.value for status in ENDED]
    ).exclude(event__in=FILLS)
    if before is not None:
        decisions = decisions.filter(sequence__lt=before)
        intents = intents.filter(decision__sequence__lt=before)
        trades, ends = trades.filter(sequence__lt=before), ends.filter(sequence__lt=before)
    for sequence, *judged in decisions.values_list(
        "sequence", "ts_event", "equity", "marks", "limits__trading_day_zone"
    ):  # fmt: skip
        yield sequence, Judged(*judged)
    for sequence, symbol, base, quote, taker_fee, *asked in intents.values_list(
        F("decision__sequence"), *about, "instrument__taker_fee", "client_order_id", "side", "reducing", "position_id",
        "quantity", "limit_price", "ts_event",
    ):  # fmt: skip
        order_id, side, reducing, position, quantity, limit, ts_event = asked
        yield (
            sequence,
            Asked(order_id, symbol, side, reducing, position, quantity, limit, ts_event, base, quote, taker_fee),
        )
    for sequence, symbol, base, quote, order_id, position, side, *fill in trades.values_list(
        "sequence", *about, "order__client_order_id", "position_id", "side", "price", "quantity", "fee",
        "fee_currency", "ts_event",
    ):  # fmt: skip
        yield sequence, Booked(order_id, position, symbol, base, quote, Fill(Side(side), *fill))
    for at, order_id in ends.values_list("sequence", "order__client_order_id"):
        assert at is not None, "asked for"
        yield at, order_id


def _moved_otherwise(account: Account) -> list[tuple[datetime, Decimal]]:
    """Cash legs that are of no trade: the deposit, and corrections."""
    legs = LedgerEntry.objects.filter(account=account, kind=LedgerEntry.Kind.CASH, currency=account.currency)
    return list(legs.exclude(reference__startswith="trade:").values_list("created_at", "amount"))
