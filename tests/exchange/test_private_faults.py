"""Requests that are carried out and answered wrongly, or answered wrongly and not carried out."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.exchange.helpers import START_MS, PrivateExchange, connected, private_exchange, rows_of
from tests.exchange.helpers import exchange as public_exchange
from workers.exchange.private.signing import signature_of
from workers.exchange.synthetic import SyntheticSource

ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "101"}


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[PrivateExchange]:
    with private_exchange(tmp_path) as served:
        served.pin("100", "101", "2")
        yield served


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateExchange]:
    """For a table of orders, each with an id of its own."""
    with private_exchange(tmp_path_factory.mktemp("faults")) as served:
        served.pin("100", "101", "1000")
        yield served


def _answer(exchange: PrivateExchange, client_id: str = "own-1") -> Any:
    """What a caller gets for an order: status and text, or the kind of failure."""
    try:
        return exchange.signed("POST", "order", **ORDER, newClientOrderId=client_id)
    except (http.client.HTTPException, ConnectionError):
        return "cut"
    except TimeoutError:
        return "silence"
    except json.JSONDecodeError:
        return "no JSON"


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"mode": "reset"}, "cut"),
        ({"mode": "status", "status": 503}, (503, {"code": 503, "msg": "on command"})),
        ({"mode": "status", "status": 500}, (500, {"code": 500, "msg": "on command"})),
        ({"mode": "html"}, "no JSON"),
        ({"mode": "broken_json"}, "no JSON"),
        ({"mode": "wrong_json"}, (200, {"unexpected": [1, None, {"price": True}]})),
        ({"mode": "error", "status": 200, "code": 30016}, (200, {"code": 30016, "msg": "on command"})),
        ({"mode": "error", "status": 400, "code": 700003}, (400, {"code": 700003, "msg": "on command"})),
        ({"mode": "error", "status": 400, "code": "10101"}, (400, {"code": "10101", "msg": "on command"})),
        ({"mode": "status", "status": 429, "retry_after": 3}, (429, {"code": 429, "msg": "on command"})),
    ],
)
def test_the_answer_alone_does_not_tell_whether_an_order_was_accepted(
    one_for_all: PrivateExchange, options: dict[str, Any], answer: Any, after: bool
) -> None:
    exchange, client_id = one_for_all, f"own-{len(rows_of(one_for_all.journal, 'command'))}"
    exchange.command("rest", path="/order", method="POST", after=after, **options)
    assert _answer(exchange, client_id) == answer
    accepted = [row["client"] for row in rows_of(exchange.journal, "order")]
    assert accepted.count(client_id) == int(after)
    status, order = exchange.signed("GET", "order", symbol="BTCUSDT", origClientOrderId=client_id)
    assert (status, order.get("status"), order.get("code")) == ((200, "FILLED", None) if after else (400, None, -2013))
    assert _answer(exchange, client_id)[1].get("code") == (-2010 if after else None)
    exchange.command("heal")  # and write the journal
    *_, struck = rows_of(exchange.journal, "fault")
    assert (struck["do"], struck["mode"], struck["after"], struck["method"]) == ("rest", options["mode"], after, "POST")


def test_a_refused_request_does_not_use_up_a_fault_that_waits_for_an_accepted_one(exchange: PrivateExchange) -> None:
    exchange.command("rest", path="/order", method="POST", after=True, status=502)
    assert exchange.signed("POST", "order", **ORDER | {"quantity": "0"})[1]["code"] == 10102
    assert exchange.signed("GET", "openOrders", symbol="BTCUSDT") == (200, [])
    assert _answer(exchange)[0] == 502


@pytest.mark.parametrize("after", [True, False])
def test_a_request_may_never_be_answered(exchange: PrivateExchange, after: bool) -> None:
    exchange.command("rest", mode="timeout", path="/order", method="POST", after=after)
    assert _answer(replace(exchange, timeout_seconds=0.3)) == "silence"
    expected = "FILLED" if after else None
    assert exchange.signed("GET", "order", origClientOrderId="own-1")[1].get("status") == expected


@pytest.mark.parametrize("after", [True, False])
def test_an_answer_may_be_late(exchange: PrivateExchange, after: bool) -> None:
    exchange.command("rest", mode="late", stall=0.1, path="/order", method="POST", after=after)
    started_ms = exchange.server.hub.clock.now_ms()
    status, order = _answer(exchange)
    assert status == 200
    assert exchange.server.hub.clock.now_ms() - started_ms >= 100
    assert (order["transactTime"] - started_ms >= 100) is not after


def test_the_clock_of_the_exchange_can_be_wrong_and_then_refuses_honest_times(exchange: PrivateExchange) -> None:
    exchange.command("clock_skew", ms=10_000)
    key, secret = (path.read_text().strip() for path in (exchange.key_file, exchange.secret_file))
    query = f"timestamp={exchange.server.hub.clock.now_ms()}"
    path = f"/api/v3/account?{query}&signature={signature_of(query, secret)}"
    assert exchange.request("GET", path, X_MEXC_APIKEY=key)[1]["code"] == 700003
    assert exchange.signed("GET", "openOrders", symbol="BTCUSDT")[0] == 200  # asks by the time that it is told
    shown_ms = exchange.request("GET", "/api/v3/time")[1]["serverTime"]
    assert 9_000 < shown_ms - exchange.server.hub.clock.now_ms() <= 10_000


def test_trades_may_come_to_rest_after_the_fill(exchange: PrivateExchange) -> None:
    exchange.command("rest_lag", ms=3_600_000)
    exchange.order(**ORDER)
    assert exchange.signed("GET", "openOrders", symbol="BTCUSDT") == (200, [])
    assert exchange.signed("GET", "myTrades", symbol="BTCUSDT") == (200, [])
    exchange.command("heal")
    assert len(exchange.signed("GET", "myTrades", symbol="BTCUSDT")[1]) == 1


@pytest.mark.parametrize(
    "command",
    [
        {"do": "private", "mode": "loud"},
        {"do": "private", "channel": "trades"},
        {"do": "pin", "bid": "1"},
        {"do": "pin", "s": "NONEUSDT", "bid": "1"},
        {"do": "pin", "s": "BTCUSDT", "bid": 1},
        {"do": "pin", "s": "BTCUSDT", "bid": "-1"},
        {"do": "symbol_rules", "s": "BTCUSDT", "side_type": 5},
        {"do": "rest", "mode": "error", "code": None},
        {"do": "rest", "method": "PATCH"},
    ],
)
def test_a_command_that_makes_no_sense_is_refused(one_for_all: PrivateExchange, command: dict[str, Any]) -> None:
    assert one_for_all.request("POST", "/exchange/control", json.dumps(command).encode())[0] == 400


def test_without_an_account_there_is_nothing_to_command_or_to_sign(tmp_path: Path) -> None:
    async def run() -> None:
        async with public_exchange(SyntheticSource(1, START_MS)) as server, connected(server) as client:
            answer = await client.http.post(f"{client.address}/exchange/control", json={"do": "private"})
            assert (answer.status, (await answer.json())["msg"]) == (400, "private needs an account")
            assert (await client.get("/api/v3/account", 404))["code"] == 404

    asyncio.run(run())
