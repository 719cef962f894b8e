"""Trading on recorded trades: the compiled scan finds the signals, and at each of them the very functions decide that
decide live.

The tape passes by in slices of time. Of a slice only signals, maturing orders and exits cost more than the scan: they
are put in order of event time (at equal times fills, then exits, then entries) and done one after the other. Nothing
later than the moment that is being done is ever looked at.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np

from apps.engine.desk.account import Desk, DeskDecision, DeskEnd, DeskOrder, DeskPosition, ExitPlan, PaperSettings
from apps.engine.desk.book import MarkSet
from apps.engine.desk.deciding import Circumstances, Terms, Trigger, entry_key, price_acted_on
from apps.engine.desk.valuing import Valued, equity_at
from apps.engine.exit_kernel import DUE, NOT_FOUND, REASONS, price_in_force
from apps.engine.matching import TopOfBook
from apps.engine.memory import uncollected
from apps.engine.model import MINUTE_MS, Quote, Scale
from apps.engine.money import exact
from apps.engine.performance import RoundTrip
from apps.engine.portfolio import Fill
from apps.engine.results import Refusal, Result, SimulatedSignal
from apps.engine.risk.values import Limits, Sizing
from apps.engine.scanning import Found
from apps.engine.shard import StrategySpec
from apps.engine.sizing import ATR_MINUTES, average_true_range
from apps.engine.tape_judges import TapeJudges
from apps.engine.tapes import Tape, TapeError
from apps.engine.watching import Watches
from apps.engine.window import SymbolWindow

EXIT_SIGNAL: Final = "exit_signal"

TurnOf = Callable[[str, bool, int], tuple[int, int]]
"""(trigger key, whether its order ends, own event time) -> (event time at which it is done, its turn at that time)."""


class _Rank(IntEnum):
    """What comes first at equal event times."""

    MATURE = 0
    EXIT = 1
    ENTRY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything a backtest is a function of, but the tapes. `session` and `book` only name its orders.

    Raises ValueError (from the strategies) if a parameter is out of range. Ages stand for the feed's and the signals'
    ages, which recorded trades do not have.
    """

    capital: Decimal
    currency: str
    terms: Mapping[str, Terms]
    limits: Limits
    strategies: tuple[StrategySpec, ...]
    paper: PaperSettings
    session: int = 0
    book: str = "main"
    feed_age_ms: int = 0
    signal_age_ms: int = 0


class _Event(NamedTuple):
    """Compared as a tuple: `number` counts events, so that of equal ones the first found comes first."""

    when: int
    turn: int
    rank: int
    key: str
    ts: int
    number: int
    subject: Any


@dataclass(slots=True)
class _Exit:
    """An exit that has been found for a position, as it stood then: `attempts` tells whether it still stands."""

    position: DeskPosition
    attempts: int
    reason: str
    price: int
    confirmed: int
    trade_id: str


@dataclass(slots=True)
class _Entry:
    symbol: str
    number: int
    found: Found


def in_event_time(_key: str, _ends: bool, ts: int) -> tuple[int, int]:
    """Everything is done at its own event time."""
    return ts, 0


