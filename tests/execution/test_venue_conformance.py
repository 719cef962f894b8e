"""What every venue owes, asked of each of them in the same words: the paper one and the one at the exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from apps.engine.matching import Liquidity
from apps.execution.venues.base import Report, Venue, VenueFill, VenueStatus, VenueUnclear
from tests.execution.exchange_desks import Desk, PaperDesk, exchange_desk, wish

D = Decimal
pytestmark = pytest.mark.django_db
MakeDesk = Callable[..., Desk]


@pytest.fixture(params=["paper", "exchange"])
def desk_of(request: pytest.FixtureRequest, redis_client: redis.Redis, tmp_path: Path) -> Iterator[MakeDesk]:
    with ExitStack() as stack:

        def make(trouble: str = "") -> Desk:
            if request.param == "paper":
                return PaperDesk(redis_client, tmp_path, trouble)
            return stack.enter_context(exchange_desk(tmp_path, trouble))

        yield make


def known(venue: Venue, name: str) -> Report:
    report = venue.query(name)
    assert report is not None
    return report


def quantity_of(fills: list[VenueFill]) -> Decimal:
    return sum((one.fill.quantity for one in fills), D(0))


def test_one_id_is_one_order_however_often_it_is_sent(desk_of: MakeDesk) -> None:
    desk = desk_of()
    one = wish(desk)
    first = desk.venue.submit(one)
    assert (first.status, first.client_order_id) == (VenueStatus.OPEN, one.client_order_id)
    assert desk.venue.submit(one) == first == known(desk.venue, one.client_order_id)
    assert desk.orders() == 1
    desk.meet(4_000)
    assert desk.venue.submit(one).status is VenueStatus.FILLED
    assert desk.orders() == 1


def test_nothing_is_known_of_an_order_that_was_never_sent(desk_of: MakeDesk) -> None:
    venue = desk_of().venue
    assert venue.query("c" + 24 * "0") is None
    assert venue.cancel("c" + 24 * "0") is None
    assert venue.trades("c" + 24 * "0") == []
    assert venue.open_orders() == []
    assert venue.fills_since(0) == []


def test_an_order_is_filled_in_the_parts_that_the_market_has(desk_of: MakeDesk) -> None:
    desk = desk_of()
    one = wish(desk)
    desk.venue.submit(one)
    desk.meet(1_000)
    part = known(desk.venue, one.client_order_id)
    assert (part.status, part.filled_quantity) == (VenueStatus.PARTIALLY_FILLED, D(1_000))
    assert quantity_of(desk.venue.trades(one.client_order_id)) == 1_000
    [view] = desk.venue.open_orders()
    assert (view.client_order_id, view.symbol, view.side, view.quantity, view.filled_quantity, view.limit_price) == (
        one.client_order_id, "XRPUSDT", one.side, D(4_000), D(1_000), D("0.51"),
    )  # fmt: skip
    desk.meet(3_000)
    whole = known(desk.venue, one.client_order_id)
    assert (whole.status, whole.filled_quantity) == (VenueStatus.FILLED, D(4_000))
    fills = desk.venue.trades(one.client_order_id)
    assert [fill.fill.quantity for fill in fills] == [1_000, 3_000]
    assert fills[0].fill.ts_event <= fills[1].fill.ts_event
    assert len({fill.trade_id for fill in fills}) == 2
    for fill in fills:
        assert (fill.symbol, fill.fill.side, fill.fill.fee_currency) == ("XRPUSDT", one.side, "USDT")
        assert D("0.4") < fill.fill.price <= D("0.51")
        assert fill.liquidity in Liquidity
    assert desk.venue.open_orders() == []
    assert desk.venue.trades(one.client_order_id) == fills


def test_fills_of_the_account_are_told_from_a_time_on(desk_of: MakeDesk) -> None:
    desk = desk_of()
    one = wish(desk)
    desk.venue.submit(one)
    desk.meet(1_000)
    desk.meet(3_000)
    fills = desk.venue.trades(one.client_order_id)
    assert desk.venue.fills_since(0) == [(one.client_order_id, fill) for fill in fills]
    last_ms = fills[-1].fill.ts_event
    assert (one.client_order_id, fills[-1]) in desk.venue.fills_since(last_ms)
    assert desk.venue.fills_since(last_ms + 1) == []


def test_a_cancel_ends_what_is_left_and_asking_again_is_harmless(desk_of: MakeDesk) -> None:
    desk = desk_of()
    one = wish(desk)
    desk.venue.submit(one)
    desk.meet(1_000)
    report = desk.venue.cancel(one.client_order_id)
    assert report is not None
    assert (report.status, report.filled_quantity) == (VenueStatus.CANCELED, D(1_000))
    assert desk.venue.cancel(one.client_order_id) == report == known(desk.venue, one.client_order_id)
    desk.meet(3_000)
    assert quantity_of(desk.venue.trades(one.client_order_id)) == 1_000


def test_a_cancel_that_comes_after_the_last_fill_is_told_of_it(desk_of: MakeDesk) -> None:
    desk = desk_of()
    one = wish(desk)
    desk.venue.submit(one)
    desk.meet(4_000)
    report = desk.venue.cancel(one.client_order_id)
    assert report is not None
    assert (report.status, report.filled_quantity) == (VenueStatus.FILLED, D(4_000))


def test_a_refusal_is_told_as_one_and_leaves_nothing(desk_of: MakeDesk) -> None:
    desk = desk_of("reject")
    report = desk.venue.submit(wish(desk))
    assert report.status is VenueStatus.REJECTED
    assert report.reason
    assert desk.venue.open_orders() == []


def test_an_order_whose_reply_is_lost_can_be_asked_for(desk_of: MakeDesk) -> None:
    desk = desk_of("reply_lost")
    one = wish(desk)
    with pytest.raises(VenueUnclear):
        desk.venue.submit(one)
    assert known(desk.venue, one.client_order_id).status is VenueStatus.OPEN
    assert desk.venue.submit(one).status is VenueStatus.OPEN
    assert desk.orders() == 1


def test_a_fee_is_told_in_the_coin_it_was_taken_in(desk_of: MakeDesk) -> None:
    desk = desk_of("fee_coin")
    one = wish(desk)
    desk.venue.submit(one)
    desk.meet(4_000)
    [fill] = desk.venue.trades(one.client_order_id)
    assert fill.fill.fee_currency == "MX"
    assert fill.fill.fee > 0


def test_what_an_open_order_may_cost_is_locked_and_what_it_bought_is_there(desk_of: MakeDesk) -> None:
    desk = desk_of()
    one = wish(desk)
    desk.venue.submit(one)
    held = desk.venue.balances()["USDT"]
    assert held.total == 100_000
    assert held.locked >= D(4_000) * D("0.51")
    desk.meet(4_000)
    [fill] = desk.venue.trades(one.client_order_id)
    paid = fill.fill.quantity * fill.fill.price + fill.fill.fee
    after = desk.venue.balances()
    assert after["USDT"].total == 100_000 - paid
    assert after["USDT"].locked == 0
    assert after["XRP"].total == 4_000
