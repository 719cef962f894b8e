"""At least one row behind every table of the admin, joined along the road as a real session joins them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.contrib.auth.models import Group, User
from django.utils import timezone

from apps.execution.models import Order, OrderStatus, Trade
from apps.market.models import Instrument
from apps.portfolio.models import Account, LedgerEntry, Position, TradingSession
from apps.risk.models import OrderIntent, RiskDecision
from apps.signals.models import Signal
from tests import factories
from tests.factories.odd import OrderAnomalyFactory
from tests.factories.states import BreakerTripFactory, ScopedStateFactory, StateRefusalFactory

CHECKS = [
    {"code": "CASH", "value": "425.10", "limit": "60000", "passed": True, "note": ""},
    {"code": "EXPOSURE", "value": "30365.1", "limit": "30000", "passed": False, "note": "365.1 USDT less would pass"},
]


@dataclass(frozen=True, slots=True)
class Road:
    """One entry from its signal to its ledger legs, and one denied signal."""

    session: TradingSession
    account: Account
    instrument: Instrument
    signal: Signal
    decision: RiskDecision
    denied: RiskDecision
    intent: OrderIntent
    order: Order
    trade: Trade
    position: Position
    leg: LedgerEntry


def make_road(symbol: str = "XRPUSDT", session: TradingSession | None = None) -> Road:
    """A filled entry and a denied one in `session`, or in a new session of its own with the rest of its tables."""
    session = session or make_session()
    account = session.accounts.get()
    limits = account.limits.get()
    instrument = factories.InstrumentFactory.create(source=session.epoch.source, symbol=symbol)
    version = session.strategies.get().version
    signal = factories.SignalFactory.create(session=session, instrument=instrument, strategy_version=version)
    decision = factories.RiskDecisionFactory.create(signal=signal, account=account, limits=limits, checks=CHECKS[:1])
    intent = factories.OrderIntentFactory.create(decision=decision)
    order = factories.OrderFactory.create(
        intent=intent, status=OrderStatus.FILLED, filled_qty=Decimal(100), leaves_qty=Decimal(0), avg_px=Decimal("0.5")
    )
    factories.OrderEventFactory.create(order=order, number=1)
    position = factories.PositionFactory.create(account=account, instrument=instrument, opened_by=order.client_order_id)
    trade = factories.TradeFactory.create(order=order, position=position)
    leg = factories.LedgerEntryFactory.create(
        account=account, reference=f"trade:{trade.venue}:{trade.trade_id}", amount=Decimal("-50.025000000000000001")
    )
    factories.ReservationFactory.create(
        account=account, instrument=instrument, client_order_id=order.client_order_id, active=False, position=position
    )
    denied = make_denied(session, instrument)
    return Road(session, account, instrument, signal, decision, denied, intent, order, trade, position, leg)


def make_denied(session: TradingSession, instrument: Instrument) -> RiskDecision:
    account = session.accounts.get()
    return factories.RiskDecisionFactory.create(
        signal=factories.SignalFactory.create(
            session=session, instrument=instrument, strategy_version=session.strategies.get().version
        ),
        account=account,
        limits=account.limits.get(),
        verdict=RiskDecision.Verdict.DENIED,
        reasons=["EXPOSURE"],
        checks=CHECKS,
        sentence="Denied: gross exposure would be 30 365.1 of 30 000 USDT. 365.1 USDT less would have passed.",
    )


def make_session() -> TradingSession:
    """A session with account, limits, risk state, strategy, cursor and an ingest run."""
    epoch = factories.FeedEpochFactory.create()
    session = factories.TradingSessionFactory.create(epoch=epoch)
    TradingSession.objects.update(started_at=timezone.now() - timedelta(hours=2))
    account = factories.AccountFactory.create(session=session)
    factories.RiskStateFactory.create(account=account)
    hour_ms = 3_600_000  # what is asked about this session does not depend on how long a test takes
    factories.RiskLimitsFactory.create(
        account=account, version=1, reconcile_orders_age_max_ms=hour_ms, reconcile_full_age_max_ms=hour_ms
    )
    factories.ReconcileRunFactory.create(account=account, outcome="clean", differences=0, finished_at=timezone.now())
    factories.LimitsRefusalFactory.create(account=account)
    factories.SessionStrategyFactory.create(session=session)
    factories.ShardCursorFactory.create(epoch=epoch, processed=48_211, evaluated=40_000)
    factories.IngestRunFactory.create(epoch=epoch, received=48_220, decoded=48_219, published=48_215)
    return session


def make_feed(road: Road) -> None:
    """A connection with a past, a gap with an UNPROVEN minute, a doubt, the lease and a choice of symbols."""
    epoch, instrument = road.session.epoch, road.instrument
    gap = factories.GapFactory.create(epoch=epoch, instrument=instrument)
    factories.CoverageFactory.create(
        epoch=epoch, instrument=instrument, gap=gap, attempts=1, detail="failed: no answer"
    )
    connection = factories.FeedConnectionFactory.create(epoch=epoch)
    factories.FeedTransitionFactory.create(epoch=epoch, connection=connection.name)
    factories.IngestLeaseFactory.create(epoch=epoch)
    factories.KlineDoubtFactory.create(epoch=epoch, instrument=instrument)
    factories.ScreenerRunFactory.create(epoch=epoch)
    factories.ArchivedShardFactory.create(epoch=epoch)


def make_everything() -> Road:
    """Rows in every table that the admin shows."""
    road = make_road()
    epoch = road.session.epoch
    factories.EpochInstrumentFactory.create(epoch=epoch, instrument=road.instrument)
    factories.BarFactory.create(epoch=epoch, instrument=road.instrument)
    factories.LongerBarFactory.create(epoch=epoch, instrument=road.instrument)
    make_feed(road)
    factories.DeadEntryFactory.create(epoch=epoch)
    factories.EquityPointFactory.create(account=road.account)
    factories.CorrectionFactory.create(account=road.account)
    factories.SessionReportFactory.create(session=road.session)
    factories.RiskStateChangeFactory.create(account=road.account)
    ScopedStateFactory.create(account=road.account)
    BreakerTripFactory.create(account=road.account)
    StateRefusalFactory.create(account=road.account)
    factories.TierChangeFactory.create(binding=road.session.strategies.get())
    factories.ParameterScheduleFactory.create(session=road.session, base=road.signal.strategy_version)
    factories.StrategyFailureFactory.create(session=road.session, base=road.signal.strategy_version)
    factories.AlertFactory.create(session=road.session)
    factories.OutboxEventFactory.create()
    factories.BacktestRunFactory.create()
    factories.ParityAuditFactory.create(session=road.session)
    factories.SignalRefusalFactory.create(
        session=road.session, instrument=road.instrument, strategy_version=road.signal.strategy_version
    )
    factories.StrategyCallFactory.create(epoch=epoch, instrument=road.instrument, base=road.signal.strategy_version)
    factories.ExitSignalFactory.create(position=road.position, strategy_version=road.signal.strategy_version)
    factories.ReconcileDifferenceFactory.create(run=factories.ReconcileRunFactory.create(account=road.account))
    factories.TradingStartFactory.create(session=road.session)
    factories.DatabaseIncarnationFactory.create()
    Group.objects.get_or_create(name="viewers")
    User.objects.get_or_create(username="oli")
    OrderAnomalyFactory.create(account=road.account, order=road.order)
    factories.VenueTradeFactory.create(
        order=factories.VenueOrderFactory.create(client_order_id=road.order.client_order_id)
    )
    return road
