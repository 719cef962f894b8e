"""Rows that follow from a signal: limits and state, decisions, orders, fills, events."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from factory.declarations import LazyFunction, SelfAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.backtest.models import BacktestRun, ParityAudit, RunState
from apps.execution.models import Order, OrderEvent, OrderStatus, Trade, VenueOrder, VenueTrade
from apps.outbox.models import OutboxEvent
from apps.risk import models as risk
from tests.factories.seen import (
    START_MS,
    AccountFactory,
    PositionFactory,
    SessionStrategyFactory,
    SignalFactory,
    TradingSessionFactory,
)


class RiskLimitsFactory(DjangoModelFactory[risk.RiskLimits]):
    class Meta:
        model = risk.RiskLimits

    account = SubFactory(AccountFactory)
    version = Sequence(lambda n: n + 1)
    set_by = "tester"
    reason = "a test"


class LimitsRefusalFactory(DjangoModelFactory[risk.LimitsRefusal]):
    class Meta:
        model = risk.LimitsRefusal

    account = SubFactory(AccountFactory)
    asked = "exposure_max=30"
    set_by = "tester"
    reason = "a test"
    why = "exposure_max='30' is not a number with at most six decimals from 0.0001 to 1"


class RiskStateFactory(DjangoModelFactory[risk.RiskState]):
    class Meta:
        model = risk.RiskState

    account = SubFactory(AccountFactory)


class RiskStateChangeFactory(DjangoModelFactory[risk.RiskStateChange]):
    class Meta:
        model = risk.RiskStateChange

    account = SubFactory(AccountFactory)
    sequence = Sequence(lambda n: n + 1)
    from_state = risk.TradingState.ACTIVE
    to_state = risk.TradingState.REDUCING
    set_by = "tester"
    reason = "a test"


class TierChangeFactory(DjangoModelFactory[risk.TierChange]):
    class Meta:
        model = risk.TierChange

    binding = SubFactory(SessionStrategyFactory)
    from_tier = "NORMAL"
    to_tier = "HIGH_TRUST"
    cause = risk.TierChange.Cause.RESULTS
    round_trips = 300
    wins = 208
    lower = 0.6003
    upper = 0.7729
    closed_before = 300
    version = SelfAttribute("binding.version")
    from_minute = START_MS // 60_000
    ts_event = START_MS
    set_by = "system"
    reason = "208 of 300 round trips won: 60.0% to 77.3%"


class RiskDecisionFactory(DjangoModelFactory[risk.RiskDecision]):
    """An approved decision."""

    class Meta:
        model = risk.RiskDecision

    signal = SubFactory(SignalFactory)
    account = SubFactory(AccountFactory, session=SelfAttribute("..signal.session"))
    sequence = Sequence(lambda n: n + 1)
    verdict = risk.RiskDecision.Verdict.APPROVED
    sentence = "Approved; closest: gross exposure, 98 % left."
    checks = LazyFunction(list)
    limits = SubFactory(RiskLimitsFactory, account=SelfAttribute("..account"))
    trading_state = risk.TradingState.ACTIVE
    equity = Decimal(100_000)
    exposure_before = Decimal(0)
    exposure_after = Decimal(2_000)
    ts_event = SelfAttribute("signal.ts_event")
    feed_age_ms = 100
    signal_age_ms = 100


class OrderIntentFactory(DjangoModelFactory[risk.OrderIntent]):
    class Meta:
        model = risk.OrderIntent

    decision = SubFactory(RiskDecisionFactory)
    client_order_id = Sequence(lambda n: f"c{n:024x}")
    account = SelfAttribute("decision.account")
    instrument = SelfAttribute("decision.signal.instrument")
    side = risk.OrderIntent.Side.BUY
    quantity = Decimal(100)
    limit_price = Decimal("0.51")
    reducing = False
    ts_event = SelfAttribute("decision.ts_event")


class OrderFactory(DjangoModelFactory[Order]):
    class Meta:
        model = Order

    intent = SubFactory(OrderIntentFactory)
    account = SelfAttribute("intent.account")
    instrument = SelfAttribute("intent.instrument")
    client_order_id = SelfAttribute("intent.client_order_id")
    venue = "paper"
    side = SelfAttribute("intent.side")
    quantity = SelfAttribute("intent.quantity")
    limit_price = SelfAttribute("intent.limit_price")
    reducing = SelfAttribute("intent.reducing")
    status = OrderStatus.INITIALIZED
    leaves_qty = SelfAttribute("quantity")
    ts_event = SelfAttribute("intent.ts_event")


class OrderEventFactory(DjangoModelFactory[OrderEvent]):
    class Meta:
        model = OrderEvent

    order = SubFactory(OrderFactory)
    number = Sequence(lambda n: n + 1)
    event = "SUBMIT"
    status = OrderStatus.SUBMITTING


class TradeFactory(DjangoModelFactory[Trade]):
    class Meta:
        model = Trade

    venue = "paper"
    trade_id = Sequence(lambda n: str(n + 1))
    order = SubFactory(OrderFactory)
    account = SelfAttribute("order.account")
    position = SubFactory(PositionFactory, account=SelfAttribute("..account"))
    instrument = SelfAttribute("order.instrument")
    sequence = Sequence(lambda n: n + 1)
    side = SelfAttribute("order.side")
    price = Decimal("0.5")
    quantity = SelfAttribute("order.quantity")
    fee = Decimal("0.025")
    fee_currency = "USDT"
    ts_event = START_MS


class VenueOrderFactory(DjangoModelFactory[VenueOrder]):
    class Meta:
        model = VenueOrder

    epoch_id = 1
    shard = 0
    client_order_id = Sequence(lambda n: f"c{n:024x}")
    symbol = "XRPUSDT"
    instrument_id = 1
    side = "BUY"
    quantity = Decimal(100)
    limit_price = Decimal("0.51")
    ts_trigger = START_MS
    ts_mature = START_MS + 150
    scan_from = "1-0"
    terms = LazyFunction(
        lambda: {
            "price_decimals": 4,
            "base_bps": "1",
            "impact_bps": "10",
            "taker_fee": "0.0005",
            "fee_currency": "USDT",
        }
    )


class VenueTradeFactory(DjangoModelFactory[VenueTrade]):
    class Meta:
        model = VenueTrade

    order = SubFactory(VenueOrderFactory)
    price = Decimal("0.5")
    quantity = SelfAttribute("order.quantity")
    fee = Decimal("0.025")
    fee_currency = "USDT"
    ts_event = SelfAttribute("order.ts_mature")
    quote = LazyFunction(dict)


class OutboxEventFactory(DjangoModelFactory[OutboxEvent]):
    class Meta:
        model = OutboxEvent

    event_type = "SignalRaised"
    payload = LazyFunction(lambda: {"signal_id": 1})


class BacktestRunFactory(DjangoModelFactory[BacktestRun]):
    """A run that is done."""

    class Meta:
        model = BacktestRun

    state = RunState.DONE
    inputs = LazyFunction(
        lambda: {
            "strategy": "momentum",
            "version": None,
            "trades": [],
            "first_ms": START_MS,
            "last_ms": START_MS + 86_400_000,
            "symbols": ["XRPUSDT"],
            "set": {"threshold_pct": "1.5"},
            "capital": "100000",
            "seed": 0,
        }
    )
    engine_hash = "0" * 64
    requested_by = "mara"
    trades = 400
    permille = 1_000
    final_equity = Decimal("100010.5")
    result = Decimal("10.5")
    figures = LazyFunction(lambda: {"counts": {"signals": 2}, "performance": {"win_rate": 0.5, "sharpe": None}})
    decision_hash = "f" * 64


class ParityAuditFactory(DjangoModelFactory[ParityAudit]):
    class Meta:
        model = ParityAudit

    session = SubFactory(TradingSessionFactory)
    day = date(2023, 11, 14)
    holds = False
    compared = {"signals": 3, "decisions": 4}
    difference = {
        "what": "fill", "key": "e:1:XRPUSDT:1:1", "sequence": 4,
        "recorded": {"price": "0.5"}, "replayed": {"price": "0.6"},
    }  # fmt: skip
    asked_at = datetime(2023, 11, 15, tzinfo=UTC)
