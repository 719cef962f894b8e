"""Rows of the market, of sessions and money, of strategies and signals."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from decimal import Decimal
from typing import Any

from factory.declarations import LazyAttribute, LazyFunction, SelfAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.alerts.models import Alert
from apps.bus.streams import shard_of
from apps.market import models as market
from apps.portfolio import models as portfolio
from apps.signals import models as signals

SOURCE = "synthetic:7"
START_MS = 1_700_000_040_000  # a whole minute
START_MINUTE = START_MS // 60_000


class InstrumentFactory(DjangoModelFactory[market.Instrument]):
    class Meta:
        model = market.Instrument
        django_get_or_create = ("source", "symbol")

    source = SOURCE
    symbol = "XRPUSDT"
    base_asset = LazyAttribute(lambda row: row.symbol.removesuffix("USDT"))
    quote_asset = "USDT"
    price_decimals = 4
    quantity_decimals = 2
    quantity_min = Decimal("0.01")
    notional_min = Decimal(5)
    notional_max = Decimal(2_000_000)
    maker_fee = Decimal(0)
    taker_fee = Decimal("0.0005")
    tradable = True


class FeedEpochFactory(DjangoModelFactory[market.FeedEpoch]):
    class Meta:
        model = market.FeedEpoch

    kind = market.FeedEpoch.Kind.SYNTHETIC
    source = SOURCE
    description = "a market made for tests"
    shard_count = 2


class EpochInstrumentFactory(DjangoModelFactory[market.EpochInstrument]):
    class Meta:
        model = market.EpochInstrument

    epoch = SubFactory(FeedEpochFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    shard = LazyAttribute(lambda row: shard_of(row.instrument.symbol, row.epoch.shard_count))


class ShardCursorFactory(DjangoModelFactory[market.ShardCursor]):
    class Meta:
        model = market.ShardCursor

    epoch = SubFactory(FeedEpochFactory)
    shard = 0
    closed_minute = START_MINUTE
    watermark_ms = START_MS + 60_000


class DeadEntryFactory(DjangoModelFactory[market.DeadEntry]):
    class Meta:
        model = market.DeadEntry

    epoch = SubFactory(FeedEpochFactory)
    shard = 0
    entry_id = Sequence(lambda n: f"{START_MS}-{n}")
    reason = "entry is not readable"


class BarFactory(DjangoModelFactory[market.Bar]):
    class Meta:
        model = market.Bar

    epoch = SubFactory(FeedEpochFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    minute = Sequence(lambda n: START_MINUTE + n)
    open = SelfAttribute("close")
    high = SelfAttribute("close")
    low = SelfAttribute("close")
    close = Decimal("0.5")
    volume = Decimal(100)
    turnover = LazyAttribute(lambda row: row.volume * row.close)
    count = 1
    first_trade_id = "1"
    last_trade_id = "1"
    hash_sum = 0
    source = market.Bar.Source.TRADES


class CoverageFactory(DjangoModelFactory[market.Coverage]):
    class Meta:
        model = market.Coverage

    epoch = SubFactory(FeedEpochFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    minute = START_MINUTE
    status = market.Coverage.Status.UNPROVEN
    reason = "gap of 3 s"


class IngestRunFactory(DjangoModelFactory[market.IngestRun]):
    class Meta:
        model = market.IngestRun

    epoch = SubFactory(FeedEpochFactory)
    token = Sequence(lambda n: n + 1)


class FeedConnectionFactory(DjangoModelFactory[market.FeedConnection]):
    class Meta:
        model = market.FeedConnection

    epoch = SubFactory(FeedEpochFactory)
    name = Sequence(lambda n: f"connection {n + 1}")
    state = "STREAMING"
    subscriptions = 2


class TradingSessionFactory(DjangoModelFactory[portfolio.TradingSession]):
    class Meta:
        model = portfolio.TradingSession

    name = Sequence(lambda n: f"session {n + 1}")
    mode = portfolio.TradingSession.Mode.PAPER
    epoch = SubFactory(FeedEpochFactory)
    tier = portfolio.TradingSession.Tier.NORMAL
    quote_asset = "USDT"
    config = LazyFunction(lambda: {"paper": {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}})


class AccountFactory(DjangoModelFactory[portfolio.Account]):
    """An account with cash on it but without the ledger legs of a deposit."""

    class Meta:
        model = portfolio.Account

    session = SubFactory(TradingSessionFactory)
    currency = "USDT"
    initial = Decimal(100_000)
    cash = SelfAttribute("initial")


class LedgerEntryFactory(DjangoModelFactory[portfolio.LedgerEntry]):
    class Meta:
        model = portfolio.LedgerEntry

    account = SubFactory(AccountFactory)
    reference = Sequence(lambda n: f"test:{n}")
    leg = 0
    kind = portfolio.LedgerEntry.Kind.CASH
    currency = "USDT"
    amount = Decimal(1)
    ts_event = START_MS


class StrategyFactory(DjangoModelFactory[signals.Strategy]):
    class Meta:
        model = signals.Strategy
        django_get_or_create = ("name",)

    name = "momentum"
    description = "Buys what has risen fast on real turnover."


def momentum_parameters() -> dict[str, Any]:
    """Parameters of the momentum strategy in tier NORMAL, with exits."""
    return {
        "lookback_minutes": 15,
        "threshold_pct": 2.0,
        "rsi_min": 50,
        "turnover_min": 0,
        "volume_multiplier": 1.0,
        "cooldown_minutes": 15,
        "stop_loss_pct": "2",
        "take_profit_pct": "4",
        "max_holding_minutes": 60,
    }


class StrategyVersionFactory(DjangoModelFactory[signals.StrategyVersion]):
    class Meta:
        model = signals.StrategyVersion

    strategy = SubFactory(StrategyFactory)
    version = Sequence(lambda n: n + 1)
    parameters = LazyFunction(momentum_parameters)
    engine_hash = "0" * 64


class SessionStrategyFactory(DjangoModelFactory[signals.SessionStrategy]):
    class Meta:
        model = signals.SessionStrategy

    session = SubFactory(TradingSessionFactory)
    version = SubFactory(StrategyVersionFactory)


class ParameterScheduleFactory(DjangoModelFactory[signals.ParameterSchedule]):
    class Meta:
        model = signals.ParameterSchedule

    session = SubFactory(TradingSessionFactory)
    base = SubFactory(StrategyVersionFactory)
    version = SelfAttribute("base")
    from_minute = START_MINUTE
    set_by = "tester"
    reason = "a test"


class StrategyFailureFactory(DjangoModelFactory[signals.StrategyFailure]):
    class Meta:
        model = signals.StrategyFailure

    session = SubFactory(TradingSessionFactory)
    base = SubFactory(StrategyVersionFactory)
    strategy_version = SelfAttribute("base")
    shard = 0
    symbol = "XRPUSDT"
    ts_event = START_MS
    words = "ZeroDivisionError: division by zero"


class AlertFactory(DjangoModelFactory[Alert]):
    class Meta:
        model = Alert

    kind = Alert.Kind.STRATEGY_FAILED
    severity = Alert.Severity.WARNING
    subject = "momentum in session 1"
    words = "momentum v1 failed on XRPUSDT and is disabled, the others go on (ZeroDivisionError: division by zero)."
    session = SubFactory(TradingSessionFactory)


class EngineStateFactory(DjangoModelFactory[signals.EngineState]):
    class Meta:
        model = signals.EngineState

    cursor = SubFactory(ShardCursorFactory)
    instrument = SubFactory(InstrumentFactory)
    layout = "test"
    position = "0-0"
    blob = b""


class PositionFactory(DjangoModelFactory[portfolio.Position]):
    """An open position. Its trades and ledger legs are not made; `tests.worlds` fills real orders."""

    class Meta:
        model = portfolio.Position

    account = SubFactory(AccountFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..account.session.epoch.source"))
    opened_by = Sequence(lambda n: f"c{n:024x}")
    strategy_version_id = 1
    quantity = Decimal(100)
    entry_quantity = SelfAttribute("quantity")
    entry_price = Decimal("0.5")
    stop_price = LazyAttribute(lambda row: row.entry_price * Decimal("0.98"))
    target_price = LazyAttribute(lambda row: row.entry_price * Decimal("1.04"))
    opened_ts = START_MS
    due_ts = LazyAttribute(lambda row: row.opened_ts + 3_600_000)
    trigger_entry = "1-0"


class _AnySignalFactory(DjangoModelFactory[signals.Signal]):
    class Meta:
        model = signals.Signal
        abstract = True

    strategy_version = SubFactory(StrategyVersionFactory)
    trade_id = Sequence(lambda n: str(n + 1))
    ts_event = START_MS + 60_500
    price = Decimal("0.5")
    bid = LazyAttribute(lambda row: row.price - Decimal("0.0001"))
    bid_quantity = Decimal(10_000)
    ask = LazyAttribute(lambda row: row.price + Decimal("0.0001"))
    ask_quantity = Decimal(10_000)
    quote_ts = SelfAttribute("ts_event")
    median_price = SelfAttribute("price")
    confirmed_price = SelfAttribute("price")
    entry_id = "1-0"
    ts_init = START_MS + 60_600


class SignalFactory(_AnySignalFactory):
    """An entry signal with a quote around its price."""

    session = SubFactory(TradingSessionFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..session.epoch.source"))
    kind = signals.Signal.Kind.ENTRY
    trigger_key = LazyAttribute(
        lambda row: f"e:{row.strategy_version.pk}:{row.instrument.symbol}:{row.ts_event}:{row.trade_id}"
    )
    change = 0.03
    rsi = 60.0
    turnover = 100_000.0


class SignalRefusalFactory(DjangoModelFactory[signals.SignalRefusal]):
    """A rule that fired over one UNPROVEN minute."""

    class Meta:
        model = signals.SignalRefusal

    session = SubFactory(TradingSessionFactory)
    strategy_version = SubFactory(StrategyVersionFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..session.epoch.source"))
    trigger_key = Sequence(lambda n: f"e:1:XRPUSDT:{START_MS + 60_500}:r{n}")
    ts_event = START_MS + 60_500
    trade_id = Sequence(lambda n: f"r{n}")
    price = Decimal("0.5")
    change = 0.03
    rsi = 60.0
    turnover = 100_000.0
    unproven_minutes = 1
    reason = "trades lost on the stream"
    entry_id = "1-0"
    ts_init = START_MS + 60_600


class ExitSignalFactory(_AnySignalFactory):
    """A stop loss of `position`."""

    position = SubFactory(PositionFactory)
    session = SelfAttribute("position.account.session")
    book = SelfAttribute("position.account.book")
    instrument = SelfAttribute("position.instrument")
    kind = signals.Signal.Kind.EXIT
    exit_reason = signals.Signal.ExitReason.STOP_LOSS
    trigger_key = LazyAttribute(lambda row: f"x:{row.position.pk}:0")


class StrategyCallFactory(DjangoModelFactory[signals.StrategyCall]):
    class Meta:
        model = signals.StrategyCall

    epoch = SubFactory(FeedEpochFactory)
    base = SubFactory(StrategyVersionFactory)
    strategy_version = SelfAttribute("base")
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..epoch.source"))
    ts_event = START_MS + 60_500
    trade_id = Sequence(lambda n: str(n + 1))
    price = Decimal("0.5")
    entry_id = "1-0"
    ts_init = START_MS + 60_600


class ExitWatchFactory(DjangoModelFactory[signals.ExitWatch]):
    class Meta:
        model = signals.ExitWatch

    position = SubFactory(PositionFactory)
    scanned_to = "1-0"


class ReservationFactory(DjangoModelFactory[portfolio.Reservation]):
    class Meta:
        model = portfolio.Reservation

    account = SubFactory(AccountFactory)
    instrument = SubFactory(InstrumentFactory, source=SelfAttribute("..account.session.epoch.source"))
    client_order_id = Sequence(lambda n: f"c{n:024x}")
    reducing = False
    currency = "USDT"
    amount = Decimal(100)
    notional = SelfAttribute("amount")
    ts_event = START_MS


class EquityPointFactory(DjangoModelFactory[portfolio.EquityPoint]):
    class Meta:
        model = portfolio.EquityPoint

    account = SubFactory(AccountFactory)
    minute = Sequence(lambda n: START_MINUTE + n)
    cash = Decimal(100_000)
    equity = SelfAttribute("cash")
    exposure = Decimal(0)
