"""Orders of every type against a market that is held where the test wants it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.helpers import PrivateExchange, private_exchange, rows_of


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PrivateExchange]:
    """100,000 USDT and 10 BTC; BTCUSDT stands at 100 to 101 with 2 BTC on each side; maker free, taker 0.05 %."""
    with private_exchange(tmp_path, account={"balances": {"USDT": "100000", "BTC": "10"}}) as served:
        served.pin("100", "101", "2")
        yield served


def _state(exchange: PrivateExchange, order_id: str) -> tuple[str, str, str]:
    status, order = exchange.signed("GET", "order", symbol="BTCUSDT", orderId=order_id)
    assert status == 200
    return order["status"], order["executedQty"], order["cummulativeQuoteQty"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"quantity": "1", "price": "101"}, ("FILLED", "1", "101")),
        ({"quantity": "1", "price": "105"}, ("FILLED", "1", "101")),
        ({"quantity": "1", "price": "100.99"}, ("NEW", "0", "0")),
        ({"quantity": "3", "price": "101"}, ("PARTIALLY_FILLED", "2", "202")),
        ({"quantity": "1", "price": "100", "side": "SELL"}, ("FILLED", "1", "100")),
        ({"quantity": "5", "price": "99.5", "side": "SELL"}, ("PARTIALLY_FILLED", "2", "200")),
        ({"quantity": "1", "price": "100.5", "type": "LIMIT_MAKER"}, ("NEW", "0", "0")),
        ({"quantity": "1", "price": "101", "type": "LIMIT_MAKER"}, ("CANCELED", "0", "0")),
        ({"quantity": "1", "price": "101", "type": "IMMEDIATE_OR_CANCEL"}, ("FILLED", "1", "101")),
        ({"quantity": "3", "price": "101", "type": "IMMEDIATE_OR_CANCEL"}, ("PARTIALLY_CANCELED", "2", "202")),
        ({"quantity": "3", "price": "100", "type": "IMMEDIATE_OR_CANCEL"}, ("CANCELED", "0", "0")),
        ({"quantity": "2", "price": "101", "type": "FILL_OR_KILL"}, ("FILLED", "2", "202")),
        ({"quantity": "2.1", "price": "101", "type": "FILL_OR_KILL"}, ("CANCELED", "0", "0")),
        ({"quoteOrderQty": "101.0505", "type": "MARKET"}, ("FILLED", "1", "101")),
        ({"quoteOrderQty": "500", "type": "MARKET"}, ("PARTIALLY_CANCELED", "2", "202")),
        ({"quantity": "2", "type": "MARKET", "side": "SELL"}, ("FILLED", "2", "200")),
        ({"quantity": "3", "type": "MARKET", "side": "SELL"}, ("PARTIALLY_CANCELED", "2", "200")),
    ],
)
def test_an_order_takes_what_stands_at_the_top_and_then_does_as_its_type_says(
    exchange: PrivateExchange, values: dict[str, str], expected: tuple[str, str, str]
) -> None:
    order = exchange.order(**values)
    assert _state(exchange, order["orderId"]) == expected
    if expected[0] not in ("NEW", "PARTIALLY_FILLED"):
        assert {locked for _, locked in exchange.balances().values()} == {"0"}


def test_the_acknowledgement_tells_neither_status_nor_fills_nor_the_callers_id(exchange: PrivateExchange) -> None:
    order = exchange.order(quantity="1", price="101", newClientOrderId="own-1")
    expected = {"symbol", "orderId", "orderListId", "price", "origQty", "type", "side", "transactTime"}
    assert set(order) == expected
    assert (order["orderListId"], order["price"], order["origQty"]) == (-1, "101", "1")


def test_the_size_at_the_top_is_taken_once_until_the_top_changes(exchange: PrivateExchange) -> None:
    exchange.order(quantity="1.5", price="101")
    second = exchange.order(quantity="1", price="101")["orderId"]
    assert _state(exchange, second) == ("PARTIALLY_FILLED", "0.5", "50.5")
    exchange.pin("100", "101", "2.1")
    assert _state(exchange, second) == ("FILLED", "1", "101")


def test_what_rests_fills_at_its_own_price_as_maker_oldest_first(exchange: PrivateExchange) -> None:
    first, second = (exchange.order(quantity="1", price="99")["orderId"] for _ in range(2))
    exchange.pin("98", "98.5", "1.5")
    assert (_state(exchange, first)[0], _state(exchange, second)) == ("FILLED", ("PARTIALLY_FILLED", "0.5", "49.5"))
    _, trades = exchange.signed("GET", "myTrades", symbol="BTCUSDT")
    assert [(row["orderId"], row["price"], row["qty"], row["isMaker"], row["commission"]) for row in trades] == [
        (second, "99", "0.5", True, "0"),
        (first, "99", "1", True, "0"),
    ]


def test_money_is_held_with_its_fee_and_what_is_left_comes_back(exchange: PrivateExchange) -> None:
    order = exchange.order(quantity="3", price="102")
    # 306 and 0.05 % of it were held; 2 at 101 cost 202.101.
    assert exchange.balances() == {"BTC": ("12", "0"), "USDT": ("99693.847", "104.052")}
    status, canceled = exchange.signed("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])
    assert (status, canceled["status"], canceled["executedQty"]) == (200, "PARTIALLY_CANCELED", "2")
    assert exchange.balances() == {"BTC": ("12", "0"), "USDT": ("99797.899", "0")}


def test_every_order_and_fill_is_in_the_journal_with_the_callers_id(exchange: PrivateExchange) -> None:
    exchange.order(quantity="3", price="101", newClientOrderId="own-1")
    order, *_ = rows_of(exchange.journal, "order")  # on disk before the answer
    assert (order["a"], order["client"], order["side"], order["q"], order["p"]) == ("test", "own-1", "BUY", "3", "101")
    (fill,) = rows_of(exchange.journal, "fill")
    assert (fill["client"], fill["q"], fill["fee"], fill["fee_asset"], fill["maker"]) == (
        "own-1", "2", "0.101", "USDT", False,
    )  # fmt: skip
    assert [row["status"] for row in rows_of(exchange.journal, "order_status")] == ["PARTIALLY_FILLED"]


def test_an_order_is_found_by_either_id_and_canceled_by_either(exchange: PrivateExchange) -> None:
    order_id = exchange.order(quantity="1", price="90", newClientOrderId="own-1")["orderId"]
    by_ours = exchange.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="own-1")
    assert by_ours == exchange.signed("GET", "order", orderId=order_id)
    assert by_ours[1]["clientOrderId"] == "own-1"
    assert exchange.signed("GET", "order", symbol="ETHUSDT", orderId=order_id)[1]["code"] == -2013
    assert exchange.signed("DELETE", "order", symbol="BTCUSDT", origClientOrderId="own-1")[1]["status"] == "CANCELED"
    assert exchange.signed("DELETE", "order", symbol="BTCUSDT", origClientOrderId="own-1")[1]["code"] == -2011


def test_open_orders_are_listed_and_canceled_by_symbols(exchange: PrivateExchange) -> None:
    exchange.pin("10", "11", symbol="ETHUSDT")
    bitcoin = [exchange.order(quantity="1", price=str(price))["orderId"] for price in (90, 91)]
    ether = exchange.order(symbol="ETHUSDT", quantity="1", price="9")["orderId"]
    _, both = exchange.signed("GET", "openOrders", symbol="BTCUSDT,ETHUSDT")
    assert [row["orderId"] for row in both] == [*bitcoin, ether]
    _, canceled = exchange.signed("DELETE", "openOrders", symbol="BTCUSDT")
    assert [(row["orderId"], row["status"]) for row in canceled] == [(one, "CANCELED") for one in bitcoin]
    _, left = exchange.signed("GET", "openOrders", symbol="BTCUSDT,ETHUSDT")
    assert [row["orderId"] for row in left] == [ether]
    _, every = exchange.signed("GET", "allOrders", symbol="BTCUSDT", limit=1)
    assert [row["orderId"] for row in every] == bitcoin[-1:]  # the newest


@pytest.mark.parametrize(
    ("account", "fee"),
    [
        ({}, ("0.0505", "USDT")),
        ({"taker_fee": "0.001"}, ("0.101", "USDT")),
        ({"fee_asset": "received"}, ("0.0005", "BTC")),
        ({"fee_asset": "MX", "mx_price": "2.5", "balances": {"USDT": "1000", "MX": "1"}}, ("0.0202", "MX")),
        ({"fee_asset": "MX", "balances": {"USDT": "1000", "MX": "0.01"}}, ("0.0505", "USDT")),
    ],
)
def test_a_fee_is_taken_in_the_accounts_asset(tmp_path: Path, account: dict[str, Any], fee: tuple[str, str]) -> None:
    with private_exchange(tmp_path, account=account) as exchange:
        exchange.pin("100", "101")
        before = exchange.balances().get(fee[1], ("0", "0"))[0]
        exchange.order(quantity="1", price="101")
        _, (trade,) = exchange.signed("GET", "myTrades", symbol="BTCUSDT")
        assert (trade["commission"], trade["commissionAsset"]) == fee
        if fee[1] == "MX":
            assert (before, exchange.balances()["MX"]) == ("1", ("0.9798", "0"))
        if fee[1] == "BTC":
            assert exchange.balances()["BTC"] == ("0.9995", "0")
