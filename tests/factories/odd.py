"""What a venue reported and cannot be ours."""

# factory-boy ships a marker of being typed, but its declarations carry no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from factory.declarations import LazyFunction, Sequence, SubFactory
from factory.django import DjangoModelFactory

from apps.execution.models import OrderAnomaly
from tests.factories.seen import AccountFactory


class OrderAnomalyFactory(DjangoModelFactory[OrderAnomaly]):
    class Meta:
        model = OrderAnomaly

    account = SubFactory(AccountFactory)
    venue = "paper"
    kind = OrderAnomaly.Kind.UNKNOWN_ORDER
    client_order_id = Sequence(lambda n: f"x{n:024x}")
    reference = Sequence(lambda n: str(n + 1))
    words = "BUY of 100 XRPUSDT at 0.5 for an order that nobody here sent"
    payload = LazyFunction(lambda: {"trade_id": "1", "price": "0.5"})
