"""From a signal to a verdict: sizing, the view of the checks, the checks, and what the decision writes down.

The one place where this is worked out: the decision transaction and every simulation call it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from apps.engine.desk.book import Book, Earlier, MarkSet
from apps.engine.money import ZERO, exact, total
from apps.engine.portfolio import Promise, Side, opening_promise, reducing_promise
from apps.engine.risk.assessment import Assessment, Ruling
from apps.engine.risk.assessment import assess as run_checks
from apps.engine.risk.values import Intent, Limits, Outcome, TradingState, Verdict, View
from apps.engine.risk.words import plain
from apps.engine.sizing import exit_limit, opening_limit, opening_quantity


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
    """A signal, as far as a decision needs it. `position_id` is what an exit closes, None for an entry."""

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


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the decision is told about the world around the account. Ages are of wall time, in ms."""

    in_session: bool
    feed_age_ms: int | None
    feed_words: str
    signal_age_ms: int
    marks: MarkSet


@dataclass(frozen=True, slots=True)
class Standing:
    """The account at the moment of the decision. `known` are the marks it was last valued at."""

    trading_state: TradingState
    state_words: str
    currency: str
    cash: Decimal
    book: Book
    known: MarkSet


@dataclass(frozen=True, slots=True)
class Proposal:
    """The order that the signal asks for, sized, with what it would reserve."""

    intent: Intent
    promise: Promise
    position_id: int | None


@dataclass(frozen=True, slots=True)
class _Valued:
    marks: MarkSet
    worth: Decimal
    equity: Decimal
    unvalued: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ruled:
    """A decision. `marks` are the prices of what was held or promised, and of the trigger."""

    assessment: Assessment
    proposal: Proposal
    marks: MarkSet
    equity: Decimal
    exposure_before: Decimal
    exposure_after: Decimal

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
    proposal = propose(trigger, terms, book, limits, equity)
    view = _view(
        trigger, terms, around, standing, proposal, _Valued(marks, value, equity, unvalued), earlier_of(proposal.intent)
    )
    assessment = run_checks(proposal.intent, view, limits)
    added = proposal.promise.notional if assessment.ruling is Ruling.APPROVED else ZERO
    return Ruled(assessment, proposal, marks, equity, view.exposure, total([view.exposure, added]))


def propose(trigger: Trigger, terms: Terms, book: Book, limits: Limits, equity: Decimal) -> Proposal:
    """An exit sells what its position holds; an entry buys a fraction of the equity, within the exchange's filters."""
    common: dict[str, Any] = {"symbol": trigger.symbol, "price": trigger.price}
    if trigger.is_exit:
        held = next((row for row in book.positions if row.position_id == trigger.position_id), None)
        quantity = held.quantity if held else ZERO
        reference = trigger.price if trigger.bid is None else trigger.bid
        limit = exit_limit(reference, limits.exit_band, terms.price_decimals)
        intent = Intent(**common, side=Side.SELL, reducing=True, limit_price=limit, quantity=quantity)
        return Proposal(intent, reducing_promise(quantity, terms.base_asset), trigger.position_id)
    limit = opening_limit(trigger.price, limits.collar, terms.price_decimals)
    quantity = opening_quantity(
        order_size=limits.order_size,
        equity=equity,
        price=trigger.price,
        limit_price=limit,
        quantity_decimals=terms.quantity_decimals,
        notional_max=terms.notional_max,
    )
    promise = opening_promise(quantity, limit, terms.taker_fee, terms.quote_asset)
    intent = Intent(**common, side=Side.BUY, reducing=False, limit_price=limit, quantity=quantity)
    return Proposal(intent, promise, None)


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
        feed_age_ms=around.feed_age_ms,
        feed_words=around.feed_words,
        signal_age_ms=around.signal_age_ms,
        unproven_minutes=trigger.unproven_minutes,
        unproven_reason=trigger.unproven_reason,
        bid=trigger.bid,
        ask=trigger.ask,
        median=trigger.median,
        quantity_min=terms.quantity_min,
        notional_min=terms.notional_min,
        currency=standing.currency,
        equity=valued.equity,
        free_cash=free_cash(standing.cash, book.reserved(standing.currency)),
        needed_cash=proposal.promise.amount,
        exposure=total([valued.worth, book.promised()]),
        symbol_exposure=book.exposure(prices, symbol),
        unvalued=valued.unvalued,
        positions_symbol=book.entries_of(symbol),
        open_orders=len(book.reservations),
        open_orders_symbol=sum(row.symbol == symbol for row in book.reservations),
        open_exits=len(exits) if trigger.position_id else 0,
        orders_second=near.orders_second,
        orders_minute=near.orders_minute,
        orders_day=near.orders_day,
        exits_second=near.exits_second,
        twin_ms=near.twin_ms,
    )


@exact
def free_cash(cash: Decimal, reserved: Decimal) -> Decimal:
    """Cash that no open order has been promised."""
    return cash - reserved


def check_row(verdict: Verdict) -> dict[str, Any]:
    """One check as it is stored with the decision."""
    return {
        "code": verdict.reason.value,
        "value": None if verdict.value is None else plain(verdict.value),
        "limit": None if verdict.limit is None else plain(verdict.limit),
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
