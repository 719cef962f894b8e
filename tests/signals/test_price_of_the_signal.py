"""The price of a trade on the stream becomes a signal, a decision, an order and a fill: nowhere is one made up."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import pytest

from apps.execution.models import Trade, VenueOrder, VenueTrade
from apps.portfolio.models import Position
from apps.risk.models import RiskLimits
from apps.signals.models import Signal
from apps.signals.services import drain
from tests.signals.test_exits import quoted_market
from tests.signals.trading import eager_world, live

TICK = Decimal("0.0001")
pytestmark = pytest.mark.django_db(transaction=True)


def test_the_price_of_the_trade_travels_to_the_fill(tools: drain.Tools) -> None:
    world = eager_world(tools)
    prints, entries = quoted_market(4)
    many = {
        "positions_per_symbol_max": 9,
        "open_orders_symbol_max": 9,
        "repeat_max": 99,
        "position_max": Decimal("0.5"),
    }
    RiskLimits.objects.update(**many)
    live(world, entries[: len(entries) // 2])
    traded = {row.trade_id: (row.symbol, Decimal(row.price) * TICK) for row in prints}
    collar = RiskLimits.objects.get().collar
    fills = Trade.objects.filter(side="BUY").select_related("order__intent__decision__signal__instrument", "position")
    assert fills.count() >= 5
    for fill in fills:
        order, signal = fill.order, fill.order.intent.decision.signal
        assert (signal.instrument.symbol, signal.price) == traded[signal.trade_id]
        assert order.intent.decision.marks["prices"][signal.instrument.symbol] == f"{signal.price.normalize():f}"
        limit = (signal.price * (1 + collar)).quantize(TICK, rounding=ROUND_FLOOR)
        theirs = VenueOrder.objects.get(client_order_id=order.client_order_id)
        assert order.intent.limit_price == order.limit_price == theirs.limit_price == limit
        quote = VenueTrade.objects.get(order=theirs).quote
        bps = Decimal(1) + 10 * max(order.quantity - Decimal(quote["ask_quantity"]), Decimal(0)) / order.quantity
        assert fill.price == (Decimal(quote["ask"]) * (1 + bps / 10_000)).quantize(TICK, rounding=ROUND_CEILING)
        assert fill.price <= limit
        assert fill.reference_price == signal.ask
        assert fill.position.entry_price == fill.price
    assert set(Position.objects.values_list("opened_by")) == set(fills.values_list("order__client_order_id"))


def test_without_a_quote_nothing_is_bought_at_a_price_that_nobody_showed(tools: drain.Tools) -> None:
    """The same market, of which only trades arrive."""
    world = eager_world(tools)
    RiskLimits.objects.update(collar=Decimal("0.5"))
    prints, entries = quoted_market(4)
    bare = [(name, [event for event in events if type(event).__name__ != "QuoteBlock"]) for name, events in entries]
    live(world, bare[: len(bare) // 2])
    assert prints
    assert Signal.objects.filter(bid=None, ask=None).count() >= 5
    assert not Trade.objects.exists()
    denied = {reason for signal in Signal.objects.all() for reason in signal.decisions.get().reasons}
    assert "PRICE_COLLAR" in denied
