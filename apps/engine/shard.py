"""One shard's engine: entries of the stream in, bars, coverage and signals out. A pure function of the entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.engine.bars import KLINES, BarBuilder, EngineError
from apps.engine.events import (
    Backfill,
    CoverageEnd,
    CoverageStart,
    Event,
    Loss,
    QuoteBlock,
    TradeBlock,
    WarmupBar,
    Watermark,
)
from apps.engine.fence import Fence
from apps.engine.history import HISTORY_MINUTES
from apps.engine.judging import Columns, Found, Judges
from apps.engine.kernel import Array
from apps.engine.model import (
    MINUTE_MS,
    BackfilledMinute,
    BarChange,
    ClosedBar,
    CoverageChange,
    FailedStrategy,
    LateTrade,
    Quote,
    RaisedSignal,
    Scale,
    UnprovenMinute,
)
from apps.engine.plans import ALWAYS, Plan, Stage
from apps.engine.strategies import STRATEGIES
from apps.engine.strategies.base import StrategyModule
from apps.engine.tape import PriceTape, QuoteTape


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy version as the engine sees it, and the versions that follow it from known event minutes on."""

    version_id: int
    name: str
    parameters: Mapping[str, Any]
    schedule: tuple[Stage, ...] = ()

    @property
    def module(self) -> StrategyModule:
        return STRATEGIES[self.name]

    @property
    def plan(self) -> Plan:
        return self.make_plan()

    def make_plan(self) -> Plan:
        """The version and its schedule, packed. Raises ValueError if a parameter is out of range."""
        return Plan(self.module, (Stage(ALWAYS, self.version_id, self.parameters), *self.schedule))


@dataclass(slots=True)
class Effects:
    """What applying entries gave. Order within each list is the order of the stream.

    A bar's changes all come after its close, and coverage does not depend on bars: so each list may be stored for
    itself.
    """

    bars: list[ClosedBar] = field(default_factory=list)
    changes: list[BarChange] = field(default_factory=list)
    coverage: list[CoverageChange] = field(default_factory=list)
    signals: list[RaisedSignal] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failed: list[FailedStrategy] = field(default_factory=list)  # disabled from here on; nothing is lost with them
    announced: bool = False  # who is covered, or by whom, has changed

    def extend(self, other: Effects) -> None:
        """Append the effects of the next entry."""
        self.bars += other.bars
        self.changes += other.changes
        self.coverage += other.coverage
        self.signals += other.signals
        self.errors += other.errors
        self.failed += other.failed
        self.announced |= other.announced

    @property
    def move_state(self) -> bool:
        """Whether these effects must be stored together with the state that they led to.

        Announcements come once: were they only in memory, a restart after Redis was emptied would not know them.
        """
        return bool(self.announced or self.bars or self.changes or self.coverage or self.failed)

    @property
    def late(self) -> list[LateTrade]:
        return [change for change in self.changes if isinstance(change, LateTrade)]

    @property
    def unproven(self) -> list[UnprovenMinute]:
        return [change for change in self.coverage if isinstance(change, UnprovenMinute)]


@dataclass(slots=True)
class SymbolState:
    """Everything the shard remembers of one symbol."""

    scale: Scale
    builder: BarBuilder
    quotes: QuoteTape
    prices: PriceTape
    strategies: list[Array]
    evaluated: int = 0
    newest_trade: int = 0


