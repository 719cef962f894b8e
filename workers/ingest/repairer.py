"""The thread that repairs: asks REST for what the ledger lacks, and hands whole minutes to the stream."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import redis

from apps.bus.orders import FAILED, FILLED, Repair, RepairOutcome
from apps.engine.events import Backfill
from workers.ingest import log
from workers.ingest.clock import Clock
from workers.ingest.repair import (
    AGGREGATES,
    KLINES,
    TRADES,
    Batch,
    Pages,
    Result,
    cut,
    plan,
    reach_ms,
    rows_of,
    settle,
    windows,
)
from workers.ingest.rest import MINUTE_MS, Busy, Ended, Kline, Print, RestError, Scaled
from workers.ingest.tally import Tally

LAG_MS: Final = 2_000  # event time by which REST may be behind the stream
RECENT_MINUTES: Final = 5
TRADES_SYMBOLS_MAX: Final = 10
PAGES_MAX: Final = 200  # of one window
SAY_AGAIN_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 0.25
_ASK_TIME_SECONDS: Final = 5.0
_BUSY_SECONDS_MAX: Final = 5.0

Key = tuple[str, int]  # symbol, minute


class Asker(Protocol):
    """The part of `workers.ingest.rest.Rest` that repairs need."""

    def time_ms(self) -> int: ...

    def last_trades(self, instrument: Scaled) -> list[Print]: ...

    def aggregates(self, instrument: Scaled, start_ms: int, end_ms: int) -> list[Print]: ...

    def klines(self, instrument: Scaled, first_minute: int, last_minute: int) -> dict[int, Kline]: ...


@dataclass(slots=True)
class _Answered:
    outcome: RepairOutcome
    said_at: float | None = None  # when the outcome reached Redis


class Repairer(threading.Thread):
    """Works through the minutes of the last `wish`, newest first; each attempt at most once under this token.

    `instruments` tells the decimals of a symbol, `event_time_ms` how far the stream has come (0: not known),
    `may_work` whether what is found can be published, `has_room` whether more of it fits before the stream,
    `hand_over` takes it, `say` stores an outcome for the asker.
    """

    def __init__(
        self,
        token: int,
        rest: Asker,
        clock: Clock,
        tally: Tally,
        *,
        instruments: Callable[[str], Scaled | None],
        event_time_ms: Callable[[], int],
        may_work: Callable[[], bool],
        has_room: Callable[[], bool],
        hand_over: Callable[[Backfill], None],
        say: Callable[[RepairOutcome], None],
    ) -> None:
        super().__init__(name="repairer", daemon=True)
        self.counts: Counter[str] = Counter()  # minutes by outcome
        self.rows = 0
        self._token = token
        self._rest = rest
        self._clock = clock
        self._tally = tally
        self._instruments = instruments
        self._event_time_ms = event_time_ms
        self._may_work = may_work
        self._has_room = has_room
        self._hand_over = hand_over
        self._say = say
        self._wished: dict[Key, Repair] = {}
        self._answered: dict[Key, _Answered] = {}
        self._asked_time_at: float | None = None
        self._rest_time_ms = 0
        self._changed = threading.Event()
        self._stopping = threading.Event()

    def wish(self, repairs: Iterable[Repair]) -> None:
        """All minutes to be asked for now. Safe from another thread; what is not wished any more is forgotten."""
        self._wished = {(repair.symbol, repair.minute): repair for repair in repairs}
        self._changed.set()

    @property
    def waiting(self) -> int:
        return len(self._pending())

    def report(self) -> dict[str, int]:
        """For the feed state: minutes that wait, and what became of the others under this token."""
        failed = sum(count for status, count in self.counts.items() if status != FILLED)
        return {"waiting": self.waiting, "filled": self.counts[FILLED], "failed": failed, "rows": self.rows}

    def stop(self) -> None:
        """End soon; a wait for an answer is not cut short."""
        self._stopping.set()
        self._changed.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait(_IDLE_SECONDS)
            self._changed.clear()
            try:
                self.work()
            except Ended:
                return

    def work(self) -> None:
        """Work through the wish, each batch planned anew, as long as there is something to ask. Raises `Ended`."""
        wished = self._wished
        self._answered = {key: answer for key, answer in self._answered.items() if key in wished}
        self._say_again()
        while not self._stopping.is_set() and self._may_work():
            pending = [repair for repair in self._pending() if self._instruments(repair.symbol) is not None]
            batches = plan(pending, self._reached_ms(pending)) if pending else []
            if not batches:
                return
            few = len({repair.symbol for repair in pending}) <= TRADES_SYMBOLS_MAX
            try:
                self._repair(batches[0], use_trades=few)
            except Busy as busy:
                self._tally.log.warn("repair", "the exchange is busy", error=str(busy))
                self._stopping.wait(min(busy.seconds, _BUSY_SECONDS_MAX))
                return

    def _pending(self) -> list[Repair]:
        return [repair for key, repair in self._wished.items() if not self._is_answered(key, repair.attempt)]

    def _is_answered(self, key: Key, attempt: int) -> bool:
        answer = self._answered.get(key)
        return answer is not None and answer.outcome.attempt == attempt

    def _reached_ms(self, pending: list[Repair]) -> int:
        """Event time before which minutes may be asked for. Asks the exchange if the stream stands still."""
        reached = self._event_time_ms()
        newest_end = max(repair.minute + 1 for repair in pending) * MINUTE_MS
        if newest_end + LAG_MS <= max(reached, self._rest_time_ms):
            return max(reached, self._rest_time_ms) - LAG_MS
        now = self._clock.monotonic()
        if self._asked_time_at is None or now - self._asked_time_at >= _ASK_TIME_SECONDS:
            self._asked_time_at = now
            try:
                self._rest_time_ms = self._rest.time_ms()
            except RestError as error:
                self._tally.log.warn("repair", "no exchange time", error=str(error))
        return max(reached, self._rest_time_ms) - LAG_MS

    # --- one batch --------------------------------------------------------------------------------------------------

    def _repair(self, batch: Batch, *, use_trades: bool) -> None:
        """Ask, check, hand over, answer. Raises `Busy` with what is left unanswered, `Ended`."""
        instrument = self._instruments(batch.symbol)
        if instrument is None:
            return
        counts: Counter[str] = Counter()
        detail = ""
        for results in self._ask(batch, instrument, use_trades=use_trades):
            for result in sorted(results, key=lambda one: one.minute):
                self._conclude(batch, result)
                counts[result.status] += 1
                detail = detail or result.detail
        first, last = batch.minutes[0], batch.minutes[-1]
        log.event("repair", symbol=batch.symbol, first=first, last=last, minutes=counts, detail=detail)

    def _ask(self, batch: Batch, instrument: Scaled, *, use_trades: bool) -> Iterator[list[Result]]:
        """A result for every minute of the batch, some at a time, so that no day lies in memory. Raises `Busy`."""
        newest = batch.minutes[-1]
        try:
            klines = self._rest.klines(instrument, batch.minutes[0], newest)
        except Busy:
            raise
        except RestError as error:
            yield [Result(minute, FAILED, str(error)) for minute in batch.minutes]
            return
        known = {minute: kline for minute, kline in klines.items() if kline.volume or minute >= newest - RECENT_MINUTES}
        yield [
            settle(minute, KLINES, (), klines.get(minute), instrument)
            for minute in batch.minutes
            if minute not in known
        ]
        left = [minute for minute in batch.minutes if minute in known]
        if use_trades and left:
            told = self._from_trades(left, known, instrument)
            yield told
            done = {result.minute for result in told}
            left = [minute for minute in left if minute not in done]
        for window in windows(left):
            yield self._from_aggregates(window, known, instrument)

    def _from_trades(self, minutes: list[int], klines: Mapping[int, Kline], instrument: Scaled) -> list[Result]:
        """The minutes that the last trades reach back to, and that they tell whole."""
        try:
            trades = self._rest.last_trades(instrument)
        except Busy:
            raise
        except RestError as error:
            self._tally.log.warn("repair", "no trades", symbol=instrument.symbol, error=str(error))
            return []
        reach = reach_ms(trades)
        results = [
            settle(minute, TRADES, rows_of(trades, minute), klines[minute], instrument)
            for minute in minutes
            if minute * MINUTE_MS >= reach
        ]
        return [result for result in results if result.status == FILLED]

    def _from_aggregates(
        self, newest_first: list[int], klines: Mapping[int, Kline], instrument: Scaled
    ) -> list[Result]:
        pages = Pages(newest_first)
        problem = f"more than {PAGES_MAX} pages"
        try:
            for _ in range(PAGES_MAX):
                if (window := pages.next()) is None:
                    break
                pages.add(self._rest.aggregates(instrument, *window))
        except Busy:
            raise
        except RestError as error:
            problem = str(error)
        results = []
        for minute in newest_first:
            if pages.is_cut(minute):
                results.append(cut(minute, AGGREGATES))
            elif not pages.is_known(minute):
                results.append(Result(minute, FAILED, problem, AGGREGATES))
            else:
                results.append(settle(minute, AGGREGATES, pages.rows(minute), klines[minute], instrument))
        return results

    # --- answers ----------------------------------------------------------------------------------------------------

    def _conclude(self, batch: Batch, result: Result) -> None:
        """The event first, then the outcome: whoever reads `filled` may rely on the event being on its way."""
        if result.status == FILLED:
            while not self._has_room() and not self._stopping.is_set():
                self._stopping.wait(_IDLE_SECONDS)
            self._hand_over(self._event(batch.symbol, result))
            self.rows += len(result.rows)
        self.counts[result.status] += 1
        attempt = batch.attempts[result.minute]
        outcome = RepairOutcome(
            batch.symbol,
            result.minute,
            attempt,
            result.status,
            result.detail[:200],
            len(result.rows),
            result.source,
            self._clock.wall_ms(),
        )
        answer = self._answered[batch.symbol, result.minute] = _Answered(outcome)
        self._say_once(answer)

    def _event(self, symbol: str, result: Result) -> Backfill:
        rows = result.rows
        return Backfill(
            self._token,
            symbol,
            result.minute,
            self._clock.wall_ms(),
            result.source,
            [row.ts_event for row in rows],
            [row.price for row in rows],
            [row.quantity for row in rows],
            [row.side for row in rows],
        )

    def _say_again(self) -> None:
        """An outcome that is still wished for after a while did not reach the asker: Redis was away, or emptied."""
        now = self._clock.since_boot()
        for answer in self._answered.values():
            if answer.said_at is None or now - answer.said_at >= SAY_AGAIN_SECONDS:
                wished = self._wished.get((answer.outcome.symbol, answer.outcome.minute))
                if wished is not None and wished.attempt == answer.outcome.attempt:
                    self._say_once(answer)

    def _say_once(self, answer: _Answered) -> None:
        """Unless the right to write has passed to another meanwhile: then it is not ours to say."""
        if not self._may_work():
            return
        try:
            self._say(answer.outcome)
            answer.said_at = self._clock.since_boot()
        except redis.RedisError as error:
            self._tally.redis_errors["outcome"] += 1
            self._tally.log.warn("redis_error", type(error).__name__, operation="outcome", error=str(error))
