"""The consumer's side of one connection: decode, check, hold until covered, and say how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from apps.engine.events import CoverageStart, Loss, Watermark
from workers.ingest.builder import Builder
from workers.ingest.clock import Clock
from workers.ingest.decoder import DealsFrame, FeedProtocolError, Frame, QuoteFrame, channels_for, decode
from workers.ingest.progress import Progress
from workers.ingest.symbols import SymbolState
from workers.ingest.tally import Tally
from workers.ingest.trades import TIME_MAX_MS, check_quote, check_trades
from workers.ingest.warmup import Warmup, WarmupJob

SEND_JUMP_MAX_MS: Final = 24 * 3600 * 1000
HELD_FRAMES_MAX: Final = 6_000
WATERMARKS_PER_SECOND_MAX: Final = 20


class _Segment:
    """Symbols whose coverage begins together: waiting for the first frame, then perhaps for their warm-up bars."""

    def __init__(self, states: list[SymbolState], reason: str) -> None:
        self.states = states
        self.reason = reason
        self.job: WarmupJob | None = None
        self.since_ms: int | None = None


class Feed:
    """Belongs to the consumer. `watermark_seconds` is the least pause between two watermarks, per shard."""

    def __init__(
        self,
        name: str,
        states: Iterable[SymbolState],
        builder: Builder,
        warmup: Warmup,
        tally: Tally,
        clock: Clock,
        watermark_seconds: dict[int, float],
    ) -> None:
        self.name = name
        self._states = {state.symbol: state for state in states}
        self._channels = channels_for(self._states)
        self._builder = builder
        self._warmup = warmup
        self._tally = tally
        self._clock = clock
        self._watermark_seconds = watermark_seconds
        self.opened()

    # --- what the connection reports --------------------------------------------------------------------------------

    def opened(self) -> None:
        """A new connection: nothing is covered and nothing is known about its progress."""
        self._progress = Progress()
        self._segments: list[_Segment] = []
        self._held: list[tuple[SymbolState, int, Frame | Loss]] = []
        self._covered: dict[int, list[SymbolState]] = {}
        self._marked_ms: dict[int, int] = {}
        self._mark_at: dict[int, float] = {}
        self._loss: str | None = None  # why a frame was lost since the last round
        for state in self._states.values():
            state.restart()

    def accepted(self, symbols: Iterable[str], reason: str, *, initial: bool) -> None:
        """Their trades are delivered from here on; the next frame says since when."""
        states = [self._states[symbol] for symbol in symbols]
        for state in states:
            state.holding = True
        if states:
            self._segments.append(_Segment(states, reason))
        if initial:
            names = {state.symbol for state in states}
            self._release_frames([state for state in self._states.values() if state.symbol not in names])

    def closed(self) -> None:
        """Coverage ends. What was held was not covered yet."""
        discarded = sum(len(item.deals) for _, _, item in self._held if isinstance(item, DealsFrame))
        if discarded:
            self._tally.count_drop("not_covered", discarded)
        self.opened()

    def poll(self, now: float) -> None:
        """Begin coverage where the warm-up is over; write the watermarks that are due."""
        for segment in [segment for segment in self._segments if segment.since_ms is not None]:
            if segment.job is None or segment.job.finished(now) or len(self._held) >= HELD_FRAMES_MAX:
                self._begin_coverage(segment)
        self._write_watermarks(now)

    # --- frames -----------------------------------------------------------------------------------------------------

    def frame(self, payload: bytes, ts_init: int) -> None:
        newest_ms = self._progress.newest_ms
        try:
            frame = decode(payload, self._channels, newest_ms + SEND_JUMP_MAX_MS if newest_ms else TIME_MAX_MS)
        except FeedProtocolError as error:
            self._tally.drop(error.reason, connection=self.name, **error.facts)
            if error.may_hold_trades:  # of any symbol; the next round says until when
                self._loss = self._loss or error.reason
            return
        self._arrived(frame, ts_init)

    def _arrived(self, frame: Frame, ts_init: int) -> None:
        """A frame of one of our channels: take it in or hold it, then see what its send time says."""
        state, send_ms = frame.state, frame.send_ms
        if self._segments and send_ms:
            self._first_frame(send_ms)
        is_quote = isinstance(frame, QuoteFrame)
        repeated = False
        if isinstance(frame, QuoteFrame):
            self._tally.quotes_received += 1
            repeated = frame.texts == state.frame_quote
            state.frame_quote = frame.texts
        else:
            self._tally.trades_received += len(frame.deals)
            if frame.deals:
                self._tally.last_trade_ms = ts_init
        self._tally.frames["quotes" if is_quote else "deals"] += 1
        if state.holding:
            self._held.append((state, ts_init, frame))
        elif isinstance(frame, DealsFrame):
            self._take_trades(frame, ts_init)
        elif not (repeated and state.published_quote == state.frame_quote):
            self._take_quote(frame, ts_init)
        if send_ms and (repeated or not is_quote):
            self._round(state, send_ms, ts_init, repeated=repeated)

    def _take_trades(self, frame: DealsFrame, ts_init: int) -> None:
        state = frame.state
        trades = check_trades(frame.deals, state, frame.send_ms)
        if trades.duplicates:
            self._tally.count_drop("duplicate", trades.duplicates)
        for bad in trades.bad:
            self._tally.drop(bad.reason, symbol=state.symbol, connection=self.name)
        if trades.ts_event:
            self._builder.add_trades(state, trades, ts_init)
        if trades.bad:
            self._declare_bad_trades(state, [bad.time_ms for bad in trades.bad], frame.send_ms, ts_init)

    def _take_quote(self, frame: QuoteFrame, ts_init: int) -> None:
        state, texts = frame.state, frame.texts
        if texts == state.published_quote or not any(texts):
            return  # unchanged, or nobody has quoted yet
        quote = check_quote(texts, state)
        if isinstance(quote, str):
            self._tally.drop(quote, symbol=state.symbol, connection=self.name)
        elif not frame.send_ms:
            self._tally.drop("quote_without_time", symbol=state.symbol, connection=self.name)
        else:
            state.published_quote = texts
            self._builder.add_quote(state, frame.send_ms, ts_init, quote)

    # --- losses -----------------------------------------------------------------------------------------------------

    def _round(self, state: SymbolState, send_ms: int, ts_init: int, *, repeated: bool) -> None:
        if self._loss is not None:
            affected = [other for other in self._states.values() if other.since_ms is not None]
            self._declare(affected, self._progress.settled_ms, self._latest(send_ms, affected), ts_init, self._loss)
            self._loss = None
        if repeated:
            self._progress.repeated_quote(state.symbol, send_ms)
        else:
            self._progress.round_at(send_ms)
        self._tally.event_time_ms = max(self._tally.event_time_ms, self._progress.settled_ms)

    def _declare_bad_trades(self, state: SymbolState, times: list[int], send_ms: int, ts_init: int) -> None:
        """The minutes of refused trades; where the time itself is wrong, everything since the last settled round."""
        if state.since_ms is None:
            return
        known = [time_ms for time_ms in times if time_ms]
        if len(known) < len(times):
            known += [self._progress.settled_ms, self._latest(send_ms, [state])]
        self._declare([state], min(known), max(known), ts_init, "bad trade")

    def _latest(self, send_ms: int, states: list[SymbolState]) -> int:
        """The latest event time that what was just lost may have had."""
        return max(send_ms, self._progress.newest_ms, *(state.since_ms or 0 for state in states))

    def _declare(self, states: list[SymbolState], from_ms: int, to_ms: int, ts_init: int, reason: str) -> None:
        shards: dict[tuple[int, int], list[str]] = {}
        for state in states:
            begin_ms = max(from_ms, state.since_ms or 0)
            if begin_ms > to_ms:
                continue
            if state.holding:
                loss = Loss(self._builder.token, begin_ms, to_ms, ts_init, [state.symbol], reason)
                self._held.append((state, ts_init, loss))
            else:
                shards.setdefault((state.shard, begin_ms), []).append(state.symbol)
        for (shard, begin_ms), symbols in shards.items():
            self._builder.add_event(shard, Loss(self._builder.token, begin_ms, to_ms, ts_init, symbols, reason))

    # --- coverage ---------------------------------------------------------------------------------------------------

    def _first_frame(self, send_ms: int) -> None:
        for segment in self._segments:
            if segment.since_ms is not None:
                continue
            segment.since_ms = send_ms
            for state in segment.states:
                state.since_ms = send_ms
            cold = [state for state in segment.states if not state.warmed]
            segment.job = self._warmup.start(cold, send_ms) if cold else None
            if segment.job is None:
                self._begin_coverage(segment)

    def _begin_coverage(self, segment: _Segment) -> None:
        """Warm-up bars, then the start of coverage, then what was held, each shard in this order."""
        self._segments = [other for other in self._segments if other is not segment]
        ts_init = self._clock.wall_ms()
        for bar in segment.job.bars() if segment.job else ():
            self._builder.add_event(self._states[bar.symbol].shard, bar)
        shards: dict[int, list[SymbolState]] = {}
        for state in segment.states:
            state.warmed = True
            shards.setdefault(state.shard, []).append(state)
        for shard, states in shards.items():
            symbols = [state.symbol for state in states]
            start = CoverageStart(self._builder.token, segment.since_ms or 0, ts_init, symbols, segment.reason)
            self._builder.add_event(shard, start)
            self._covered.setdefault(shard, []).extend(states)
            self._marked_ms.setdefault(shard, segment.since_ms or 0)
        self._release_frames(segment.states)

    def _release_frames(self, states: list[SymbolState]) -> None:
        for state in states:
            state.holding = False
        held, self._held = self._held, []
        for state, ts_init, item in held:
            if state.holding:
                self._held.append((state, ts_init, item))
            elif isinstance(item, Loss):
                self._builder.add_event(state.shard, item)
            elif isinstance(item, DealsFrame):
                self._take_trades(item, ts_init)
            else:
                self._take_quote(item, ts_init)

    def _write_watermarks(self, now: float) -> None:
        claim_ms = self._progress.claim_ms
        for shard, states in self._covered.items():
            if claim_ms // 1000 <= self._marked_ms[shard] // 1000 or now < self._mark_at.get(shard, 0.0):
                continue
            ordinals = {state.symbol: state.ordinal for state in states if (state.since_ms or 0) <= claim_ms}
            if ordinals:
                self._marked_ms[shard] = claim_ms
                self._mark_at[shard] = now + self._watermark_seconds[shard]
                mark = Watermark(self._builder.token, claim_ms, self._clock.wall_ms(), ordinals)
                self._builder.add_event(shard, mark)
