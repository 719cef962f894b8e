"""From a signal to a verdict: sizing, the view of the checks, the checks, and what the decision writes down.

The one place where this is worked out: the decision transaction and every simulation call it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from apps.engine.desk.book import Book, Earlier, MarkSet
from apps.engine.money import ZERO, exact, total
from apps.engine.portfolio import Promise, Side, opening_promise, reducing_promise
from apps.engine.risk.assessment import Assessment, Ruling
from apps.engine.risk.assessment import assess as run_checks
from apps.engine.risk.days import trading_day
from apps.engine.risk.values import (
    NEW_RECORD,
    SOUND_PATH,
    EquityRecord,
    Intent,
    Limits,
    OrderPath,
    Outcome,
    TradingState,
    Verdict,
    View,
)
from apps.engine.risk.words import plain
from apps.engine.sizing import Size, exit_limit, opening_limit, opening_size

LEFT_STEP: Final = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for an instrument: its assets, its units, the exchange's filters and fee."""

    symbol: str
    base_asset: str
    quote_asset: str
    price_decimals: int
    quantity_decimals: int
    quantity_min: Decimal
    notional_min: Decimal
    notional_max: Decimal
    taker_fee: Decimal
    tradable: bool


@dataclass(frozen=True, slots=True)
class Trigger:
    """A signal, as far as a decision needs it. `position_id` is what an exit closes, None for an entry.

    `confirmed` is the price that the trades up to the trigger's confirm (`apps.engine.ticks`), None if unknown.
    `printed` is the price of the very trade, which a replay compares and no decision asks for.
    """

    symbol: str
    ts_event: int
    price: Decimal
    bid: Decimal | None
    ask: Decimal | None
    median: Decimal | None
    unproven_minutes: int
    unproven_reason: str
    is_exit: bool
    position_id: int | None
    confirmed: Decimal | None = None
    printed: Decimal | None = None