class Backtest:
    """Feed it slices in order of time, then ask for the result.

    `turn_of` may have something done later than at its own event time, but in no later slice. It is judged by its own
    time all the same: by the quotes and closes of then, with the account of when it is done.
    """

    def __init__(self, setup: Setup, turn_of: TurnOf = in_event_time) -> None:
        self.setup = setup
        self._turn_of = turn_of
        plans = {
            version_id: ExitPlan.of(parameters)
            for spec in setup.strategies
            for version_id, parameters in _versions(spec).items()
        }
        self.desk = Desk(
            capital=setup.capital, currency=setup.currency, limits=setup.limits, terms=setup.terms, plans=plans,
            paper=setup.paper, session=setup.session, book=setup.book,
        )  # fmt: skip
        self._windows = {symbol: SymbolWindow() for symbol in setup.terms}
        self._unproven: dict[str, dict[int, str]] = {symbol: {} for symbol in setup.terms}
        self._judges = TapeJudges(setup.strategies, list(setup.terms))
        self._scales = {symbol: Scale(row.price_decimals, row.quantity_decimals) for symbol, row in setup.terms.items()}
        self._events: list[_Event] = []
        self._numbers = count()
        self._exiting: set[int] = set()
        self._watches = Watches()
        self._calls: list[tuple[int, _Entry]] = []  # exit signals of this slice so far
        self._equity_minute: int | None = None
        self._end_ms = 0
        self.result = Result()

    # --- slices -------------------------------------------------------------------------------------------------------

    @uncollected
    @exact
    def feed(self, chunk: Mapping[str, Tape], *, end_ms: int) -> None:
        """The next slice: every trade before `end_ms` (event time, a whole minute) that was not in an earlier one.

        Raises `TapeError` for an unknown symbol, and for trades that lie outside the slice.
        """
        self._accept(chunk, end_ms)
        self._calls.clear()
        self._watches.carry((row, self._windows[row.symbol].tape) for row in self.desk.positions.values())
        for symbol, tape in chunk.items():
            self._windows[symbol].load(tape)
            self._unproven[symbol].update(tape.unproven)
            self.result.count(tape)
        for symbol, number, found in self._judges.scan(chunk):
            key = entry_key(found.version_id, symbol, found.ts, found.trade_id)
            self._add(found.ts, _Rank.ENTRY, key, _Entry(symbol, number, found))
        for symbol in self._windows.keys() - chunk.keys():
            self._windows[symbol].load(_nothing(symbol, self._scales[symbol]))
        first = min((int(tape.ts[0]) for tape in chunk.values() if len(tape)), default=None)
        if self._equity_minute is None and first is not None:
            self._equity_minute = first // MINUTE_MS
        for position in self.desk.positions.values():
            self._search(position, end_ms)
        while self._events and self._events[0].when < end_ms:
            self._do(heapq.heappop(self._events), end_ms)
        self._record_equity(end_ms)
        self._end_ms = end_ms

    def _accept(self, chunk: Mapping[str, Tape], end_ms: int) -> None:
        if end_ms % MINUTE_MS or end_ms <= self._end_ms:
            raise TapeError(f"a slice ends at {end_ms}: not a whole minute after {self._end_ms}")
        for symbol, tape in chunk.items():
            if symbol not in self.setup.terms:
                raise TapeError(f"{symbol} is on the tape, but nothing is known of it")
            if len(tape) and (int(tape.ts[0]) < self._end_ms or int(tape.ts[-1]) >= end_ms):
                raise TapeError(f"{symbol}: trades outside the slice that ends at {end_ms}")

    def finish(self) -> Result:
        """The result. Positions and orders that are still open are counted in it, not closed at an invented price."""
        result = self.result
        result.round_trips = list(self.desk.round_trips)
        result.open_positions = len(self.desk.positions)
        result.open_orders = len(self.desk.orders)
        result.cash = self.desk.cash
        result.failed = list(self._judges.failed)
        return result

    # --- events -------------------------------------------------------------------------------------------------------

    def _add(self, ts: int, rank: _Rank, key: str, subject: object) -> None:
        when, turn = self._turn_of(key, rank is _Rank.MATURE, ts)
        heapq.heappush(self._events, _Event(when, turn, rank, key, ts, next(self._numbers), subject))

    def _do(self, event: _Event, end_ms: int) -> None:
        self._record_equity(event.when)
        if isinstance(event.subject, _Entry):
            self._signal(event.ts, event.subject)
        elif isinstance(event.subject, _Exit):
            self._exit(event.ts, event.subject)
        else:
            self._mature(event.subject, end_ms)

    def _signal(self, ts: int, entry: _Entry) -> None:
        window, found = self._windows[entry.symbol], entry.found
        assert window.tape is not None
        if found.is_exit:
            self._calls.append((ts, entry))
            for position in self.desk.positions_of(entry.symbol):
                self._exit_signal(ts, entry, position)
            return
        signal = SimulatedSignal(
            key=entry_key(found.version_id, entry.symbol, ts, found.trade_id),
            version_id=found.version_id, symbol=entry.symbol, kind="entry", reason="", ts_event=ts,
            trade_id=found.trade_id, price=int(window.tape.price[found.row]), figures=found.figures,
            quote=window.quote_at(ts), median=window.median(found.row), confirmed=window.confirmed(found.row),
        )  # fmt: skip
        minute = ts // MINUTE_MS
        holes = self._unproven[entry.symbol]
        touched = [m for m in range(minute - found.window_minutes, minute + 1) if m in holes] if holes else []
        if touched:
            self.result.refusals.append(Refusal(signal, len(touched), holes[touched[0]]))
            return
        self._decide(signal, found.version_id, None)

    def _exit_signal(self, ts: int, entry: _Entry, position: DeskPosition) -> None:
        versions = _versions(self.setup.strategies[entry.number])
        fits = position.version_id in versions and position.plan.exit_on_signal and position.opened_ts < ts
        if fits and position.position_id not in self._exiting:
            window = self._windows[entry.symbol]
            assert window.tape is not None
            row = self._watches.call(position, window.tape, entry.found.row)
            if row is None:
                return
            trade_id = entry.found.trade_id if row == entry.found.row else str(window.tape.trade_id[row])
            self._found(position, window.tape, row, EXIT_SIGNAL, trade_id)

    def _exit(self, ts: int, found: _Exit) -> None:
        position = found.position
        stands = position.position_id in self.desk.positions and position.attempts == found.attempts
        if not stands or position.position_id in self._exiting:
            return
        position.exit_reason = found.reason
        window = self._windows[position.symbol]
        signal = SimulatedSignal(
            key=position.exit_key, version_id=position.version_id, symbol=position.symbol, kind="exit",
            reason=found.reason, ts_event=ts, trade_id=found.trade_id, price=found.price, figures=(),
            quote=window.quote_at(ts), median=None, confirmed=found.confirmed,
        )  # fmt: skip
        self._exiting.add(position.position_id)
        self._decide(signal, position.version_id, position)

    def _decide(self, signal: SimulatedSignal, version_id: int, position: DeskPosition | None) -> None:
        setup, scale = self.setup, self._scales[signal.symbol]
        top = _top(signal.quote, scale)
        confirmed = None if signal.confirmed is None else scale.price(signal.confirmed)
        trigger = Trigger(
            symbol=signal.symbol,
            ts_event=signal.ts_event,
            price=price_acted_on(scale.price(signal.price), confirmed, is_exit=position is not None),
            bid=None if top is None else top.bid,
            ask=None if top is None else top.ask,
            median=None if signal.median is None else signal.median.scaleb(-scale.price_decimals),
            unproven_minutes=0,
            unproven_reason="",
            is_exit=position is not None,
            position_id=None if position is None else position.position_id,
            confirmed=confirmed,
        )
        around = Circumstances(
            True, setup.feed_age_ms, "", setup.signal_age_ms, self._marks(trigger),
            volatility=self._volatility(signal) if setup.limits.sizing is Sizing.VOLATILITY else None,
        )  # fmt: skip
        decision = self.desk.decide(trigger_key=signal.key, version_id=version_id, trigger=trigger, around=around)
        self.result.signals.append(signal)
        self.result.decisions.append(decision)
        if decision.order is not None:
            self._add(decision.order.ts_mature, _Rank.MATURE, signal.key, decision.order)

    def _marks(self, trigger: Trigger) -> MarkSet:
        """Closes of the minute before the trigger's for what is held or promised; its own symbol at its own price."""
        minute = trigger.ts_event // MINUTE_MS - 1
        prices = {trigger.symbol: trigger.price}
        for symbol in self.desk.symbols - {trigger.symbol}:
            close = self._windows[symbol].price_before((minute + 1) * MINUTE_MS)
            if close is not None:
                prices[symbol] = self._scales[symbol].price(close)
        return MarkSet(minute, prices)

    def _volatility(self, signal: SimulatedSignal) -> Decimal | None:
        """The symbol's average true range over the closed minutes before the signal's."""
        rows = self._windows[signal.symbol].bars_before(signal.ts_event // MINUTE_MS, ATR_MINUTES + 1)
        price = self._scales[signal.symbol].price
        return average_true_range([(price(high), price(low), price(close)) for high, low, close in rows])

    def _mature(self, order: DeskOrder, end_ms: int) -> None:
        gap = self._unproven[order.symbol].get(order.ts_mature // MINUTE_MS, "")
        quote = self._windows[order.symbol].quote_at(order.ts_mature)
        end = self.desk.end(order, _top(quote, self._scales[order.symbol]), gap=gap)
        self.result.ends.append(end)
        if order.position_id is not None:
            self._exiting.discard(order.position_id)
            position = self.desk.positions.get(order.position_id)
        else:
            position = next(reversed(self.desk.positions.values()), None) if isinstance(end.outcome, Fill) else None
        if position is not None:
            self._search(position, end_ms)
        if position is not None and order.position_id is None:  # booked late, it has missed what was called meanwhile
            for ts, entry in self._calls:
                if entry.symbol == position.symbol:
                    self._exit_signal(ts, entry, position)

    # --- exits --------------------------------------------------------------------------------------------------------

    def _search(self, position: DeskPosition, end_ms: int) -> None:
        """Look for the position's exit in this slice."""
        if position.position_id in self._exiting:
            return
        window = self._windows[position.symbol]
        tape = window.tape
        assert tape is not None
        row, code, watch = self._watches.search(position, tape)
        if code == DUE or (code == NOT_FOUND and position.due_ts < end_ms):
            price = window.price_before(position.due_ts)
            assert price is not None
            acted = price_in_force(watch, price)
            found = _Exit(position, position.attempts, REASONS[DUE], price, acted, "")
            self._add(position.due_ts, _Rank.EXIT, position.exit_key, found)
        elif code != NOT_FOUND:
            self._found(position, tape, row, REASONS[code], str(tape.trade_id[row]))

    def _found(self, position: DeskPosition, tape: Tape, row: int, reason: str, trade_id: str) -> None:
        price = int(tape.price[row])
        found = _Exit(position, position.attempts, reason, price, price, trade_id)
        self._add(int(tape.ts[row]), _Rank.EXIT, position.exit_key, found)

    # --- equity -------------------------------------------------------------------------------------------------------

    def _record_equity(self, until_ms: int) -> None:
        """The account's worth at the close of every minute that ended at or before `until_ms`."""
        if self._equity_minute is None or (self._equity_minute + 1) * MINUTE_MS > until_ms:
            return
        minutes = range(self._equity_minute, until_ms // MINUTE_MS)
        self._equity_minute = until_ms // MINUTE_MS
        held, cash = self.desk.positions.values(), self.desk.cash
        if not held:
            self.result.equity += [(minute, cash) for minute in minutes]
            return
        ends = np.arange(minutes.start + 1, minutes.stop + 1, dtype=np.int64) * MINUTE_MS
        closes = {symbol: self._windows[symbol].prices_before(ends) for symbol in {row.symbol for row in held}}
        scales = self._scales
        valued = [Valued(row.holding.quantity, scales[row.symbol].price_decimals, closes[row.symbol]) for row in held]
        self.result.equity += zip(minutes, equity_at(cash, valued), strict=True)
        self.result.exposed_minutes += len(minutes)


def _versions(spec: StrategySpec) -> dict[int, Mapping[str, Any]]:
    """Every version that judges at some time, with its parameters."""
    return {spec.version_id: spec.parameters, **{stage.version_id: stage.parameters for stage in spec.schedule}}


def _top(quote: Quote | None, scale: Scale) -> TopOfBook | None:
    if quote is None:
        return None
    return TopOfBook(
        quote.ts_event, scale.price(quote.bid), scale.quantity(quote.bid_quantity), scale.price(quote.ask),
        scale.quantity(quote.ask_quantity),
    )  # fmt: skip


def _nothing(symbol: str, scale: Scale) -> Tape:
    """A slice without trades of this symbol."""
    none = np.empty(0, np.int64)
    return Tape(symbol, scale, none, none, none, np.empty(0, np.int8), [])


__all__ = ["Backtest", "DeskDecision", "DeskEnd", "Result", "RoundTrip", "Setup"]
