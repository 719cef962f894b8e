"""The world of the storm: an account, many symbols, many entry signals, and a venue with a memory in the database."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.db import connection

from apps.engine.portfolio import Fill, Side
from apps.execution.venues.base import OrderRequest, Report, VenueFill, VenueStatus, VenueUnclear
from apps.risk.models import RiskLimits
from apps.signals.models import Signal
from tests import factories
from tests.execution.venues import TS_FILL, ScriptedVenue
from tests.worlds import NOW_MS, TRIGGER_MS, World, open_world

SYMBOLS: Final = 40
BATCH: Final = 1_000
SMALL_FEE: Final = Decimal("0.000001")
# What is to limit the storm is exposure alone.
WIDE: Final = {
    "orders_per_second_max": 1_000_000,
    "orders_per_minute_max": 1_000_000,
    "orders_per_day_max": 1_000_000,
    "exits_per_second_max": 1_000_000,
    "open_orders_max": 1_000_000,
    "open_orders_symbol_max": 2,
}


def make_world(signals: int, seed: int) -> World:
    """A session with so many entry signals that nobody has decided on yet."""
    names = [f"C{number:02d}USDT" for number in range(SYMBOLS)]
    world = open_world(names)
    RiskLimits.objects.update(**WIDE)
    dice = random.Random(seed)
    rows = [
        factories.SignalFactory.build(
            session=world.session,
            strategy_version=world.version,
            instrument=world.instruments[dice.choice(names)],
            ts_event=TRIGGER_MS + number * 60_000,
            trade_id=str(number + 1),
            trigger_key=f"storm:{number}",
            ts_init=NOW_MS - 100,
        )
        for number in range(signals)
    ]
    Signal.objects.bulk_create(rows, batch_size=BATCH)
    return world


@dataclass
class StormVenue(ScriptedVenue):
    """What becomes of an order follows from its id alone; what it received survives every process.

    Of ten orders, five are filled at once in two parts, two are worked and filled when it is asked, two expire, and of
    one the answer is lost although it was received and filled.
    """

    name: str = "storm"

    def submit(self, request: OrderRequest) -> Report:
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO storm_venue VALUES (%s, 1, 0, %s, %s, %s)
                   ON CONFLICT (client_order_id) DO UPDATE SET received = storm_venue.received + 1""",
                [request.client_order_id, request.side.value, request.quantity, request.limit_price],
            )
        if _fate(request.client_order_id) == "lost":
            raise VenueUnclear("timed out after 5 s")
        return self._now(request.client_order_id, asked=0)

    def query(self, client_order_id: str) -> Report | None:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE storm_venue SET asked = asked + 1 WHERE client_order_id = %s RETURNING asked", [client_order_id]
            )
            row = cursor.fetchone()
        return self._now(client_order_id, asked=int(row[0])) if row else None

    def trades(self, client_order_id: str) -> list[VenueFill]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT side, quantity, asked FROM storm_venue WHERE client_order_id = %s", [client_order_id]
            )
            row = cursor.fetchone()
        if row is None or self._now(client_order_id, asked=int(row[2])).status is not VenueStatus.FILLED:
            return []
        part = (Decimal(row[1]) / 2).quantize(Decimal("0.01"))
        return [
            VenueFill(
                f"{client_order_id}:{number}",
                Fill(Side(row[0]), Decimal("0.5"), quantity, SMALL_FEE, "USDT", TS_FILL),
            )
            for number, quantity in enumerate((part, Decimal(row[1]) - part))
        ]

    def _now(self, client_order_id: str, *, asked: int) -> Report:
        fate = _fate(client_order_id)
        status = VenueStatus.EXPIRED if fate == "expired" else VenueStatus.FILLED
        if fate == "slow" and not asked:
            status = VenueStatus.OPEN
        return Report(client_order_id, "v1", status, "not filled in time" if fate == "expired" else "")


def _fate(client_order_id: str) -> str:
    number = hashlib.sha256(client_order_id.encode()).digest()[0] % 10
    return "filled" if number < 5 else "slow" if number < 7 else "expired" if number < 9 else "lost"
