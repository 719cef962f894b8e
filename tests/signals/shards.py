"""An epoch with a session on it, and a way to put made-up markets on its stream."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.conf import settings

from apps.bus import codec
from apps.bus.streams import Appender, shard_of
from apps.engine.events import Backfill, Event, QuoteBlock, TradeBlock, WarmupBar, Watermark
from apps.market.models import FeedEpoch, ShardCursor
from apps.portfolio.models import Account, TradingSession
from apps.signals.services import drain
from tests import factories
from tests.engine.market_stream import FRAME_MS, PARAMETERS, Entry, make_prints, to_entries

SYMBOLS = ("AAAUSDT", "BBBUSDT")
EXITS = {"stop_loss_pct": "2", "take_profit_pct": "4", "max_holding_minutes": 60}


@dataclass
class ShardWorld:
    epoch: FeedEpoch
    session: TradingSession
    account: Account
    tools: drain.Tools
    shard_count: int

    def publish(self, entries: list[Entry], *, token: int = 1) -> None:
        """Write the entries to the shards that own their symbols, as the ingest would."""
        appender = Appender(self.tools.writer, self.epoch.pk, token)
        for entry_id, events in entries:
            for shard in range(self.shard_count):
                own = [part for event in events if (part := narrowed(event, shard, self.shard_count))]
                if own:
                    appender.append(shard, entry_id, codec.encode(own))

    def drain_all(self) -> int:
        """Drain every shard until nothing waits. Returns the number of new signals."""
        found = 0
        for shard in range(self.shard_count):
            while True:
                drained = drain.drain_shard(epoch=self.epoch.pk, shard=shard, tools=self.tools)
                found += drained.signals
                if not drained.more:
                    break
        return found

    def cursor(self, shard: int) -> ShardCursor:
        return ShardCursor.objects.get(epoch=self.epoch, shard=shard)


def narrowed(event: Event, shard: int, shard_count: int) -> Event | None:
    """The part of an event that belongs to a shard."""
    if isinstance(event, TradeBlock | QuoteBlock | WarmupBar | Backfill):
        return event if shard_of(event.symbol, shard_count) == shard else None
    if isinstance(event, Watermark):
        own = {name: n for name, n in event.ordinals.items() if shard_of(name, shard_count) == shard}
        return Watermark(event.token, event.ts_event, event.ts_init, own) if own else None
    symbols = [name for name in event.symbols if shard_of(name, shard_count) == shard]
    return replace(event, symbols=symbols) if symbols else None


def open_shards(tools: drain.Tools, *, shard_count: int = 2) -> ShardWorld:
    epoch = factories.FeedEpochFactory.create(shard_count=shard_count)
    for symbol in SYMBOLS:
        instrument = factories.InstrumentFactory.create(symbol=symbol, base_asset=symbol[:3])
        factories.EpochInstrumentFactory.create(epoch=epoch, instrument=instrument)
    for shard in range(shard_count):
        factories.ShardCursorFactory.create(epoch=epoch, shard=shard, closed_minute=None, watermark_ms=None)
    session = factories.TradingSessionFactory.create(epoch=epoch)
    version = factories.StrategyVersionFactory.create(
        parameters={**PARAMETERS, **EXITS}, engine_hash=settings.ENGINE_HASH
    )
    factories.SessionStrategyFactory.create(session=session, version=version)
    account = factories.AccountFactory.create(session=session)
    return ShardWorld(epoch, session, account, tools, shard_count)


def market(seed: int, cut: int = 1, *, frame_ms: tuple[int, ...] = FRAME_MS) -> list[Entry]:
    return to_entries(make_prints(seed, symbols=SYMBOLS, minutes=90), cut, frame_ms=frame_ms)
