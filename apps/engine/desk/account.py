"""One account in memory: its decisions, its orders, its fills and its money, by the functions that live trading uses.

What PostgreSQL keeps as rows are values here. Nothing in it knows where signals come from: whoever drives it brings
triggers, circumstances and the quotes that were in force, in an order of his choosing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from apps.engine.desk.book import Book, Earlier, Held, MarkSet, NearOrder, Promised, earlier, reach_of
from apps.engine.desk.deciding import Circumstances, Proposal, Ruled, Standing, Terms, Trigger, client_order_id, decide
from apps.engine.exit_kernel import NEVER_DUE, Bounds, Watch, trailing_parts, watch_from
from apps.engine.matching import Expired, Expiry, MaturedOrder, TopOfBook, match
from apps.engine.matching import Terms as PaperTerms
from apps.engine.model import MINUTE_MS
from apps.engine.money import ZERO, exact, notional, total
from apps.engine.performance import RoundTrip
from apps.engine.portfolio import (
    Fill,
    Holding,
    Leg,
    Side,
    after_fill,
    cash_change,
    deposit_legs,
    legs_of,
    stop_and_target,
    worth,
)
from apps.engine.risk.days import trading_day
from apps.engine.risk.values import NEW_RECORD, EquityRecord, Intent, Limits, Reason, TradingState


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """How a position that an entry opens is to end. Percentages of its entry price, exact; 0 is off."""

    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    trailing_stop_pct: Decimal
    max_holding_minutes: int
    exit_on_signal: bool

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> ExitPlan:
        """The plan that a strategy version's parameters hold; a version from before trailing stops has none."""
        return cls(
            stop_loss_pct=Decimal(str(parameters["stop_loss_pct"])),
            take_profit_pct=Decimal(str(parameters["take_profit_pct"])),
            trailing_stop_pct=Decimal(str(parameters.get("trailing_stop_pct", 0))),
            max_holding_minutes=int(Decimal(str(parameters["max_holding_minutes"]))),
            exit_on_signal=bool(int(parameters.get("exit_on_signal", 1))),
        )


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """The paper venue's delay (ms of event time) and slippage (basis points)."""

    latency_ms: int
    base_bps: Decimal
    impact_bps: Decimal


@dataclass(frozen=True, slots=True)
class DeskOrder:
    """An approved order on its way: it meets the quote in force at `ts_mature`."""

    client_order_id: str
    trigger_key: str
    version_id: int
    symbol: str
    side: Side
    quantity: Decimal
    limit_price: Decimal
    ts_event: int
    ts_mature: int
    position_id: int | None


@dataclass(slots=True)
class DeskPosition:
    """One round trip. `stop` and `target` are ticks, `trailing` parts as the exit search takes them.

    `watch` is what that search has seen so far; whoever drives the desk moves it on.
    """

    position_id: int
    version_id: int
    symbol: str
    entry_key: str
    plan: ExitPlan
    opened_ts: int
    holding: Holding = field(default_factory=Holding)
    stop: int = 0
    target: int = 0
    trailing: int = 0
    due_ts: int = NEVER_DUE
    retry_ts: int = 0  # when an exit may be found again after one that failed; 0: none has
    watch: Watch = field(default_factory=lambda: watch_from(0))
    attempts: int = 0
    entry_notional: Decimal = ZERO
    exit_notional: Decimal = ZERO
    exit_reason: str = ""

    @property
    def bounds(self) -> Bounds:
        """What the exit search compares with."""
        return Bounds(self.opened_ts, self.stop, self.target, self.trailing, self.due_ts, self.retry_ts)

    @property
    def exit_key(self) -> str:
        """What the next exit of this position is called: its entry, and how many exits have failed before."""
        return f"x:{self.entry_key}:{self.attempts}"


@dataclass(frozen=True, slots=True)
class DeskDecision:
    """A decision with its place in the account's sequence. `order` is None if it was denied."""

    sequence: int
    trigger_key: str
    trigger: Trigger
    ruled: Ruled
    order: DeskOrder | None


@dataclass(frozen=True, slots=True)
class DeskEnd:
    """What became of an order: a fill, or why there is none. `quote` is what it met."""

    sequence: int
    order: DeskOrder
    outcome: Fill | Expired
    quote: TopOfBook | None