class ShardEngine:
    """Applies entries to the symbols of one shard."""

    def __init__(self, scales: Mapping[str, Scale], strategies: list[StrategySpec]) -> None:
        self.specs = strategies
        self._judges = Judges([spec.version_id for spec in strategies], [spec.make_plan for spec in strategies])
        self._recalled = False
        self.fence = Fence()
        self.symbols: dict[str, SymbolState] = {}
        for symbol, scale in scales.items():
            self.follow(symbol, scale)

    def follow(self, symbol: str, scale: Scale) -> None:
        """A symbol of which nothing has been seen yet."""
        states = [spec.module.new_state() for spec in self.specs]
        for number, minute in self._judges.disabled.items():
            states[number]["failed"] = minute
        self.symbols[symbol] = SymbolState(scale, BarBuilder(symbol), QuoteTape(), PriceTape(), states)

    def reschedule(self, strategies: list[StrategySpec]) -> None:
        """The same strategies with a later schedule: what has been evaluated must not lie in a new stage."""
        assert [spec.version_id for spec in strategies] == [spec.version_id for spec in self.specs]
        self.specs = strategies
        self._judges.replan([spec.make_plan for spec in strategies])

    def apply(self, entry_id: str, events: list[Event]) -> Effects:
        """Apply one entry. An event that must not be applied is skipped and named in `Effects.errors`."""
        effects = Effects()
        self._recall_failed()
        for event in events:
            before = self.fence.token
            try:
                if not self.fence.admits(event):
                    raise EngineError(f"written by an ingest that {self.fence.token} has replaced")
                unknown = self.unknown(event)
                if unknown:
                    raise EngineError(f"{unknown[0]} is not followed by this shard")
                self._apply_event(entry_id, event, effects)
            except EngineError as error:
                effects.errors.append(str(error))
            effects.announced |= self.fence.token != before
        self._report_failed(effects)
        return effects

    def _recall_failed(self) -> None:
        """Before the first entry: a strategy that had failed when the states were stored stays disabled."""
        if self._recalled:
            return
        self._recalled = True
        for state in self.symbols.values():
            for number, own in enumerate(state.strategies):
                if own["failed"][0]:
                    self._judges.disabled[number] = max(self._judges.disabled.get(number, 0), int(own["failed"][0]))

    def _report_failed(self, effects: Effects) -> None:
        if not self._judges.failed:
            return
        effects.failed += self._judges.failed
        numbers = {self._judges.version_ids.index(gone.version_id) for gone in self._judges.failed}
        self._judges.failed.clear()
        for state in self.symbols.values():
            for number in numbers:
                state.strategies[number]["failed"] = self._judges.disabled[number]

    def unknown(self, event: Event) -> list[str]:
        """The symbols of an event that this shard does not follow."""
        return [symbol for symbol in _names(event) if symbol not in self.symbols]

    def _apply_event(self, entry_id: str, event: Event, effects: Effects) -> None:
        if isinstance(event, TradeBlock):
            self._trades(entry_id, event, effects)
        elif isinstance(event, QuoteBlock):
            self._quotes(event)
        elif isinstance(event, Watermark):
            self._watermark(event, effects)
        elif isinstance(event, WarmupBar):
            self._warm(event, effects)
        elif isinstance(event, Backfill):
            self._fill(event, effects)
        else:
            self._cover(event, effects)

    def _quotes(self, block: QuoteBlock) -> None:
        tape = self.symbols[block.symbol].quotes
        columns = (block.ts_event, block.bid, block.bid_quantity, block.ask, block.ask_quantity)
        for values in zip(*columns, strict=True):
            tape.add(Quote(*values))

    def _watermark(self, event: Watermark, effects: Effects) -> None:
        minute = event.ts_event // MINUTE_MS
        for symbol, ordinal in event.ordinals.items():
            state = self.symbols[symbol]
            try:
                bars, marks = state.builder.pass_watermark(event.token, event.ts_event, ordinal)
            except EngineError as error:  # one symbol's trouble must not hold the others up
                effects.errors.append(str(error))
                continue
            effects.bars += bars
            effects.coverage += marks
            self._judges.roll(symbol, state.strategies, minute)

    def _cover(self, event: CoverageStart | CoverageEnd | Loss, effects: Effects) -> None:
        effects.announced |= not isinstance(event, Loss)
        for symbol in event.symbols:
            builder = self.symbols[symbol].builder
            if isinstance(event, CoverageStart):
                self._start(symbol, event, effects)
            elif isinstance(event, CoverageEnd):
                builder.end_coverage()
            else:
                effects.coverage += builder.lose(event)

    def _start(self, symbol: str, event: CoverageStart, effects: Effects) -> None:
        state = self.symbols[symbol]
        if state.builder.outlived(event.since_ms):
            effects.coverage += state.builder.abandon(event)
            self.follow(symbol, state.scale)
            self.symbols[symbol].builder.processed = state.builder.processed
            self.symbols[symbol].evaluated = state.evaluated
        effects.coverage += self.symbols[symbol].builder.start_coverage(event)

    def _fill(self, event: Backfill, effects: Effects) -> None:
        """A repaired minute is in force from here on: what indicators know is made anew from the closed minutes."""
        state = self.symbols[event.symbol]
        changes, coverage = state.builder.fill(event)
        effects.changes += changes
        effects.coverage += coverage
        history = state.builder.history
        if not any(change.minute >= history.end - HISTORY_MINUTES for change in changes):
            return
        price_unit = 10.0**state.scale.price_decimals
        unit = 10.0 ** (state.scale.price_decimals + state.scale.quantity_decimals)
        minutes = [
            (minute, close / price_unit, turnover / unit) for minute, close, turnover in history.newest(HISTORY_MINUTES)
        ]
        before = list(state.strategies)
        self._judges.anew(event.symbol, state.strategies, history.end, minutes)
        if state.builder.bar is not None and state.builder.bar.count:
            for old, new in zip(before, state.strategies, strict=True):
                new["last_price"] = old["last_price"]

    def _warm(self, event: WarmupBar, effects: Effects) -> None:
        state = self.symbols[event.symbol]
        bars = state.builder.warm(event)
        effects.bars += bars
        if not bars:
            return
        effects.coverage.append(BackfilledMinute(event.symbol, event.minute, KLINES, 0))
        close = event.close / 10**state.scale.price_decimals
        turnover = event.turnover / 10 ** (state.scale.price_decimals + state.scale.quantity_decimals)
        self._judges.warm(event.symbol, state.strategies, event.minute, close, turnover)

    def _trades(self, entry_id: str, block: TradeBlock, effects: Effects) -> None:
        state = self.symbols[block.symbol]
        skip, bars, late, marks = state.builder.add(block)
        effects.bars += bars
        effects.changes += late
        effects.coverage += marks
        if skip >= len(block.ts_event):
            return
        values = (block.ts_event, block.price, block.quantity)
        columns = Columns(*(np.array(column[skip:], dtype=np.int64) for column in values))
        found, judged = self._judges.scan(block.symbol, state.strategies, state.scale, columns)
        state.evaluated += judged
        self._remember(entry_id, state, block, skip, found, effects)

    def _remember(
        self,
        entry_id: str,
        state: SymbolState,
        block: TradeBlock,
        skip: int,
        found: list[tuple[int, Found]],
        effects: Effects,
    ) -> None:
        """Extend the price tape, and describe each signal as of its own trade."""
        told = skip
        for number, event in found:
            index = event.row + skip
            state.prices.extend(block.ts_event[told : index + 1], block.price[told : index + 1])
            told = index + 1
            effects.signals.append(self._signal(entry_id, state, block, index, number, event))
        state.prices.extend(block.ts_event[told:], block.price[told:])
        state.newest_trade = max(state.newest_trade, block.ts_event[-1])
        state.quotes.forget_before(state.newest_trade)

    def _signal(
        self, entry_id: str, state: SymbolState, block: TradeBlock, index: int, number: int, found: Found
    ) -> RaisedSignal:
        ts = block.ts_event[index]
        minute = ts // MINUTE_MS
        judge = self._judges.at(number, minute)
        unproven, reason = state.builder.unproven_in(minute - judge.window_minutes, minute)
        return RaisedSignal(
            version_id=judge.version_id,
            symbol=block.symbol,
            ts_event=ts,
            trade_id=block.trade_id[index] or f"#{same_ms_before(block.ts_event, index)}",
            price=block.price[index],
            change=found.change,
            rsi=found.rsi,
            turnover=found.turnover,
            quote=state.quotes.at(ts),
            median_price=state.prices.median(ts),
            confirmed=state.prices.confirmed(),
            unproven_minutes=unproven,
            unproven_reason=reason,
            entry_id=entry_id,
            ts_init=block.ts_init,
            base_version_id=self.specs[number].version_id,
            kind=found.kind,
        )

    def warm_up(self, symbol: str) -> list[tuple[int, int, int]]:
        """(version, closed minutes known, closed minutes needed) per strategy that judges: "warming up, 9 of 15"."""
        states = self.symbols[symbol].strategies
        return [
            (spec.version_id, *spec.module.warm_up(own, spec.parameters))
            for number, (spec, own) in enumerate(zip(self.specs, states, strict=True))
            if not (number in self._judges.disabled and own["failed"][0])
        ]

    # --- what the shard as a whole has reached ----------------------------------------------------------------------

    @property
    def processed(self) -> int:
        return sum(state.builder.processed for state in self.symbols.values())

    @property
    def evaluated(self) -> int:
        return sum(state.evaluated for state in self.symbols.values())

    @property
    def watermark_ms(self) -> int | None:
        """Event time that every covered symbol has reached; None while no symbol is covered."""
        builders = [state.builder for state in self.symbols.values()]
        return min((b.reached for b in builders if b.covered and b.reached is not None), default=None)

    @property
    def closed_minute(self) -> int | None:
        """The last minute that every covered symbol of the shard has closed."""
        watermark = self.watermark_ms
        return None if watermark is None else watermark // MINUTE_MS - 1


def _names(event: Event) -> list[str]:
    if isinstance(event, TradeBlock | QuoteBlock | WarmupBar | Backfill):
        return [event.symbol]
    return list(event.ordinals) if isinstance(event, Watermark) else event.symbols


def same_ms_before(ts_event: Sequence[int] | Array, index: int) -> int:
    """Which trade of its millisecond this is, from 0: names a trade where the exchange sends no ids."""
    before = 0
    while index - before > 0 and ts_event[index - before - 1] == ts_event[index]:
        before += 1
    return before
