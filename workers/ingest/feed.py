"""The consumer's side of one connection: decode, check, hold until covered, and say how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError

from apps.engine.events import CoverageStart, Loss, Watermark
from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.ingest.builder import Builder
from workers.ingest.channels import deals_channel, quotes_channel
from workers.ingest.clock import Clock
from workers.ingest.progress import Progress
from workers.ingest.symbols import QuoteTexts, SymbolState
from workers.ingest.tally import Tally
from workers.ingest.trades import TIME_MAX_MS, check_quote, check_trades
from workers.ingest.warmup import Warmup, WarmupJob

DEALS: Final = "publicAggreDeals"
QUOTES: Final = "publicAggreBookTicker"
_KINDS: Final = {DEALS: "deals", QUOTES: "quotes"}
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
        self._channels: dict[str, tuple[str, SymbolState]] = {}
        for symbol, state in self._states.items():
            self._channels[deals_channel(symbol)] = (DEALS, state)
            self._channels[quotes_channel(symbol)] = (QUOTES, state)
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
        self._held: list[tuple[SymbolState, int, Any]] = []
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
        discarded = sum(len(item.publicAggreDeals.deals) for _, _, item in self._held if _is_deals(item))
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
        try:
            wrapper = PushDataV3ApiWrapper.FromString(payload)
        except DecodeError:
            self._lost_frame("malformed_frame", size=len(payload))
            return
        send_ms = wrapper.sendTime
        newest_ms = self._progress.newest_ms
        if not 0 <= send_ms <= (newest_ms + SEND_JUMP_MAX_MS if newest_ms else TIME_MAX_MS):
            self._lost_frame("bad_send_time", send_ms=send_ms)
            return
        known = self._channels.get(wrapper.channel)
        body = wrapper.WhichOneof("body")
        if known is None:
            reason = "unknown_symbol" if body in (DEALS, QUOTES) else "unknown_message"
            self._tally.drop(reason, connection=self.name, channel=wrapper.channel[:100])
            return
        kind, state = known
        if body != kind or (wrapper.HasField("symbol") and wrapper.symbol != state.symbol):
            reason = "unknown_message" if body != kind else "symbol_mismatch"
            if kind == DEALS:
                self._lost_frame(reason, channel=wrapper.channel)
            else:
                self._tally.drop(reason, connection=self.name, channel=wrapper.channel)
            return
        self._arrived(kind, state, wrapper, send_ms, ts_init)

    def _arrived(self, kind: str, state: SymbolState, wrapper: Any, send_ms: int, ts_init: int) -> None:
        """A frame of one of our channels: take it in or hold it, then see what its send time says."""
        if self._segments and send_ms:
            self._first_frame(send_ms)
        repeated = False
        if kind == QUOTES:
            self._tally.quotes_received += 1
            quote = _texts(wrapper.publicAggreBookTicker)
            repeated = quote == state.frame_quote
            state.frame_quote = quote
        else:
            deals = len(wrapper.publicAggreDeals.deals)
            self._tally.trades_received += deals
            if deals:
                self._tally.last_trade_ms = ts_init
        self._tally.frames[_KINDS[kind]] += 1
        if state.holding:
            self._held.append((state, ts_init, wrapper))
        elif kind == DEALS:
            self._take_trades(state, wrapper, ts_init)
        elif not (repeated and state.published_quote == state.frame_quote):
            self._take_quote(state, wrapper, ts_init)
        if send_ms and (kind == DEALS or repeated):
            self._round(state, send_ms, ts_init, repeated=repeated)

    def _take_trades(self, state: SymbolState, wrapper: Any, ts_init: int) -> None:
        trades = check_trades(wrapper.publicAggreDeals.deals, state, wrapper.sendTime)
        if trades.duplicates:
            self._tally.count_drop("duplicate", trades.duplicates)
        for bad in trades.bad:
            self._tally.drop(bad.reason, symbol=state.symbol, connection=self.name)
        if trades.ts_event:
            self._builder.add_trades(state, trades, ts_init)
        if trades.bad:
            self._declare_bad_trades(state, [bad.time_ms for bad in trades.bad], wrapper.sendTime, ts_init)

    def _take_quote(self, state: SymbolState, wrapper: Any, ts_init: int) -> None:
        texts = _texts(wrapper.publicAggreBookTicker)
        if texts == state.published_quote or not any(texts):
            return  # unchanged, or nobody has quoted yet
        quote = check_quote(texts, state)
        if isinstance(quote, str):
            self._tally.drop(quote, symbol=state.symbol, connection=self.name)
        elif not wrapper.sendTime:
            self._tally.drop("quote_without_time", symbol=state.symbol, connection=self.name)
        else:
            state.published_quote = texts
            self._builder.add_quote(state, wrapper.sendTime, ts_init, quote)

    # --- losses -----------------------------------------------------------------------------------------------------

    def _lost_frame(self, reason: str, **facts: object) -> None:
        """A frame that may have held trades of any symbol; the next round says until when."""
        self._tally.drop(reason, connection=self.name, **facts)
        self._loss = self._loss or reason

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
            elif _is_deals(item):
                self._take_trades(state, item, ts_init)
            else:
                self._take_quote(state, item, ts_init)

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


def _texts(quote: Any) -> QuoteTexts:
    return quote.bidPrice, quote.bidQuantity, quote.askPrice, quote.askQuantity


def _is_deals(item: Any) -> bool:
    return not isinstance(item, Loss) and item.WhichOneof("body") == DEALS
