"""Since when the trades of a connection's symbols are complete, how far they have come, and when that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from apps.engine.events import CoverageEnd, CoverageStart, Loss, Watermark
from workers.ingest.builder import Builder
from workers.ingest.clock import Clock
from workers.ingest.decoder import DealsFrame, Frame
from workers.ingest.rotation import SECOND_MS
from workers.ingest.symbols import SymbolState
from workers.ingest.warmup import Warmup, WarmupJob

HELD_FRAMES_MAX: Final = 6_000

Held = Frame | Loss
Release = Callable[[SymbolState, int, Held], None]


class _Segment:
    """Symbols whose coverage begins together: waiting for the first frame, then perhaps for their warm-up bars."""

    def __init__(self, states: list[SymbolState], reason: str) -> None:
        self.states = states
        self.reason = reason
        self.job: WarmupJob | None = None
        self.since_ms: int | None = None


class Coverage:
    """Belongs to a feed. `watermark_seconds` is the least pause between two watermarks, per shard; it may change.

    What is held until coverage begins is given to `release`, in order.
    """

    def __init__(
        self, builder: Builder, warmup: Warmup, clock: Clock, watermark_seconds: dict[int, float], release: Release
    ) -> None:
        self.watermark_seconds = watermark_seconds
        self._builder = builder
        self._warmup = warmup
        self._clock = clock
        self._release = release
        self.reset()

    def reset(self) -> None:
        """A new link: nothing is covered."""
        self._segments: list[_Segment] = []
        self._held: list[tuple[SymbolState, int, Held]] = []
        self._covered: dict[int, list[SymbolState]] = {}
        self._marked_ms: dict[int, int] = {}
        self._mark_at: dict[int, float] = {}
        self._looked_second = -1

    @property
    def settling(self) -> bool:
        """Some accepted symbols are not covered yet."""
        return bool(self._segments)

    @property
    def covered(self) -> list[SymbolState]:
        return [state for states in self._covered.values() for state in states]

    @property
    def followed(self) -> list[SymbolState]:
        """Those that are covered, and those that are accepted and will be with their first frame."""
        return [*self.covered, *(state for segment in self._segments for state in segment.states)]

    @property
    def held_trades(self) -> int:
        return sum(len(item.deals) for _, _, item in self._held if isinstance(item, DealsFrame))

    def accept(self, states: Sequence[SymbolState], reason: str) -> None:
        """Their trades are delivered from here on; the next frame says since when."""
        pending = {id(state) for segment in self._segments for state in segment.states}
        fresh = [state for state in states if state.since_ms is None and id(state) not in pending]
        for state in fresh:
            state.holding = True
        if fresh:
            self._segments.append(_Segment(fresh, reason))

    def first_frame(self, send_ms: int) -> None:
        """A frame sent at this time has come: coverage of what was accepted before begins there."""
        for segment in self._segments:
            if segment.since_ms is not None:
                continue
            segment.since_ms = send_ms
            for state in segment.states:
                state.since_ms = send_ms
            cold = [state for state in segment.states if not state.warmed]
            segment.job = self._warmup.start(cold, send_ms) if cold else None
            if segment.job is None:
                self._begin(segment)

    def hold(self, state: SymbolState, ts_init: int, item: Held) -> None:
        self._held.append((state, ts_init, item))

    def release(self, states: Iterable[SymbolState]) -> None:
        """These wait no longer."""
        for state in states:
            state.holding = False
        held, self._held = self._held, []
        for state, ts_init, item in held:
            if state.holding:
                self._held.append((state, ts_init, item))
            else:
                self._release(state, ts_init, item)

    def end(self, states: Sequence[SymbolState], reason: str) -> int:
        """They are not delivered any more, and will not be soon. Returns how many held trades that concerned."""
        gone = {id(state) for state in states}
        for segment in self._segments:
            segment.states = [state for state in segment.states if id(state) not in gone]
        self._segments = [segment for segment in self._segments if segment.states]
        self._covered = {
            shard: [state for state in covered if id(state) not in gone] for shard, covered in self._covered.items()
        }
        dropped = [item for state, _, item in self._held if id(state) in gone]
        self._held = [held for held in self._held if id(held[0]) not in gone]
        shards: dict[int, list[str]] = {}
        for state in states:
            state.since_ms = None
            if not state.ended:
                state.ended = True
                shards.setdefault(state.shard, []).append(state.symbol)
        ts_init = self._clock.wall_ms()
        for shard, symbols in shards.items():
            self._builder.add_event(shard, CoverageEnd(self._builder.token, ts_init, symbols, reason))
        return sum(len(item.deals) for item in dropped if isinstance(item, DealsFrame))

    def lose(self, states: Sequence[SymbolState], from_ms: int, to_ms: int, ts_init: int, reason: str) -> None:
        """Trades of these between the two event times may be missing; as far as they are covered, that is said."""
        shards: dict[tuple[int, int], list[str]] = {}
        for state in states:
            begin_ms = max(from_ms, state.since_ms or 0)
            if begin_ms > to_ms:
                continue
            if state.holding:
                loss = Loss(self._builder.token, begin_ms, to_ms, ts_init, [state.symbol], reason)
                self.hold(state, ts_init, loss)
            else:
                shards.setdefault((state.shard, begin_ms), []).append(state.symbol)
        for (shard, begin_ms), symbols in shards.items():
            self._builder.add_event(shard, Loss(self._builder.token, begin_ms, to_ms, ts_init, symbols, reason))

    def poll(self, now: float, claim_ms: int) -> None:
        """Begin where the warm-up is over; write the watermarks that are due."""
        if self._segments:
            for segment in [segment for segment in self._segments if segment.since_ms is not None]:
                if segment.job is None or segment.job.finished(now) or len(self._held) >= HELD_FRAMES_MAX:
                    self._begin(segment)
        if claim_ms // SECOND_MS > self._looked_second:
            self._write_watermarks(now, claim_ms)

    def _begin(self, segment: _Segment) -> None:
        """Warm-up bars, then the start of coverage, then what was held, each shard in this order."""
        self._segments = [other for other in self._segments if other is not segment]
        ts_init = self._clock.wall_ms()
        known = {state.symbol: state for state in segment.states}
        for bar in segment.job.bars() if segment.job else ():
            if bar.symbol in known:
                self._builder.add_event(known[bar.symbol].shard, bar)
        shards: dict[int, list[SymbolState]] = {}
        for state in segment.states:
            state.warmed, state.ended = True, False
            shards.setdefault(state.shard, []).append(state)
        since_ms = segment.since_ms or 0
        for shard, states in shards.items():
            symbols = [state.symbol for state in states]
            self._builder.add_event(
                shard, CoverageStart(self._builder.token, since_ms, ts_init, symbols, segment.reason)
            )
            self._covered.setdefault(shard, []).extend(states)
            self._marked_ms.setdefault(shard, since_ms)
        self._looked_second = -1
        self.release(segment.states)

    def _write_watermarks(self, now: float, claim_ms: int) -> None:
        second, waiting = claim_ms // SECOND_MS, False
        for shard, states in self._covered.items():
            if second <= self._marked_ms[shard] // SECOND_MS:
                continue
            if now < self._mark_at.get(shard, 0.0):
                waiting = True
                continue
            ordinals = {state.symbol: state.ordinal for state in states if (state.since_ms or 0) <= claim_ms}
            if ordinals:
                self._marked_ms[shard] = claim_ms
                self._mark_at[shard] = now + self.watermark_seconds.get(shard, 0.0)
                mark = Watermark(self._builder.token, claim_ms, self._clock.wall_ms(), ordinals)
                self._builder.add_event(shard, mark)
        if not waiting:
            self._looked_second = second
