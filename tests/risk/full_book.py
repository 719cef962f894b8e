"""A book that is full to the last unit: positions worth exactly what the limit allows."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from apps.execution.services import submit_order
from apps.execution.venues.base import VenueStatus
from apps.portfolio.models import Position
from apps.risk.models import OrderIntent, RiskLimits
from apps.risk.services import change_limits
from tests.execution.venues import ScriptedVenue
from tests.worlds import World, fresh, open_world

POSITIONS: Final = 24
SYMBOLS: Final = [f"F{number:02d}USDT" for number in range(POSITIONS + 1)]
NEXT: Final = SYMBOLS[-1]
"""The symbol in which nothing is held."""
LIMIT: Final = Decimal("0.48")
# So that one position's worth is room enough for the next order at its limit price, 2 % above.
NEXT_SIZE: Final = Decimal("0.0196")
WIDE: Final = {
    "orders_per_second_max": 1_000,
    "orders_per_minute_max": 1_000,
    "orders_per_day_max": 10_000,
    "open_orders_max": 1_000,
}


def open_full_book() -> World:
    """24 positions of 2,000 each, without fees, and a limit of 48,000: 48 % of 100,000."""
    world = open_world(SYMBOLS)
    RiskLimits.objects.update(**WIDE)
    for symbol in SYMBOLS[:-1]:
        fill(world, world.approved(world.entry_signal(symbol)))
    changes = {"exposure_max": LIMIT, "order_size": NEXT_SIZE}
    change_limits(account_id=world.account.pk, changes=changes, set_by="tester", reason="exactly what is held")
    assert world.state.exposure == LIMIT * 100_000
    return world


def fill(world: World, intent: OrderIntent) -> None:
    """Send the intent's order to a venue that fills it at once, at 0.5 and without a fee."""
    venue = ScriptedVenue(status=VenueStatus.FILLED)
    venue.fill(f"fill of {intent.pk}", intent.side, str(intent.quantity), fee="0")
    created_ms = int(intent.created_at.timestamp() * 1000)
    assert submit_order(intent_id=intent.pk, now_ms=created_ms, feed=fresh, venue=venue) is not None


def close_one(world: World) -> None:
    """An exit at 100 %: it must pass, and be filled."""
    position = Position.objects.filter(account=world.account, status=Position.Status.OPEN).earliest("id")
    fill(world, world.approved(world.exit_signal(position)))
