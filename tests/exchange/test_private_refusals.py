"""What an order is refused for: filters, rights, means, and the code for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.helpers import PrivateExchange, private_exchange, rows_of
from workers.exchange.limits import Limits

LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "100"}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quoteOrderQty": "100"}
SALE = MARKET | {"side": "SELL", "quantity": "1", "quoteOrderQty": ""}


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateExchange]:
    """One exchange for the whole table: what is refused leaves nothing behind. BTCUSDT stands at 100 to 101."""
    account = {"balances": {"USDT": "9000000", "BTC": "10"}, "symbols": ["BTCUSDT"]}
    with private_exchange(tmp_path_factory.mktemp("refusals"), account=account) as served:
        served.pin("100", "101", "2")
        yield served


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (LIMIT | {"symbol": ""}, 44444),
        (LIMIT | {"symbol": "NONEUSDT"}, -1121),
        (LIMIT | {"symbol": "ETHUSDT"}, 10007),
        (LIMIT | {"side": ""}, 44444),
        (LIMIT | {"side": "buy"}, 33333),
        (LIMIT | {"type": ""}, 44444),
        (LIMIT | {"type": "STOP"}, 33333),
        (LIMIT | {"quantity": ""}, 44444),
        (LIMIT | {"quantity": "one"}, 33333),
        (LIMIT | {"quantity": "1e3"}, 33333),
        (LIMIT | {"quantity": "NaN"}, 33333),
        (LIMIT | {"quantity": "0"}, 10102),
        (LIMIT | {"quantity": "-1"}, 10102),
        (LIMIT | {"quantity": "1.0000001"}, 10096),
        (LIMIT | {"price": ""}, 44444),
        (LIMIT | {"price": "0"}, 30010),
        (LIMIT | {"price": "-100"}, 30010),
        (LIMIT | {"price": "100.001"}, 33333),
        (LIMIT | {"quantity": "0.009999"}, 30002),
        (LIMIT | {"quantity": "1", "price": "4000000.01"}, 30003),
        (LIMIT | {"quantity": "90000.1"}, 30003),
        (LIMIT | {"side": "SELL", "quantity": "10.000001"}, 30005),
        (LIMIT | {"quantity": "39000", "type": "LIMIT_MAKER"}, None),
        (LIMIT | {"newClientOrderId": "x" * 33}, 33333),
        (LIMIT | {"newClientOrderId": "own id"}, 700008),
        (LIMIT | {"newClientOrderId": "x" * 32}, None),
        (MARKET, None),
        (MARKET | {"quoteOrderQty": ""}, 44444),
        (MARKET | {"quoteOrderQty": "", "quantity": "1"}, 44444),
        (MARKET | {"quoteOrderQty": "0.99"}, 30002),
        (MARKET | {"quoteOrderQty": "4000000.01"}, 30003),
        (MARKET | {"quoteOrderQty": "100.123456789"}, 10096),
        (SALE, None),
        (SALE | {"quantity": ""}, 44444),
        (SALE | {"quantity": "0.0099"}, 30002),
    ],
)
def test_an_order_that_cannot_be_is_refused_and_leaves_nothing(
    exchange: PrivateExchange, values: dict[str, str], code: int | None
) -> None:
    before = exchange.account()
    given = {name: value for name, value in values.items() if value}
    status, document = exchange.signed("POST", "order/test", **given)
    assert (status, document.get("code")) == ((200, None) if code is None else (400, code))
    if code is not None:
        assert exchange.signed("POST", "order", **given)[1]["code"] == code
    assert exchange.account() == before
    assert not rows_of(exchange.journal, "order")


def test_the_texts_carry_the_numbers(exchange: PrivateExchange) -> None:
    least = exchange.signed("POST", "order/test", **LIMIT | {"quantity": "0.009"})[1]["msg"]
    most = exchange.signed("POST", "order/test", **LIMIT | {"quantity": "50000"})[1]["msg"]
    assert least == "The minimum transaction volume cannot be less than:1USDT"
    assert most.endswith(":4000000USDT")


@pytest.mark.parametrize(
    ("rules", "values", "code"),
    [
        ({"suspended": True}, LIMIT, 30000),
        ({"api_allowed": False}, LIMIT, 10007),
        ({"side_type": 3}, LIMIT, 30001),
        ({"side_type": 2}, LIMIT | {"side": "SELL"}, 30001),
        ({"side_type": 4}, LIMIT, 30016),
        ({"side_type": 2}, LIMIT, None),
        ({"market_orders": False}, MARKET, 30019),
        ({"market_orders": False}, LIMIT, None),
        ({"notional_min": "100.01"}, LIMIT, 30002),
        ({"notional_min": "100"}, LIMIT, None),
        ({"price_band": "0.005"}, LIMIT | {"price": "101.5"}, None),
        ({"price_band": "0.005"}, LIMIT | {"price": "101.51"}, 30087),
        ({"price_band": "0.005"}, LIMIT | {"price": "99.5", "side": "SELL"}, None),
        ({"price_band": "0.005"}, LIMIT | {"price": "99.49", "side": "SELL"}, 30087),
    ],
)
def test_a_symbols_rules_can_change(
    exchange: PrivateExchange, rules: dict[str, Any], values: dict[str, str], code: int | None
) -> None:
    exchange.command("symbol_rules", s="BTCUSDT", **rules)
    assert exchange.signed("POST", "order/test", **values)[1].get("code") == code
    exchange.command("heal")
    assert exchange.signed("POST", "order/test", **values) == (200, {})


def test_changed_rules_show_in_the_list_of_symbols(exchange: PrivateExchange) -> None:
    path = "/api/v3/exchangeInfo?symbol=BTCUSDT"
    plain = exchange.request("GET", path)[1]["symbols"][0]
    exchange.command("symbol_rules", s="BTCUSDT", suspended=True, notional_min="5", price_band="0.01", side_type=2)
    changed = exchange.request("GET", path)[1]["symbols"][0]
    assert {name: value for name, value in changed.items() if value != plain[name]} == {
        "status": "2",
        "quoteAmountPrecision": "5",
        "quoteAmountPrecisionMarket": "5",
        "tradeSideType": 2,
        "filters": [{"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "0.01", "askMultiplierDown": "0.01"}],
    }
    exchange.command("heal")
    assert exchange.request("GET", path)[1]["symbols"][0] == plain


def test_nobody_on_the_other_side_is_a_refusal_for_what_cannot_wait(exchange: PrivateExchange) -> None:
    exchange.command("pin", s="BTCUSDT", ask="0", ask_quantity="0")
    for values in (MARKET, LIMIT | {"type": "FILL_OR_KILL"}, LIMIT | {"type": "IMMEDIATE_OR_CANCEL"}):
        assert exchange.signed("POST", "order/test", **values)[1]["code"] == 30025
    assert exchange.signed("POST", "order/test", **LIMIT) == (200, {})
    exchange.pin("100", "101", "2")


def test_a_symbol_that_is_listed_no_more_takes_no_orders_but_gives_those_it_has_back(tmp_path: Path) -> None:
    with private_exchange(tmp_path) as exchange:
        order_id = exchange.order(**LIMIT)["orderId"]
        exchange.command("delist", s="BTCUSDT")
        assert exchange.signed("POST", "order", **LIMIT)[1]["code"] == -1121
        assert exchange.signed("GET", "openOrders", symbol="BTCUSDT")[1][0]["orderId"] == order_id
        assert exchange.signed("DELETE", "order", symbol="BTCUSDT", orderId=order_id)[1]["status"] == "CANCELED"
        assert exchange.balances()["USDT"] == ("100000", "0")


def test_a_key_without_the_right_to_trade_places_nothing(tmp_path: Path) -> None:
    with private_exchange(tmp_path, account={"can_trade": False}) as exchange:
        assert exchange.signed("POST", "order", **LIMIT)[1]["code"] == 700007
        assert exchange.signed("GET", "account")[1]["canTrade"] is False


def test_an_id_is_used_once_for_ever_and_the_second_order_never_exists(tmp_path: Path) -> None:
    with private_exchange(tmp_path) as exchange:
        exchange.pin("100", "101", "2")
        own = {**LIMIT, "newClientOrderId": "own-1"}
        order_id = exchange.order(**own)["orderId"]
        assert exchange.signed("POST", "order", **own)[1]["code"] == -2010
        exchange.signed("DELETE", "order", symbol="BTCUSDT", orderId=order_id)
        assert exchange.signed("POST", "order", **own)[1]["code"] == -2010
        assert len(rows_of(exchange.journal, "order")) == 1


@pytest.mark.parametrize(
    ("method", "path", "values", "code"),
    [
        ("GET", "order", {"symbol": "BTCUSDT"}, 700004),
        ("GET", "order", {"symbol": "BTCUSDT", "orderId": "C02__9"}, -2013),
        ("DELETE", "order", {"symbol": "BTCUSDT"}, 700004),
        ("DELETE", "order", {"orderId": "C02__9"}, 44444),
        ("DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "none"}, -2011),
        ("GET", "openOrders", {}, 44444),
        ("GET", "openOrders", {"symbol": "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,ADAUSDT,LTCUSDT"}, 33333),
        ("GET", "openOrders", {"symbol": "BTCUSDT,NONE"}, -1121),
        ("GET", "allOrders", {"symbol": "BTCUSDT", "limit": "none"}, 33333),
        ("GET", "myTrades", {}, 44444),
        ("GET", "tradeFee", {"symbol": "NONE"}, -1121),
        ("POST", "mxDeduct/enable", {}, 44444),
        ("POST", "mxDeduct/enable", {"mxDeductEnable": "yes"}, 33333),
        ("PUT", "userDataStream", {"listenKey": "none"}, "730708"),
        ("DELETE", "userDataStream", {}, "730708"),
    ],
)
def test_other_requests_are_refused_with_their_codes(
    exchange: PrivateExchange, method: str, path: str, values: dict[str, str], code: int | str
) -> None:
    status, document = exchange.signed(method, path, **values)
    assert (status, document["code"]) == (400, code)


def test_the_account_may_be_asked_twice_a_second(tmp_path: Path) -> None:
    with private_exchange(tmp_path, limits=Limits(), rate=0.001) as exchange:  # so a second lasts long enough
        assert [exchange.signed("GET", "account")[0] for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("method", "path", "weight"),
    [("POST", "order/test", 1), ("GET", "openOrders", 3), ("DELETE", "openOrders", 1), ("GET", "account", 10)],
)
def test_signed_requests_weigh_by_method_and_spend_the_budget_of_all(
    tmp_path: Path, method: str, path: str, weight: int
) -> None:
    limits = Limits(rest_weight_max=weight, rest_window_seconds=1_000)
    with private_exchange(tmp_path, limits=limits) as exchange:
        assert exchange.signed(method, path, **LIMIT)[0] == 200
        assert exchange.request("GET", "/exchange/status")[1]["rest"]["weight"] == weight
        assert exchange.signed(method, path, **LIMIT)[0] == 429


def test_what_a_key_may_trade_and_what_it_pays(exchange: PrivateExchange) -> None:
    assert exchange.signed("GET", "selfSymbols")[1]["data"] == ["BTCUSDT"]
    fee = exchange.signed("GET", "tradeFee", symbol="BTCUSDT")[1]
    assert (fee["code"], fee["data"]) == (0, {"makerCommission": 0.0, "takerCommission": 0.0005})
    assert exchange.signed("POST", "mxDeduct/enable", mxDeductEnable="true")[1]["data"] == {"mxDeductEnable": True}
    assert exchange.signed("GET", "mxDeduct/enable")[1]["data"] == {"mxDeductEnable": True}
