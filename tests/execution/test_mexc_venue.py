"""The venue against the local exchange: what is certain, what is not, and that nothing is ever sent twice."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from apps.engine.portfolio import Side
from apps.execution.venues.base import OrderRequest, Trigger, VenueStatus, VenueUnclear
from tests.exchange.helpers import PrivateExchange, private_exchange
from tests.execution.exchange_venue import OpenBudget, received, venue_at, wall_ms
from workers.exchange.limits import Limits

D = Decimal
_NUMBERS = count(1)


def request(quantity: str = "1", price: str = "101", side: Side = Side.BUY, symbol: str = "BTCUSDT") -> OrderRequest:
    """An order with an id of its own; at 101 it takes what is asked at 101."""
    trigger = Trigger(1, 0, "1-1", 1, None)
    return OrderRequest(f"own-{next(_NUMBERS)}", 1, symbol, side, D(quantity), D(price), trigger)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateExchange]:
    """For a table of orders, each with an id of its own."""
    limits = Limits(rest_weight_max=None)
    with private_exchange(tmp_path_factory.mktemp("venue"), limits=limits) as served:
        served.pin("100", "101")
        yield served
        served.command("heal")


# What the exchange does instead of answering, and what is known then.
ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"mode": "reset"}, "order: (ConnectionResetError|RemoteDisconnected)"),
    ({"mode": "status", "status": 500}, "order: HTTP 500"),
    ({"mode": "status", "status": 503}, "order: HTTP 503"),
    ({"mode": "status", "status": 504}, "order: HTTP 504"),
    ({"mode": "html"}, "order: HTTP 200 without a document"),
    ({"mode": "broken_json"}, "order: HTTP 200 without a document"),
    ({"mode": "wrong_json"}, "not as documented"),
    ({"mode": "error", "status": 200, "code": 30016}, "HTTP 200 with code 30016"),
    ({"mode": "error", "status": 400, "code": 98765}, "HTTP 400 with code 98765"),
    ({"mode": "error", "status": 400, "code": 700003}, "700003"),
    ({"mode": "error", "status": 503, "code": 30004}, "HTTP 503"),
    ({"mode": "status", "status": 429, "retry_after": 3}, "HTTP 429: asked to pause"),
    ({"mode": "status", "status": 418, "retry_after": 3}, "HTTP 418: asked to pause"),
]


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(("options", "words"), ANSWERS)
def test_without_a_clear_answer_nothing_is_concluded_and_the_order_is_asked_for(
    exchange: PrivateExchange, options: dict[str, Any], words: str, after: bool
) -> None:
    venue, one = venue_at(exchange), request()
    exchange.command("rest", path="/order", method="POST", after=after, **options)
    with pytest.raises(VenueUnclear, match=words):
        venue.submit(one)
    assert received(exchange, one.client_order_id) == int(after)
    asked = venue_at(exchange).query(one.client_order_id)
    assert (asked and asked.status) == (VenueStatus.FILLED if after else None)
    assert venue_at(exchange).submit(one).status is VenueStatus.FILLED
    assert received(exchange, one.client_order_id) == 1


def test_an_answer_that_does_not_come_in_time_is_not_waited_for(exchange: PrivateExchange) -> None:
    venue, one = venue_at(exchange, call_seconds=0.3), request()
    venue.query("nothing")  # the clocks are compared
    exchange.command("rest", path="/order", method="POST", after=True, mode="timeout")
    with pytest.raises(VenueUnclear, match="order: TimeoutError"):
        venue.submit(one)
    assert received(exchange, one.client_order_id) == 1


def test_an_acknowledgement_says_no_status_so_the_order_is_asked_for(exchange: PrivateExchange) -> None:
    venue, one = venue_at(exchange), request("0.5")
    report = venue.submit(one)
    assert (report.status, report.filled_quantity) == (VenueStatus.FILLED, D("0.5"))
    two = request()
    exchange.command("rest", path="/order", method="GET", mode="status", status=503)
    with pytest.raises(VenueUnclear, match="HTTP 503"):
        venue.submit(two)
    assert received(exchange, two.client_order_id) == 1
    known = venue.query(two.client_order_id)
    assert known is not None
    assert known.status is VenueStatus.FILLED


def test_an_id_that_was_used_is_never_a_rejection(exchange: PrivateExchange) -> None:
    venue, one = venue_at(exchange), request(price="90")
    first = venue.submit(one)
    assert venue.submit(one) == first
    venue.cancel(one.client_order_id)
    assert venue.submit(one).status is VenueStatus.CANCELED
    assert received(exchange, one.client_order_id) == 1


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (request("9999"), "30004"),
        (request("1", "101", Side.SELL, "ETHUSDT"), "30005"),
        (request("0.0000000001"), "10096"),
        (request("1", "101.00001"), "33333"),
        (request("1", "0.01"), "30002"),
        (request(symbol="NOPEUSDT"), "-1121"),
    ],
)
def test_a_certain_no_is_a_rejection_with_the_exchanges_own_words(
    exchange: PrivateExchange, one: OrderRequest, code: str
) -> None:
    report = venue_at(exchange).submit(one)
    assert report.status is VenueStatus.REJECTED
    assert report.reason.startswith(f"{code} ")
    assert received(exchange, one.client_order_id) == 0


def test_a_clock_that_is_wrong_is_set_before_the_next_call(exchange: PrivateExchange) -> None:
    ahead_ms = [0]
    venue, one = venue_at(exchange, clock=lambda: wall_ms() + ahead_ms[0]), request()
    assert venue.query("nothing") is None
    for ahead_ms[0] in (90_000, -90_000):
        with pytest.raises(VenueUnclear, match="700003"):
            venue.query("nothing")
        assert venue.query("nothing") is None
    exchange.command("clock_skew", ms=30_000)
    with pytest.raises(VenueUnclear, match="700003"):
        venue.submit(one)
    assert venue.submit(one).status is VenueStatus.FILLED
    exchange.command("clock_skew", ms=0)


def test_a_pause_that_was_asked_for_holds_for_every_call(exchange: PrivateExchange) -> None:
    budget = OpenBudget()
    venue, one = venue_at(exchange, budget=budget), request()
    exchange.command("rest", path="/order", method="POST", mode="status", status=429, retry_after=7)
    with pytest.raises(VenueUnclear, match="asked to pause"):
        venue.submit(one)
    assert budget.paused == [7.0]
    with pytest.raises(VenueUnclear, match=r"not sent: .*7\.0 s"):
        venue.query(one.client_order_id)
    assert received(exchange, one.client_order_id) == 0


def test_a_balance_that_was_asked_for_too_often_holds_up_no_order(exchange: PrivateExchange) -> None:
    budget = OpenBudget()
    venue = venue_at(exchange, budget=budget)
    exchange.command("rest", path="/account", mode="status", status=429)
    with pytest.raises(VenueUnclear, match="account: HTTP 429"):
        venue.balances()
    assert budget.paused == []
    assert venue.submit(request()).status is VenueStatus.FILLED


def test_a_fill_may_be_faster_than_a_cancel(exchange: PrivateExchange) -> None:
    """The order is open when it is looked at and filled when its cancel arrives."""
    venue, one = venue_at(exchange), request("1", "99.5")
    venue.submit(one)
    call = venue._client.call

    def filled_first(method: str, path: str, **values: str | int) -> Any:
        if method == "DELETE":
            exchange.pin("99", "99.5")
        return call(method, path, **values)

    venue._client.call = filled_first  # type: ignore[method-assign]
    report = venue.cancel(one.client_order_id)
    exchange.pin("100", "101")
    assert report is not None
    assert (report.status, report.filled_quantity) == (VenueStatus.FILLED, D(1))


def test_fills_are_told_from_newer_pages_to_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.execution.venues.mexc.orders.PAGE_ROWS", 2)
    with private_exchange(tmp_path) as exchange:
        venue = venue_at(exchange, ("BTCUSDT",))
        orders = []
        for _ in range(5):
            exchange.pin("100", "101")
            orders.append(request("0.1"))
            venue.submit(orders[-1])
        fills = venue.fills_since(0)
        assert [name for name, _ in fills] == [one.client_order_id for one in orders]
        last_ms = fills[-1][1].fill.ts_event
        assert {name for name, _ in venue.fills_since(last_ms)} >= {orders[-1].client_order_id}
        assert venue.fills_since(last_ms + 1) == []
