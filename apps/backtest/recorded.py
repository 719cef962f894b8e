"""A simulated account that is told, where history decided on the same trigger, what history was told. Pure.

Marks, ages, limits and the trading state are facts of the moment in which a decision was taken, and recorded trades do
not hold them: the marks depend on which minutes had been closed by then, the ages on a wall clock. Nor do they say
whether a fill was booked before or after another decision, or that an order was too late to be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from apps.engine.desk.account import Desk, DeskDecision, DeskEnd, DeskOrder
from apps.engine.desk.book import Book, Held, MarkSet, Promised
from apps.engine.desk.deciding import Circumstances, Trigger
from apps.engine.matching import TopOfBook
from apps.engine.money import total
from apps.engine.risk.values import Limits, TradingState

ENDS_KEPT: Final = 64  # decisions are out of the order of event time by far fewer ends


@dataclass(frozen=True, slots=True)
class Told:
    """What a recorded decision was told. Ages in ms of wall time; `marks` are the prices of what was held then.

    `sequence` is the decision's place in the account's order, `ended` that of its order's end (None: none, or not yet);
    `expired`: the order ended without a fill.
    """

    feed_age_ms: int | None
    signal_age_ms: int
    marks: MarkSet
    limits: Limits
    trading_state: TradingState
    sequence: int
    ended: int | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class _Booked:
    """An end as it was before it was booked: the order's promise, what its position held, and the cash it moved."""

    trigger_key: str
    promised: Promised
    position_id: int | None
    held: Held | None
    cash: Decimal


class RecordedDesk(Desk):
    """`told` is by trigger key. A trading state stays until another one was recorded."""

    def __init__(self, told: Mapping[str, Told], **account: Any) -> None:
        super().__init__(**account)
        self._told = told
        self._ended: list[_Booked] = []
        self._ahead: list[_Booked] = []  # booked here, but in history only after the decision that is being taken

    @classmethod
    def like(cls, desk: Desk, told: Mapping[str, Told], **account: Any) -> RecordedDesk:
        """A desk that begins as `desk` does, which has decided nothing yet."""
        return cls(
            told, limits=desk.limits, terms=desk.terms, plans=desk.plans, paper=desk.paper, currency=desk.currency,
            session=desk.session, book=desk.book_name, **account,
        )  # fmt: skip

    def decide(self, *, trigger_key: str, version_id: int, trigger: Trigger, around: Circumstances) -> DeskDecision:
        """As `Desk.decide`. What is held here and was not then keeps the marks of the simulation."""
        was = self._told.get(trigger_key)
        if was is None:
            return super().decide(trigger_key=trigger_key, version_id=version_id, trigger=trigger, around=around)
        self.state, self.limits = was.trading_state, was.limits
        around = replace(
            around,
            feed_age_ms=was.feed_age_ms,
            signal_age_ms=was.signal_age_ms,
            marks=MarkSet(was.marks.minute, {**around.marks.prices, **was.marks.prices}),
        )
        self._ahead = [row for row in self._ended if (self._told[row.trigger_key].ended or 0) > was.sequence]
        cash = self.cash
        self.cash = total([cash, *(-row.cash for row in self._ahead)])
        try:
            return super().decide(trigger_key=trigger_key, version_id=version_id, trigger=trigger, around=around)
        finally:
            self.cash, self._ahead = cash, []

    def book(self) -> Book:
        """What is held and promised now; during a recorded decision, as it was booked then."""
        book = super().book()
        moved = {row.position_id for row in self._ahead}
        held = [row for row in book.positions if row.position_id not in moved]
        opened = {row.position_id for row in self._ahead if row.held is None}
        held += [row.held for row in self._ahead if row.held is not None and row.position_id not in opened]
        return Book(held, [*book.reservations, *(row.promised for row in self._ahead)])

    def end(self, order: DeskOrder, quote: TopOfBook | None, *, gap: str = "") -> DeskEnd:
        """As `Desk.end`. An order that history let expire meets no quote here either."""
        was = self._told.get(order.trigger_key)
        if was is None:
            return super().end(order, quote, gap=gap)
        _, proposal = self.orders[order.client_order_id]
        promised = Promised(
            order.symbol, proposal.intent.reducing, proposal.position_id, proposal.promise.currency,
            proposal.promise.amount, proposal.promise.notional,
        )  # fmt: skip
        position = None if order.position_id is None else self.positions.get(order.position_id)
        held = None if position is None else Held(position.position_id, position.symbol, position.holding.quantity)
        cash, made = self.cash, self._positions_made
        end = super().end(order, None if was.expired else quote, gap=gap)
        opened = self._positions_made if self._positions_made > made else order.position_id
        booked = _Booked(order.trigger_key, promised, opened, held, total([self.cash, -cash]))
        self._ended = [*self._ended[-ENDS_KEPT:], booked]
        return end
