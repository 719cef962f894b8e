"""One order at each kind of venue, and the market it meets there, told in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import redis

from apps.execution.models import VenueOrder
from apps.execution.selectors import venue_of
from apps.execution.services import match_orders
from apps.execution.services.submitting import request_of
from apps.execution.venues.base import OrderRequest, Venue
from apps.execution.venues.quotes import Reader
from apps.risk.models import OrderIntent
from tests.exchange.helpers import PrivateExchange, private_exchange
from tests.execution.exchange_venue import SYMBOL, venue_at
from tests.worlds import TRIGGER_MS, World, open_world, quotes, trades, watermark
from workers.exchange.limits import Limits
from workers.exchange.synthetic import SyntheticSource

AFTER_MS: Final = TRIGGER_MS + 600_000  # event time of the exchange: after whatever triggers an order
MATURE: Final = TRIGGER_MS + 150
LOOK_MS: Final = 1_000
FEE_COIN: Final = {"fee_coin": {"currency": "MX", "price": "2"}}


class Desk(Protocol):
    """One buy of 4,000 XRP at 0.51 or better, decided and not sent; until `meet` nobody sells below 0.52."""

    world: World
    venue: Venue
    intent: OrderIntent

    def meet(self, quantity: int) -> None:
        """So much is offered at about 0.5."""

    def orders(self) -> int:
        """How many orders the venue has ever accepted."""
        ...


def wish(desk: Desk) -> OrderRequest:
    return request_of(desk.intent)


class PaperDesk:
    def __init__(self, client: redis.Redis, segments: Path, trouble: str) -> None:
        options: dict[str, Any] = {"book": {"interval_ms": LOOK_MS, "rest_ms": 60_000}}
        if trouble == "fee_coin":
            options |= FEE_COIN
        elif trouble:
            options["outcomes"] = {"seed": 1, "chances": {trouble: "1"}}
        self._client, self._segments, self._looks = client, segments, 0
        self.world = open_world(paper=options)
        entry = self.world.publish(
            client, quotes((TRIGGER_MS, 5_000, 10**6, 5_200, 10**6)), trades((TRIGGER_MS, 5_000))
        )
        self.intent = self.world.approved(self.world.entry_signal(ts_event=TRIGGER_MS, entry_id=entry))
        self.venue: Venue = venue_of(self.world.session)

    def meet(self, quantity: int) -> None:
        at = MATURE + self._looks * LOOK_MS
        self._looks += 1
        self.world.publish(
            self._client, quotes((at - 10, 5_000, 10**6, 5_002, quantity * 100)), watermark(at + LOOK_MS - 50)
        )  # fmt: skip
        self.world.reach(at + LOOK_MS - 50)
        epoch, shard = self.world.epoch.pk, self.world.shard()
        match_orders(epoch=epoch, shard=shard, reader=Reader(self._client, self._segments, epoch, shard))

    def orders(self) -> int:
        return VenueOrder.objects.count()


class ExchangeDesk:
    def __init__(self, exchange: PrivateExchange, trouble: str) -> None:
        self.exchange, self._looks = exchange, 0
        self.world = open_world()
        self.intent = self.world.approved(self.world.entry_signal())
        self.venue: Venue = venue_at(exchange)
        exchange.pin("0.5", "0.52", symbol=SYMBOL)
        if trouble == "reply_lost":
            exchange.command("rest", path="/order", method="POST", after=True, mode="reset")

    def meet(self, quantity: int) -> None:
        self._looks += 1
        self.exchange.pin("0.5", f"0.500{self._looks}", str(quantity), SYMBOL)

    def orders(self) -> int:
        return len(self.exchange.account()["orders"])


@contextmanager
def exchange_desk(directory: Path, trouble: str = "", **options: Any) -> Iterator[ExchangeDesk]:
    accounts: dict[str, dict[str, Any]] = {
        "reject": {"balances": {"USDT": "1"}},
        "fee_coin": {"balances": {"USDT": "100000", "MX": "100"}, "fee_asset": "MX", "maker_fee": "0.001"},
    }
    source, limits = SyntheticSource(1, AFTER_MS), Limits(rest_weight_max=None, tick_seconds=0.02)
    account = accounts.get(trouble, {})
    with private_exchange(directory, account=account, source=source, limits=limits, **options) as exchange:
        yield ExchangeDesk(exchange, trouble)
