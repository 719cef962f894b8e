"""What a database of an earlier version holds is carried over by the migrations, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from apps.execution.models import VenueOrder
from apps.execution.selectors import venue_of
from apps.portfolio.models import TradingSession
from tests.factories import OrderFactory, VenueOrderFactory, VenueTradeFactory

D = Decimal
FIRST = ("execution", "0001_initial")
pytestmark = pytest.mark.django_db(transaction=True)


def migrate(*targets: tuple[str, str]) -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(list(targets) or [key for key in executor.loader.graph.leaf_nodes() if key[0] == "execution"])


@pytest.fixture
def again() -> Iterator[Any]:
    """Takes the tables back to the first version and on to the newest; other tests find the newest in any case."""

    def go() -> set[str]:
        migrate(FIRST)
        with connection.cursor() as cursor:
            table = connection.introspection.get_table_description(cursor, "execution_venueorder")
        migrate()
        return {column.name for column in table}

    yield go
    migrate()


def test_paper_orders_get_their_owner_and_what_was_filled_of_them(again: Any) -> None:
    """Then each session's venue lists its own orders and fills, and no other's."""
    statuses = ("filled", "open", "expired", "rejected")
    orders = {status: OrderFactory.create() for status in statuses}
    elsewhere = OrderFactory.create(venue="another")
    TradingSession.objects.update(config={"paper": {"latency_ms": 150, "base_bps": "1", "impact_bps": "10"}})
    for status, order in orders.items():
        VenueOrderFactory.create(client_order_id=order.client_order_id, status=status, quantity=D("12.5"))
    VenueOrderFactory.create(client_order_id=elsewhere.client_order_id, status="filled")
    VenueOrderFactory.create(client_order_id="nobody's", status="filled")
    VenueTradeFactory.create(order=VenueOrder.objects.get(client_order_id=orders["filled"].client_order_id))

    before = again()
    assert "client_order_id" in before
    assert not {"owner", "filled_quantity"} & before

    rows = {row.client_order_id: row for row in VenueOrder.objects.all()}
    assert len(rows) == 6
    for status, order in orders.items():
        row = rows[order.client_order_id]
        assert (row.status, row.owner) == (status, f"session:{order.account.session_id}")
        assert row.filled_quantity == (D("12.5") if status == "filled" else 0)
    assert len({row.owner for row in rows.values()} - {""}) == 4
    assert (rows[elsewhere.client_order_id].owner, rows["nobody's"].owner) == ("", "")
    venues = [venue_of(TradingSession.objects.get(pk=orders[status].account.session_id)) for status in statuses]
    fills = [[name for name, _ in venue.fills_since(0)] for venue in venues]
    resting = [[row.client_order_id for row in venue.open_orders()] for venue in venues]
    assert fills == [[orders["filled"].client_order_id], [], [], []]
    assert resting == [[], [orders["open"].client_order_id], [], []]
