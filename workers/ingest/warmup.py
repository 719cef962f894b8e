"""Closed minutes from the exchange's klines, fetched beside the stream so that no socket waits for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from apps.engine.events import WarmupBar
from workers.ingest import log
from workers.ingest.clock import Clock
from workers.ingest.rest import MINUTE_MS, Busy, Ended, Kline, Rest, RestError
from workers.ingest.symbols import SymbolState
from workers.ingest.tally import Tally

DEADLINE_SECONDS: Final = 15
_THREADS: Final = 4
_BUSY_SECONDS_MAX: Final = 5.0


class WarmupJob:
    """The bars of some symbols, as far as they have come. Filled by threads, read by the consumer.

    It may take long until hundreds of symbols had their turn: it is over `DEADLINE_SECONDS` after the last kline that
    came for anybody (`alive_at`), so only an exchange that does not answer leaves symbols without history.
    """

    def __init__(self, symbols: int, now: float, alive_at: Callable[[], float]) -> None:
        self._missing = symbols
        self._began = now
        self._alive_at = alive_at
        self._bars: dict[str, list[WarmupBar]] = {}
        self._lock = threading.Lock()

    def finished(self, now: float) -> bool:
        return self._missing <= 0 or self.expired(now)

    def expired(self, now: float) -> bool:
        return now >= max(self._began, self._alive_at()) + DEADLINE_SECONDS

    def deliver(self, symbol: str, bars: list[WarmupBar]) -> None:
        with self._lock:
            self._bars[symbol] = bars
            self._missing -= 1

    def bars(self) -> list[WarmupBar]:
        """Symbol by symbol, oldest first."""
        with self._lock:
            return [bar for bars in self._bars.values() for bar in bars]


class Warmup:
    """Fetches with a few threads of its own, started when there is something to do. The budget paces them."""

    def __init__(self, rest: Rest, bars: int, tally: Tally, clock: Clock) -> None:
        self._rest = rest
        self._bars = bars
        self._tally = tally
        self._clock = clock
        self._orders: queue.SimpleQueue[tuple[WarmupJob, SymbolState, int]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._alive_at = 0.0  # when klines came last, in the clock's seconds

    def start(self, states: Sequence[SymbolState], since_ms: int) -> WarmupJob | None:
        """Fetch the minutes before the one of `since_ms`; None if no bars are wanted."""
        if self._bars == 0:
            return None
        job = WarmupJob(len(states), self._clock.monotonic(), lambda: self._alive_at)
        for state in states:
            self._orders.put((job, state, since_ms // MINUTE_MS))
        while len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._work, name=f"warmup-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return job

    def _work(self) -> None:
        while True:
            job, state, before_minute = self._orders.get()
            bars: list[WarmupBar] = []
            try:
                if job.expired(self._clock.monotonic()):
                    raise RestError("the exchange does not answer")
                klines = self._rest.last_klines(state, self._bars + 1)
                self._alive_at = self._clock.monotonic()
                bars = bars_before(klines, state.symbol, before_minute, self._bars, self._clock.wall_ms())
            except Busy as busy:
                self._orders.put((job, state, before_minute))
                if self._rest.pause(min(busy.seconds, _BUSY_SECONDS_MAX)):
                    return
                continue
            except RestError as error:
                self._tally.warmup_failed(state.symbol, str(error))
            except Ended:
                return
            job.deliver(state.symbol, bars)
            log.event("warmup", symbol=state.symbol, bars=len(bars))


def bars_before(
    klines: Iterable[Kline], symbol: str, before_minute: int, bars_max: int, ts_init: int
) -> list[WarmupBar]:
    """The newest `bars_max` closed minutes before `before_minute`, oldest first."""
    closed = {kline.minute: kline for kline in klines if kline.minute < before_minute}
    return [
        WarmupBar(symbol, minute, row.open, row.high, row.low, row.close, row.volume, row.turnover, ts_init)
        for minute, row in sorted(closed.items())[-bars_max:]
    ]
