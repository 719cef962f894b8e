"""A paper session set up through the services, and what happens in it: signals, decisions, quotes, watermarks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis

from apps.bus import codec
from apps.bus.feed import FeedAge
from apps.bus.streams import Appender, shard_of
from apps.engine.events import BUY, Event, QuoteBlock, TradeBlock, Watermark
from apps.engine.risk.values import SOUND_PATH, OrderPath
from apps.execution.models import Order
from apps.execution.services import match_orders, submit_order
from apps.execution.venues.quotes import Reader
from apps.market.models import FeedEpoch, Instrument, ShardCursor
from apps.portfolio.models import Account, Position, TradingSession
from apps.portfolio.services import open_account
from apps.risk.models import OrderIntent, RiskDecision, RiskState
from apps.risk.services import assess, install_risk
from apps.signals.models import Signal, StrategyVersion
from tests import factories
from tests.factories import START_MINUTE, START_MS

NOW_MS = 1_800_000_000_000
TRIGGER_MS = START_MS + 60_500
ENTRY_MS = 1_799_999_990_000  # wall clock of the stream's first entries


def fresh(_epoch: int, _symbol: str) -> FeedAge:
    return FeedAge(100)


def sound(_epoch: int) -> OrderPath:
    return SOUND_PATH


def stale(_epoch: int, _symbol: str) -> FeedAge:
    return FeedAge(5_000)


def unknown(_epoch: int, _symbol: str) -> FeedAge:
    return FeedAge(None, "the ingest has not reported")


@dataclass
class World:
    """One session with its account, limits and risk state. Prices are in USDT, the account starts with 100 000."""

    session: TradingSession
    account: Account
    version: StrategyVersion
    instruments: dict[str, Instrument]
    counter: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    entries: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def epoch(self) -> FeedEpoch:
        return self.session.epoch

    @property
    def state(self) -> RiskState:
        return RiskState.objects.get(account=self.account)

    def shard(self, symbol: str = "XRPUSDT") -> int:
        return shard_of(symbol, self.epoch.shard_count)

    def cash(self) -> Decimal:
        return Account.objects.get(pk=self.account.pk).cash

    # --- signals and decisions ------------------------------------------------------------------------------------

    def entry_signal(self, symbol: str = "XRPUSDT", **fields: Any) -> Signal:
        """An entry signal, one minute of event time after the one before unless `ts_event` is given."""
        number = next(self.counter)
        defaults = {
            "instrument": self.instruments[symbol],
            "ts_event": TRIGGER_MS + number * 60_000,
            "trade_id": str(number),
            "ts_init": NOW_MS - 100,
        }
        return factories.SignalFactory.create(
            session=self.session, strategy_version=self.version, **{**defaults, **fields}
        )  # fmt: skip

    def exit_signal(self, position: Position, **fields: Any) -> Signal:
        number = next(self.counter)
        defaults = {
            "ts_event": position.opened_ts + number * 60_000,
            "ts_init": NOW_MS - 100,
            "trigger_key": f"x:{position.pk}:{position.exit_attempts}",
        }
        return factories.ExitSignalFactory.create(
            position=position, strategy_version=self.version, **{**defaults, **fields}
        )  # fmt: skip

    def decide(
        self, signal: Signal, *, feed: Any = fresh, now_ms: int = NOW_MS, path: Any = sound, **given: Any
    ) -> RiskDecision | None:
        return assess(signal_id=signal.pk, now_ms=now_ms, feed=feed, path=path, **given)

    def approved(self, signal: Signal) -> OrderIntent:
        """The intent of a signal that must be approved."""
        decision = self.decide(signal)
        assert decision is not None
        assert decision.verdict == RiskDecision.Verdict.APPROVED, decision.sentence
        return decision.intents.get()

    # --- orders ---------------------------------------------------------------------------------------------------

    def send(self, intent: OrderIntent, *, feed: Any = fresh, age_ms: int = 0) -> Order | None:
        now_ms = int(intent.created_at.timestamp() * 1000) + age_ms
        return submit_order(intent_id=intent.pk, now_ms=now_ms, feed=feed)

    def match(self, client: redis.Redis, segments: Path, symbol: str = "XRPUSDT") -> int:
        shard = self.shard(symbol)
        return match_orders(epoch=self.epoch.pk, shard=shard, reader=Reader(client, segments, self.epoch.pk, shard))

    def publish(self, client: redis.Redis, *events: Event, symbol: str = "XRPUSDT", entry_id: str = "") -> str:
        """Append one entry to the symbol's shard. Returns its id."""
        name = entry_id or f"{ENTRY_MS}-{next(self.entries)}"
        Appender(client, self.epoch.pk, 1).append(self.shard(symbol), name, codec.encode(list(events)))
        return name

    def reach(self, ts_event: int, symbol: str = "XRPUSDT") -> None:
        """The drain has read a watermark."""
        ShardCursor.objects.filter(epoch=self.epoch, shard=self.shard(symbol)).update(watermark_ms=ts_event)


def open_world(
    symbols: Sequence[str] = ("XRPUSDT",),
    *,
    initial: str = "100000",
    latency_ms: int = 150,
    paper: Mapping[str, Any] | None = None,
    venue: Mapping[str, Any] | None = None,
    **instrument: Any,
) -> World:
    """A running paper session with these symbols, each with a bar that closed at 0.5 in the first minute.

    `paper` are further settings of its venue; `venue` names another one.
    """
    epoch = factories.FeedEpochFactory.create()
    config: dict[str, Any] = {"paper": {"latency_ms": latency_ms, "base_bps": "1", "impact_bps": "10", **(paper or {})}}
    session = factories.TradingSessionFactory.create(
        epoch=epoch, config=config if venue is None else {**config, "venue": dict(venue)}
    )
    instruments = {symbol: factories.InstrumentFactory.create(symbol=symbol, **instrument) for symbol in symbols}
    for row in instruments.values():
        member = factories.EpochInstrumentFactory.create(epoch=epoch, instrument=row)
        factories.BarFactory.create(epoch=epoch, instrument=row, minute=START_MINUTE)
        ShardCursor.objects.get_or_create(
            epoch=epoch,
            shard=member.shard,
            defaults={"closed_minute": START_MINUTE, "watermark_ms": START_MS + 60_000},
        )
    account = open_account(
        session=session, currency="USDT", initial=Decimal(initial), now=datetime.fromtimestamp(NOW_MS / 1000, UTC)
    )
    install_risk(account=account, set_by="tester", reason="a test begins")
    return World(session, account, factories.StrategyVersionFactory.create(), instruments)


def quotes(*rows: tuple[int, int, int, int, int], symbol: str = "XRPUSDT") -> QuoteBlock:
    """(event time, bid, bid size, ask, ask size), in ticks and steps."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return QuoteBlock(symbol, 1, NOW_MS, *columns)


def trades(*rows: tuple[int, int], symbol: str = "XRPUSDT", ordinal: int = 1) -> TradeBlock:
    """(event time, price in ticks), each of one step."""
    times, prices = [row[0] for row in rows], [row[1] for row in rows]
    ids = [str(time) for time in times]
    return TradeBlock(symbol, 1, ordinal, NOW_MS, times, prices, [1] * len(rows), [BUY] * len(rows), ids)


def watermark(ts_event: int, symbol: str = "XRPUSDT") -> Watermark:
    return Watermark(1, ts_event, NOW_MS, {symbol: 0})