def price_acted_on(price: Decimal, confirmed: Decimal | None, *, is_exit: bool) -> Decimal:
    """The price that a decision reckons with: an exit's is the confirmed one, where it is known.

    They differ where the last print before a time exit was wild: it must not move marks, equity and the day's loss.
    """
    return confirmed if is_exit and confirmed is not None else price


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the decision is told about the world around the account. Ages are of wall time, in ms.

    `volatility` is the symbol's average true range, if the limits size by it; `order_cap` the operator's hard cap.
    """

    in_session: bool
    feed_age_ms: int | None
    feed_words: str
    signal_age_ms: int
    marks: MarkSet
    path: OrderPath = SOUND_PATH
    volatility: Decimal | None = None
    order_cap: Decimal | None = None

    def recorded(self) -> dict[str, Any]:
        """What is stored of it as JSON, beside the ages and the marks, which have columns."""
        amounts = {"volatility": self.volatility, "order_cap": self.order_cap}
        return {
            "path": self.path.as_json(),
            **{name: None if value is None else plain(value) for name, value in amounts.items()},
        }

    @staticmethod
    def told(stored: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that `recorded` stored; those of a sound world where nothing was."""
        amounts = {name: stored.get(name) for name in ("volatility", "order_cap")}
        return {
            "path": OrderPath.from_json(stored.get("path", {})),
            **{name: None if value is None else Decimal(value) for name, value in amounts.items()},
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """The account at the moment of the decision. `known` are the marks it was last valued at, `record` what its worth
    is compared with."""

    trading_state: TradingState
    state_words: str
    currency: str
    cash: Decimal
    book: Book
    known: MarkSet
    record: EquityRecord = NEW_RECORD


@dataclass(frozen=True, slots=True)
class Proposal:
    """The order that the signal asks for, sized, with what it would reserve. `words`: why it has no size."""

    intent: Intent
    promise: Promise
    position_id: int | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class _Valued:
    marks: MarkSet
    worth: Decimal
    equity: Decimal
    unvalued: tuple[str, ...]
    record: EquityRecord


@dataclass(frozen=True, slots=True)
class Ruled:
    """A decision. `marks` are the prices of what was held or promised, and of the trigger; `record` is the account's
    from here on."""

    assessment: Assessment
    proposal: Proposal
    marks: MarkSet
    equity: Decimal
    exposure_before: Decimal
    exposure_after: Decimal
    record: EquityRecord

    @property
    def approved(self) -> bool:
        return self.assessment.ruling is Ruling.APPROVED

    @property
    def checks(self) -> list[dict[str, Any]]:
        """Every check with its input, its limit and its verdict, as it is stored."""
        return [check_row(verdict) for verdict in self.assessment.verdicts]


EarlierOf = Callable[[Intent], Earlier]


@exact
def decide(
    trigger: Trigger,
    terms: Terms,
    around: Circumstances,
    standing: Standing,
    limits: Limits,
    earlier_of: EarlierOf,
) -> Ruled:
    """Size the order, look at everything, and run all checks."""
    book = standing.book
    marks = around.marks.narrowed({*book.symbols, trigger.symbol}, standing.known)
    value, unvalued = book.worth(marks.prices)
    equity = total([standing.cash, value])
    proposal = propose(trigger, terms, around, book, limits, equity)
    record = standing.record
    if not unvalued:  # what cannot be valued is no loss
        record = record.moved_on(trading_day(trigger.ts_event, limits.trading_day_zone).day, equity)
    valued = _Valued(marks, value, equity, unvalued, record)
    view = _view(trigger, terms, around, standing, proposal, valued, earlier_of(proposal.intent))
    assessment = run_checks(proposal.intent, view, limits)
    added = proposal.promise.notional if assessment.ruling is Ruling.APPROVED else ZERO
    return Ruled(assessment, proposal, marks, equity, view.exposure, total([view.exposure, added]), record)


def propose(
    trigger: Trigger, terms: Terms, around: Circumstances, book: Book, limits: Limits, equity: Decimal
) -> Proposal:
    """An exit sells what its position holds; an entry buys what its sizing says, within the exchange's filters."""
    common: dict[str, Any] = {"symbol": trigger.symbol, "price": trigger.price}
    if trigger.is_exit:
        held = next((row for row in book.positions if row.position_id == trigger.position_id), None)
        quantity = held.quantity if held else ZERO
        reference = trigger.price if trigger.bid is None else trigger.bid
        limit = exit_limit(reference, limits.exit_band, terms.price_decimals)
        intent = Intent(**common, side=Side.SELL, reducing=True, limit_price=limit, quantity=quantity)
        return Proposal(intent, reducing_promise(quantity, terms.base_asset), trigger.position_id)
    limit = opening_limit(trigger.price, limits.collar, terms.price_decimals)
    size: Size = opening_size(
        limits=limits,
        equity=equity,
        price=trigger.price,
        limit_price=limit,
        quantity_decimals=terms.quantity_decimals,
        notional_max=terms.notional_max,
        volatility=around.volatility,
        order_cap=around.order_cap,
    )
    promise = opening_promise(size.quantity, limit, terms.taker_fee, terms.quote_asset)
    intent = Intent(**common, side=Side.BUY, reducing=False, limit_price=limit, quantity=size.quantity)
    return Proposal(intent, promise, None, size.words)


def _view(
    trigger: Trigger,
    terms: Terms,
    around: Circumstances,
    standing: Standing,
    proposal: Proposal,
    valued: _Valued,
    near: Earlier,
) -> View:
    book, symbol, prices = standing.book, trigger.symbol, valued.marks.prices
    exits = [row for row in book.reservations if row.reducing and row.position_id == trigger.position_id]
    return View(
        trading_state=standing.trading_state,
        state_words=standing.state_words,
        in_session=around.in_session,
        tradable=terms.tradable,
        path=around.path,
        feed_age_ms=around.feed_age_ms,
        feed_words=around.feed_words,
        signal_age_ms=around.signal_age_ms,
        unproven_minutes=trigger.unproven_minutes,
        unproven_reason=trigger.unproven_reason,
        bid=trigger.bid,
        ask=trigger.ask,
        median=trigger.median,
        confirmed=trigger.confirmed,
        quantity_min=terms.quantity_min,
        notional_min=terms.notional_min,
        size_words=proposal.words,
        currency=standing.currency,
        equity=valued.equity,
        day_start_equity=valued.record.day_start,
        peak_equity=valued.record.peak,
        order_cap=around.order_cap,
        free_cash=free_cash(standing.cash, book.reserved(standing.currency)),
        needed_cash=proposal.promise.amount,
        exposure=total([valued.worth, book.promised()]),
        symbol_exposure=book.exposure(prices, symbol),
        unvalued=valued.unvalued,
        positions_symbol=book.entries_of(symbol),
        open_orders=len(book.reservations),
        open_orders_symbol=sum(row.symbol == symbol for row in book.reservations),
        open_exits=len(exits) if trigger.position_id else 0,
        opposite_orders=book.opposite(symbol, reducing=trigger.is_exit),
        orders_second=near.orders_second,
        orders_minute=near.orders_minute,
        orders_day=near.orders_day,
        exits_second=near.exits_second,
        repeats=near.repeats,
        twin_ms=near.twin_ms,
    )


@exact
def free_cash(cash: Decimal, reserved: Decimal) -> Decimal:
    """Cash that no open order has been promised."""
    return cash - reserved


def check_row(verdict: Verdict) -> dict[str, Any]:
    """One check as it is stored with the decision: its input, its limit, how far they are apart (below 0: how much less
    would pass) and as a fraction of the limit, and its verdict."""
    left = None if verdict.left is None else verdict.left.quantize(LEFT_STEP, rounding=ROUND_FLOOR)
    figures = {"value": verdict.value, "limit": verdict.limit, "margin": verdict.margin, "left": left}
    return {
        "code": verdict.reason.value,
        **{name: None if value is None else plain(value) for name, value in figures.items()},
        "passed": verdict.outcome is not Outcome.FAILED,
        "note": verdict.note,
    }


def client_order_id(session: int, book: str, trigger_key: str) -> str:
    """The same trigger gives the same order id in every run, so a venue can tell a repeated order from a new one."""
    name = f"{session}|{book}|{trigger_key}"
    return "c" + hashlib.sha256(name.encode()).hexdigest()[:24]


def entry_key(version_id: int, symbol: str, ts_event: int, trade_id: str) -> str:
    """What an entry is: the version, the instrument and the very trade. Equal in live, replay and backtest."""
    return f"e:{version_id}:{symbol}:{ts_event}:{trade_id}"
