"""Collects events into one open batch per shard, in order of arrival, and passes full or old ones on to the ring."""

from __future__ import annotations

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
from workers.ingest.clock import Clock
from workers.ingest.ring import BATCH_ROWS_MAX, BATCH_TRADES_MAX, Batch, Ring
from workers.ingest.symbols import SymbolState
from workers.ingest.tally import Tally
from workers.ingest.trades import CheckedTrades

BATCH_SECONDS = 0.002

_NAMES: dict[type[Event], str] = {
    Watermark: "watermark",
    CoverageStart: "coverage_start",
    CoverageEnd: "coverage_end",
    Loss: "loss",
    WarmupBar: "warmup_bar",
    Backfill: "backfill",
}


class Builder:
    """Belongs to the consumer. Every accepted trade gets its ordinal here."""

    def __init__(self, token: int, states: dict[str, SymbolState], ring: Ring, tally: Tally, clock: Clock) -> None:
        self.token = token
        self._states = states
        self._ring = ring
        self._tally = tally
        self._clock = clock
        self._open: dict[int, Batch] = {}

    @property
    def pending(self) -> bool:
        return bool(self._open)

    def add_trades(self, state: SymbolState, trades: CheckedTrades, ts_init: int) -> None:
        count = len(trades.ts_event)
        first = state.ordinal + 1
        state.ordinal += count
        block = TradeBlock(
            state.symbol,
            self.token,
            first,
            ts_init,
            trades.ts_event,
            trades.price,
            trades.quantity,
            trades.side,
            trades.trade_id,
        )
        batch = self._batch(state.shard)
        batch.events.append(block)
        batch.trades += count
        self._tally.trades_decoded += count
        if batch.trades >= BATCH_TRADES_MAX:
            self._pass_on(batch)

    def add_quote(self, state: SymbolState, ts_event: int, ts_init: int, quote: tuple[int, int, int, int]) -> None:
        bid, bid_quantity, ask, ask_quantity = quote
        batch = self._batch(state.shard)
        batch.quotes += 1
        self._tally.quotes_decoded += 1
        last = batch.events[-1] if batch.events else None
        if isinstance(last, QuoteBlock) and last.symbol == state.symbol and last.ts_init == ts_init:
            last.ts_event.append(ts_event)
            last.bid.append(bid)
            last.bid_quantity.append(bid_quantity)
            last.ask.append(ask)
            last.ask_quantity.append(ask_quantity)
            return
        block = QuoteBlock(state.symbol, self.token, ts_init, [ts_event], [bid], [bid_quantity], [ask], [ask_quantity])
        batch.events.append(block)

    def add_event(
        self, shard: int, event: Watermark | CoverageStart | CoverageEnd | Loss | WarmupBar | Backfill
    ) -> None:
        batch = self._batch(shard)
        batch.events.append(event)
        self._tally.events[_NAMES[type(event)]] += 1
        if isinstance(event, Backfill):
            batch.repaired += len(event.ts_event)
            if batch.rows >= BATCH_ROWS_MAX:
                self._pass_on(batch)

    def flush(self, *, everything: bool = False) -> None:
        """Pass on the batches that have waited long enough, or all."""
        if not self._open:
            return
        oldest = self._clock.monotonic() - BATCH_SECONDS
        for batch in list(self._open.values()):
            if everything or batch.opened_at <= oldest:
                self._pass_on(batch)

    def _batch(self, shard: int) -> Batch:
        batch = self._open.get(shard)
        if batch is None:
            batch = self._open[shard] = Batch(shard, self._clock.monotonic())
        return batch

    def _pass_on(self, batch: Batch) -> None:
        del self._open[batch.shard]
        for symbol in self._ring.put(batch):
            self._states[symbol].published_quote = None
        self._tally.trades_overflowed = self._ring.overflowed
        self._ring.wait_for_room()