class Desk:
    """The account. `session` and `book` name it in client order ids, as they do in live trading."""

    def __init__(
        self,
        *,
        capital: Decimal,
        currency: str,
        limits: Limits,
        terms: Mapping[str, Terms],
        plans: Mapping[int, ExitPlan],
        paper: PaperSettings,
        session: int = 0,
        book: str = "main",
    ) -> None:
        self.limits, self.terms, self.plans, self.paper = limits, terms, plans, paper
        self.currency, self.session, self.book_name = currency, session, book
        self.sequence = 0
        self.cash = ZERO
        self.state = TradingState.ACTIVE
        self.state_words = ""
        self.positions: dict[int, DeskPosition] = {}
        self.orders: dict[str, tuple[DeskOrder, Proposal]] = {}
        self.round_trips: list[RoundTrip] = []
        self.ledger: list[tuple[str, tuple[Leg, ...]]] = []
        self._marks = MarkSet(None, {})
        self._near: list[NearOrder] = []  # in order of event time, which decisions need not be taken in
        self._opened: list[int] = []  # event times of opening orders, in order
        self.record = NEW_RECORD
        self._sunk = False  # the drawdown was at its limit on the record's day
        self._positions_made = 0
        self._post("deposit", deposit_legs(currency, capital))

    # --- decisions ----------------------------------------------------------------------------------------------------

    def decide(self, *, trigger_key: str, version_id: int, trigger: Trigger, around: Circumstances) -> DeskDecision:
        """Decide on a signal; an approval reserves what the order may cost and puts it on its way."""
        terms = self.terms[trigger.symbol]
        standing = Standing(
            self.state, self.state_words, self.currency, self.cash, self.book(), self._marks, self._record(trigger)
        )

        def earlier_of(intent: Intent) -> Earlier:
            return self._earlier(trigger.ts_event, intent)

        ruled = decide(trigger, terms, around, standing, self.limits, earlier_of)
        self.sequence += 1
        self._marks, self.record = ruled.marks, ruled.record
        self._sunk |= any(verdict.reason is Reason.DRAWDOWN for verdict in ruled.assessment.trips)
        order = self._order(trigger_key, version_id, trigger, ruled.proposal) if ruled.approved else None
        return DeskDecision(self.sequence, trigger_key, trigger, ruled, order)

    def book(self) -> Book:
        """What is held and promised now."""
        held = [Held(row.position_id, row.symbol, row.holding.quantity) for row in self.positions.values()]
        promised = [
            Promised(
                order.symbol, proposal.intent.reducing, proposal.position_id, proposal.promise.currency,
                proposal.promise.amount, proposal.promise.notional,
            )
            for order, proposal in self.orders.values()
        ]  # fmt: skip
        return Book(held, promised)

    @property
    def symbols(self) -> set[str]:
        """Symbols whose price matters: held, or about to be. Those of `book`, for less."""
        opening = {order.symbol for order, proposal in self.orders.values() if not proposal.intent.reducing}
        return opening.union(row.symbol for row in self.positions.values())

    def _earlier(self, ts_event: int, intent: Intent) -> Earlier:
        reach, day = reach_of(self.limits), trading_day(ts_event, self.limits.trading_day_zone)
        first = bisect_right(self._near, ts_event - reach, key=_time_of)
        return earlier(
            self._near[first : bisect_left(self._near, ts_event + reach, key=_time_of)],
            of_the_day=bisect_left(self._opened, day.end_ms) - bisect_left(self._opened, day.first_ms),
            ts_event=ts_event, intent=intent, limits=self.limits,
        )  # fmt: skip

    def _record(self, trigger: Trigger) -> EquityRecord:
        """What the worth is compared with. Nobody resumes a simulation: after a day on which the drawdown was at its
        limit the highest equity is counted anew, as after a person's decision to go on."""
        if not self._sunk or self.record.day is None:
            return self.record
        if trading_day(trigger.ts_event, self.limits.trading_day_zone).day <= self.record.day:
            return self.record
        self._sunk = False
        return replace(self.record, peak=None)

    def _order(self, trigger_key: str, version_id: int, trigger: Trigger, proposal: Proposal) -> DeskOrder:
        intent, ts = proposal.intent, trigger.ts_event
        order = DeskOrder(
            client_order_id(self.session, self.book_name, trigger_key), trigger_key, version_id, intent.symbol,
            intent.side, intent.quantity, intent.limit_price, ts, ts + self.paper.latency_ms, proposal.position_id,
        )  # fmt: skip
        self.orders[order.client_order_id] = (order, proposal)
        near = NearOrder(ts, intent.reducing, intent.symbol, intent.side, intent.quantity)
        insort(self._near, near, key=_time_of)
        if not intent.reducing:
            insort(self._opened, ts)
        return order

    # --- fills --------------------------------------------------------------------------------------------------------

    @exact
    def end(self, order: DeskOrder, quote: TopOfBook | None, *, gap: str = "") -> DeskEnd:
        """The order has matured: fill it against `quote`, or let it expire. `gap`: why its minute is UNPROVEN."""
        terms = self.terms[order.symbol]
        matured = MaturedOrder(order.side, order.quantity, order.limit_price, order.ts_mature)
        if gap:
            words = f"the minute in which it matured is UNPROVEN ({gap})"
            outcome: Fill | Expired = Expired(Expiry.FEED_GAP, words)
            quote = None
        else:
            outcome = match(quote, matured, self._paper_terms(terms))
        self.sequence += 1
        self.orders.pop(order.client_order_id)
        if isinstance(outcome, Fill):
            self._fill(order, outcome)
        elif order.position_id is not None and order.position_id in self.positions:
            self._exit_failed(self.positions[order.position_id], order, outcome)
        price = outcome.price if isinstance(outcome, Fill) else order.limit_price
        self._mark(order.symbol, price)
        return DeskEnd(self.sequence, order, outcome, quote)

    def _paper_terms(self, terms: Terms) -> PaperTerms:
        return PaperTerms(
            terms.price_decimals, self.paper.base_bps, self.paper.impact_bps, terms.taker_fee, terms.quote_asset
        )

    def _fill(self, order: DeskOrder, fill: Fill) -> None:
        terms = self.terms[order.symbol]
        if order.position_id is None:
            self._positions_made += 1
            position = self._open(order, fill, self._positions_made)
        else:
            position = self.positions[order.position_id]
        position.holding = after_fill(position.holding, fill, base=terms.base_asset, quote=terms.quote_asset)
        if fill.side is Side.BUY:
            position.entry_notional = total([position.entry_notional, notional(fill.quantity, fill.price)])
            set_levels(position, terms)
            if not position.watch.confirmed:
                position.watch = watch_from(int(position.holding.entry_price.scaleb(terms.price_decimals)))
        else:
            position.exit_notional = total([position.exit_notional, notional(fill.quantity, fill.price)])
        self._post(f"order:{order.client_order_id}", legs_of(fill, base=terms.base_asset, quote=terms.quote_asset))
        if not position.holding.quantity:
            del self.positions[position.position_id]
            self.round_trips.append(_round_trip(position, fill.ts_event))

    def _open(self, order: DeskOrder, fill: Fill, number: int) -> DeskPosition:
        plan = self.plans[order.version_id]
        position = DeskPosition(number, order.version_id, order.symbol, order.trigger_key, plan, fill.ts_event)
        position.due_ts = fill.ts_event + plan.max_holding_minutes * MINUTE_MS
        self.positions[number] = position
        return position

    def _exit_failed(self, position: DeskPosition, order: DeskOrder, outcome: Expired) -> None:
        """The next exit has a key of its own, and a time exit does not meet the same obstacle at once."""
        retry_ms = order.ts_mature + 1
        if outcome.reason is Expiry.FEED_GAP:
            retry_ms = (order.ts_mature // MINUTE_MS + 1) * MINUTE_MS
        position.attempts += 1
        position.retry_ts = retry_ms
        position.due_ts = max(position.due_ts, retry_ms)

    # --- money --------------------------------------------------------------------------------------------------------

    def correct(self, reference: str, legs: Sequence[Leg]) -> None:
        """A correction of the ledger, as it was posted. It takes a number of the sequence."""
        self.sequence += 1
        self._post(reference, legs)

    def _post(self, reference: str, legs: Sequence[Leg]) -> None:
        self.ledger.append((reference, tuple(legs)))
        self.cash = total([self.cash, cash_change(legs)])

    def _mark(self, symbol: str, price: Decimal) -> None:
        """After a fill or an end: the marks of the last decision go on, and `price` marks what they do not name."""
        symbols = {*self._marks.prices, *self.symbols}
        self._marks = self._marks.narrowed(symbols, MarkSet(None, {symbol: price}))

    @exact
    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Cash and positions at `marks`. Every held symbol must have one (`KeyError`)."""
        held = [(row.symbol, row.holding.quantity) for row in self.positions.values()]
        missing = {symbol for symbol, _ in held} - set(marks)
        if missing:
            raise KeyError(min(missing))
        return self.cash + worth(held, marks)[0]

    def positions_of(self, symbol: str) -> Iterable[DeskPosition]:
        return [row for row in self.positions.values() if row.symbol == symbol]


def set_levels(position: DeskPosition, terms: Terms) -> None:
    """Stop and target of a position in ticks, from its average entry price: as the exit search compares with them."""
    plan, entry = position.plan, position.holding.entry_price
    stop, target = stop_and_target(entry, plan.stop_loss_pct, plan.take_profit_pct)
    position.stop = math.floor(stop.scaleb(terms.price_decimals))
    position.target = math.ceil(target.scaleb(terms.price_decimals)) if plan.take_profit_pct else 0
    position.trailing = trailing_parts(plan.trailing_stop_pct)


@exact
def _round_trip(position: DeskPosition, closed_ts: int) -> RoundTrip:
    holding = position.holding
    return RoundTrip(
        symbol=position.symbol,
        reason=position.exit_reason,
        opened_ts_event=position.opened_ts,
        closed_ts_event=closed_ts,
        entry_notional=position.entry_notional,
        exit_notional=position.exit_notional,
        gross=holding.realized,
        fees=holding.fees,
        net=holding.realized - holding.fees,
    )


def _time_of(order: NearOrder) -> int:
    return order.ts_event
