"""The consumer's side of one connection: decode, check, hold until covered, and move to a successor without a seam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from apps.engine.events import Loss
from workers.ingest.builder import Builder
from workers.ingest.candidate import Candidate
from workers.ingest.channels import deals_channel, quotes_channel
from workers.ingest.clock import Clock
from workers.ingest.coverage import Coverage, Held
from workers.ingest.decoder import Deal, DealsFrame, FeedProtocolError, Frame, QuoteFrame, channels_for, decode
from workers.ingest.inbox import Handover
from workers.ingest.progress import GRACE_MS, Progress
from workers.ingest.rotation import Sieve
from workers.ingest.silence import LONG_GAP_SECONDS
from workers.ingest.symbols import SymbolState
from workers.ingest.tally import Tally
from workers.ingest.trades import TIME_MAX_MS, check_quote, check_trades
from workers.ingest.warmup import Warmup
from workers.ingest.watch import Watch

SEND_JUMP_MAX_MS: Final = 24 * 3600 * 1000
WATERMARKS_PER_SECOND_MAX: Final = 20
_SIEVE_KEPT_MS: Final = 60_000
_LEFT_MAX: Final = 10_000


class Feed:
    """Belongs to the consumer. `watermark_seconds` is the least pause between two watermarks, per shard; `ask_again` is
    called with a symbol whose channels are to be subscribed once more."""

    def __init__(
        self,
        name: str,
        states: Iterable[SymbolState],
        builder: Builder,
        warmup: Warmup,
        tally: Tally,
        clock: Clock,
        watermark_seconds: dict[int, float],
        ask_again: Callable[[str], object] = str,
    ) -> None:
        self.name = name
        self.states = {state.symbol: state for state in states}
        self.coverage = Coverage(builder, warmup, clock, watermark_seconds, self._release)
        self.watch = Watch(self._declare_silence, ask_again)
        self.progress = Progress()
        self._channels = channels_for(self.states)
        self._left: set[str] = set()  # channels that may still deliver for a moment
        self._builder = builder
        self._tally = tally
        self._clock = clock
        self._link = 0
        self._reached_ms = 0  # the newest round of all links so far
        self._candidate: Candidate | None = None
        self._now = clock.monotonic()
        self._begin(0)

    # --- what the connection reports --------------------------------------------------------------------------------

    def opened(self, link: int = 1, handover: Handover | None = None) -> None:
        """A link is open; with a handover it is to succeed the one that delivers."""
        if handover is None or self._link == 0:
            self._begin(link)
        else:
            self._candidate = Candidate(link, handover, dict(self._channels))

    def _begin(self, link: int) -> None:
        """Nothing is covered and nothing is known about the link's progress.

        It may be behind the link before: rows without id that are not later than those published then come again.
        """
        self._reached_ms = max(self._reached_ms, self.progress.newest_ms)
        self._link = link
        self._candidate = None
        self.progress = Progress()
        self.coverage.reset()
        self._loss: str | None = None  # why a frame was lost since the last round
        self._sieves_until_ms = self._reached_ms
        self._repeats_until_ms = self._reached_ms + GRACE_MS
        self._releasing = False
        now = self._clock.monotonic()
        for state in self.states.values():
            state.restart(now)
            state.sieve = Sieve(state.plain_ms + 1) if self._reached_ms else None

    def accepted(self, symbols: Iterable[str], reason: str, *, initial: bool, link: int = 1) -> None:
        """Their trades are delivered from here on; the next frame says since when."""
        candidate = self._candidate
        if candidate is not None and link == candidate.link:
            candidate.accept(symbols, {state.symbol for state in self.coverage.covered})
            return
        states = [self.states[symbol] for symbol in symbols if symbol in self.states]
        now = self._clock.monotonic()
        for state in states:
            state.seen_at = now
        self.coverage.accept(states, reason)
        if initial:
            names = {state.symbol for state in states}
            self.coverage.release([state for state in self.states.values() if state.symbol not in names])

    def refused(self, symbols: Iterable[str], reason: str, link: int = 1) -> None:
        """The exchange does not deliver their trades; nobody is to wait for them."""
        if self._candidate is not None and link == self._candidate.link:
            return
        self._end([self.states[symbol] for symbol in symbols if symbol in self.states], reason)

    def closed(self, link: int = 1) -> None:
        """A link delivers nothing any more. Coverage ends, unless a successor goes on where it stopped."""
        candidate = self._candidate
        if candidate is not None and link == candidate.link:
            self._candidate = None
        elif link == self._link:
            if candidate is not None:
                self._take_over(candidate)
                return
            self._discard(self.coverage.held_trades)
            self._begin(0)

    def join(self, states: Sequence[SymbolState]) -> None:
        """The connection is to deliver these too. What is known of them may come from a process before this one."""
        now = self._clock.monotonic()
        self._reached_ms = max([self._reached_ms, *(state.plain_ms for state in states)])
        for state in states:
            state.restart(now)
            self.states[state.symbol] = state
            self._left -= {deals_channel(state.symbol), quotes_channel(state.symbol)}
        self._channels.update(channels_for({state.symbol: state for state in states}))

    def leave(self, symbols: Iterable[str], reason: str = "not wanted") -> None:
        """These are not wanted any more."""
        gone = [self.states.pop(symbol) for symbol in symbols if symbol in self.states]
        for state in gone:
            for channel in (deals_channel(state.symbol), quotes_channel(state.symbol)):
                self._channels.pop(channel, None)
                if len(self._left) < _LEFT_MAX:
                    self._left.add(channel)
        self._end(gone, reason)

    def poll(self, now: float) -> None:
        """Whatever is due: beginnings of coverage, watermarks, a look at who is silent, the move to a successor."""
        self.coverage.poll(now, self.progress.claim_ms)
        if now >= self.watch.look_at:
            self.watch.look(now, self.coverage.followed, self.progress)
        if self._candidate is not None:
            self._try_move(self._candidate)
        if self._sieves_until_ms and self.progress.claim_ms > self._sieves_until_ms:
            self._drop_sieves()

    def _drop_sieves(self) -> None:
        """The link is past all that others have published; what it sent before must not be held any more."""
        if not any(state.holding for state in self.states.values()):
            self._sieves_until_ms = 0
            for state in self.states.values():
                state.sieve = None

    # --- frames -----------------------------------------------------------------------------------------------------

    def frames(self, payloads: Iterable[bytes], ts_init: int, link: int = 1) -> None:
        """Frames of one link, in order of arrival."""
        self._now = self._clock.monotonic()
        candidate = self._candidate
        if link == self._link:
            for payload in payloads:
                self.frame(payload, ts_init)
        elif candidate is not None and link == candidate.link:
            self._hold_candidates(candidate, payloads, ts_init)

    def frame(self, payload: bytes, ts_init: int) -> None:
        newest_ms = self.progress.newest_ms
        try:
            frame = decode(payload, self._channels, _send_max(newest_ms))
        except FeedProtocolError as error:
            self._refuse(error)
            return
        self._arrived(frame, ts_init)

    def _refuse(self, error: FeedProtocolError) -> None:
        if error.reason == "unknown_symbol" and error.facts.get("channel") in self._left:
            self._tally.count_drop("not_wanted")
            return
        self._tally.decode_errors += 1
        self._tally.drop(error.reason, connection=self.name, **error.facts)
        if error.may_hold_trades:  # of any symbol; the next round says until when
            self._loss = self._loss or error.reason

    def _arrived(self, frame: Frame, ts_init: int) -> None:
        """A frame of one of our channels: take it in or hold it, then see what its send time says."""
        state, send_ms = frame.state, frame.send_ms
        self._note(state, send_ms)
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
            self.coverage.hold(state, ts_init, frame)
        elif isinstance(frame, DealsFrame):
            self._take_trades(frame, ts_init)
        elif not (repeated and state.published_quote == state.frame_quote):
            self._take_quote(frame, ts_init)
        if send_ms and (repeated or not is_quote):
            self._round(state, send_ms, ts_init, repeated=repeated)

    def _note(self, state: SymbolState, send_ms: int) -> None:
        """A sign of life of the symbol, and perhaps where its coverage begins."""
        if send_ms:
            if self.coverage.settling:
                self.coverage.first_frame(send_ms)
            if state.silent_ms is not None:
                self.watch.heard_again(state, send_ms, self.progress)
            state.seen_ms = send_ms
        gap = self._now - state.seen_at
        if gap > LONG_GAP_SECONDS:
            state.habit.long_gap(gap)
        state.habit.frames += 1
        state.seen_at = self._now

    def _take_trades(self, frame: DealsFrame, ts_init: int) -> None:
        state, deals = frame.state, frame.deals
        plain = "" in [deal[2] for deal in deals]
        if plain:
            if frame.send_ms and not state.plain_frames.add(f"{hash((frame.send_ms, *deals))}"):
                self._tally.count_drop("duplicate", len(deals))  # the whole frame once more: no two are equal by chance
                return
            if state.sieve is not None:
                deals = self._sift(frame, state.sieve, ts_init)
        trades = check_trades(deals, state, frame.send_ms)
        if trades.duplicates:
            self._tally.count_drop("duplicate", trades.duplicates)
        for bad in trades.bad:
            self._tally.drop(bad.reason, symbol=state.symbol, connection=self.name)
        if trades.ts_event:
            self._builder.add_trades(state, trades, ts_init)
            if plain:
                state.plain_ms = max(state.plain_ms, *trades.ts_event)
            if self._candidate is not None:
                state.passed_ms = max(state.passed_ms, *trades.ts_event)
                self._candidate.note(state, deals)
        if self._releasing and (passed := [ms for ms in trades.ts_event if ms <= state.passed_ms]):
            # The former link went past these without delivering them: they are whole now, but out of order.
            self.coverage.lose([state], min(passed), max(passed), ts_init, "a former link left trades out")
        self._declare_bad_trades(state, [bad.time_ms for bad in trades.bad], frame.send_ms, ts_init)

    def _sift(self, frame: DealsFrame, sieve: Sieve, ts_init: int) -> list[Deal]:
        """Without what a former link has published. Rows up to its end that come only later cannot be told apart."""
        new, below = sieve.sift(frame.deals)
        self._tally.count_drop("duplicate", len(frame.deals) - len(new))
        if below and not self._releasing and frame.send_ms > self._repeats_until_ms:
            loss = Loss(self._builder.token, min(below), max(below), ts_init, [frame.state.symbol], "late without id")
            self._builder.add_event(frame.state.shard, loss)
        return new

    def _take_quote(self, frame: QuoteFrame, ts_init: int) -> None:
        state, texts = frame.state, frame.texts
        if texts == state.published_quote or not any(texts):
            return  # unchanged, or nobody has quoted yet
        if frame.send_ms <= state.quote_ms and state.sieve is not None:
            return  # the former link was further
        quote = check_quote(texts, state)
        if isinstance(quote, str):
            self._tally.drop(quote, symbol=state.symbol, connection=self.name)
        elif not frame.send_ms:
            self._tally.drop("quote_without_time", symbol=state.symbol, connection=self.name)
        else:
            state.published_quote, state.quote_ms = texts, frame.send_ms
            self._builder.add_quote(state, frame.send_ms, ts_init, quote)

    def _release(self, state: SymbolState, ts_init: int, item: Held) -> None:
        """What was held until the coverage began."""
        if isinstance(item, Loss):
            self._builder.add_event(state.shard, item)
        elif isinstance(item, DealsFrame):
            self._take_trades(item, ts_init)
        else:
            self._take_quote(item, ts_init)

    # --- the move to a successor ------------------------------------------------------------------------------------

    def _hold_candidates(self, candidate: Candidate, payloads: Iterable[bytes], ts_init: int) -> None:
        for payload in payloads:
            newest_ms = max(self.progress.newest_ms, candidate.progress.newest_ms)
            candidate.frame(payload, ts_init, _send_max(newest_ms))

    def _try_move(self, candidate: Candidate) -> None:
        if candidate.handover.failed or self.coverage.settling:
            return
        self._cut(candidate)
        claims = self.progress.claim_ms, candidate.progress.claim_ms
        if candidate.rotation.may_move(old_claim_ms=claims[0], new_claim_ms=claims[1]) and candidate.handover.finish():
            self._move(candidate)

    def _cut(self, candidate: Candidate) -> None:
        published_ms = max((state.plain_ms for state in self.states.values()), default=0)
        candidate.both_deliver(newest_ms=self.progress.newest_ms, published_ms=published_ms, symbols=self.states)

    def _take_over(self, candidate: Candidate) -> None:
        """The link that delivered is gone, and its successor is there: without a hole if their trades join."""
        self._cut(candidate)
        since_ms = candidate.since_ms
        plain_ms = max((state.plain_ms for state in self.states.values()), default=0)
        ids_only = candidate.ids_only and plain_ms < (since_ms or 0)
        joins = candidate.rotation.may_take_over(
            since_ms=since_ms, old_claim_ms=self.progress.claim_ms, ids_only=ids_only
        )
        if joins and not self.coverage.settling and candidate.handover.finish():
            self._move(candidate)
            return
        self._discard(self.coverage.held_trades)
        self._begin(candidate.link)
        if candidate.accepted is not None:
            self.accepted(sorted(candidate.accepted), "reconnect: the link before was lost", initial=True)
        for ts_init, frame in candidate.held:
            if frame.state.symbol in self.states:
                self._arrived(frame, ts_init)

    def _move(self, candidate: Candidate) -> None:
        """The symbols belong to the candidate's link from here on."""
        if self._loss is not None:
            self._declare_lost_frame(self.progress.newest_ms, self._clock.wall_ms())
        now, claimed_ms = self._clock.monotonic(), self.progress.claim_ms
        self._link, self._candidate, self.progress = candidate.link, None, candidate.progress
        for symbol, state in self.states.items():
            state.sieve, state.frame_quote = candidate.sieves.get(symbol), candidate.quotes.get(symbol)
            state.seen_at, state.passed_ms = now, max(claimed_ms, state.passed_ms - 1)
        self._releasing = True
        for ts_init, frame in candidate.held:
            state = frame.state
            if state.since_ms is None:
                continue
            if isinstance(frame, DealsFrame):
                self._tally.trades_received += len(frame.deals)
                self._take_trades(frame, ts_init)
            else:
                self._take_quote(frame, ts_init)
        self._releasing = False
        self._repeats_until_ms = 0
        self._sieves_until_ms = (candidate.rotation.cut_ms or 0) + _SIEVE_KEPT_MS
        late = [self.states[symbol] for symbol in sorted(candidate.accepted or ()) if symbol in self.states]
        self.coverage.accept([state for state in late if state.since_ms is None], "accepted late")

    # --- losses -----------------------------------------------------------------------------------------------------

    def _round(self, state: SymbolState, send_ms: int, ts_init: int, *, repeated: bool) -> None:
        if self._loss is not None:
            self._declare_lost_frame(send_ms, ts_init)
        if repeated:
            self.progress.repeated_quote(state.symbol, send_ms)
        else:
            self.progress.round_at(send_ms)
        self._tally.event_time_ms = max(self._tally.event_time_ms, self.progress.settled_ms)

    def _declare_lost_frame(self, send_ms: int, ts_init: int) -> None:
        affected = [state for state in self.states.values() if state.since_ms is not None]
        reason, self._loss = self._loss or "", None
        self.coverage.lose(affected, self.progress.settled_ms, self._latest(send_ms, affected), ts_init, reason)

    def _declare_silence(self, state: SymbolState, from_ms: int, to_ms: int, reason: str) -> None:
        self.coverage.lose([state], from_ms, to_ms, self._clock.wall_ms(), reason)

    def _declare_bad_trades(self, state: SymbolState, times: list[int], send_ms: int, ts_init: int) -> None:
        """The minutes of refused trades; where the time itself is wrong, everything since the last settled round."""
        if state.since_ms is None or not times:
            return
        known = [time_ms for time_ms in times if time_ms]
        if len(known) < len(times):
            known += [self.progress.settled_ms, self._latest(send_ms, [state])]
        self.coverage.lose([state], min(known), max(known), ts_init, "bad trade")

    def _latest(self, send_ms: int, states: list[SymbolState]) -> int:
        """The latest event time that what was just lost may have had."""
        return max(send_ms, self.progress.newest_ms, *(state.since_ms or 0 for state in states))

    def _end(self, states: Sequence[SymbolState], reason: str) -> None:
        self._discard(self.coverage.end(states, reason))

    def _discard(self, trades: int) -> None:
        """They came before their coverage began, and it will not begin."""
        if trades:
            self._tally.count_drop("not_covered", trades)


def _send_max(newest_ms: int) -> int:
    """The latest plausible send time after a round at `newest_ms`; 0 if no round is known."""
    return newest_ms + SEND_JUMP_MAX_MS if newest_ms else TIME_MAX_MS
