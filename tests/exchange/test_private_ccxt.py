"""An independent client library trades on the private half: it signs, reads and listens as with the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

import ccxt.pro
import pytest
from ccxt.protobuf.mexc.PushDataV3ApiWrapper_pb2 import PushDataV3ApiWrapper as ForeignWrapper

from tests.exchange.helpers import START_MS, eventually, exchange
from workers.exchange.limits import Limits
from workers.exchange.private.accounts import Account
from workers.exchange.private.orders import BUY, Deal, Order, Wish
from workers.exchange.private.stream import balance_message, deal_message, order_message
from workers.exchange.private.terms import Top
from workers.exchange.private.wallet import BalanceChange
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import MarketShape, SyntheticSource

ACCOUNT: Final = Account("test", "mx0testccxt000000", "a secret", {"USDT": Decimal(1_000), "BTC": Decimal(1)})
SYMBOL: Final = "BTC/USDT"


@asynccontextmanager
async def trading() -> AsyncIterator[tuple[Any, ExchangeServer]]:
    """The library with a key, at an exchange where BTCUSDT stands at 100 to 101, 2 BTC on each side."""
    source = SyntheticSource(1, START_MS, shape=MarketShape(("BTCUSDT",)))
    async with exchange(source, accounts=[ACCOUNT], limits=Limits(tick_seconds=0.01)) as server:
        server.hub.clock.start()
        server.office.desk.pin("BTCUSDT", Top(Decimal(100), Decimal(2), Decimal(101), Decimal(2)))
        address = f"127.0.0.1:{server.port}"
        keys = {"apiKey": ACCOUNT.api_key, "secret": ACCOUNT.secret}
        client = ccxt.pro.mexc({**keys, "enableRateLimit": False, "options": {"defaultType": "spot"}})
        client.has["fetchCurrencies"] = False  # deposits and withdrawals are not reproduced
        client.urls["api"] = {
            "spot": {"public": f"http://{address}", "private": f"http://{address}"},
            "contract": {"public": f"http://{address}/api/v1/contract", "private": f"http://{address}/api/v1/private"},
            "ws": {"spot": f"ws://{address}/ws", "swap": f"ws://{address}/ws"},
        }
        try:
            await client.load_time_difference()
            await client.load_markets()
            yield client, server
        finally:
            await client.close()


def play(story: Callable[[Any, ExchangeServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), trading() as (client, server):
            await story(client, server)

    asyncio.run(run())


def test_it_places_finds_and_cancels_an_order() -> None:
    async def story(client: Any, _: ExchangeServer) -> None:
        placed = await client.create_order(SYMBOL, "limit", "buy", 1, 90, {"clientOrderId": "own-1"})
        assert (placed["status"], placed["filled"], placed["clientOrderId"]) == (
            None,
            None,
            None,
        )  # an ack says no more
        found = await client.fetch_order(placed["id"], SYMBOL)
        assert (found["status"], found["clientOrderId"], found["remaining"]) == ("open", "own-1", 1)
        assert (await client.fetch_order("", SYMBOL, {"clientOrderId": "own-1"}))["id"] == placed["id"]
        assert [order["id"] for order in await client.fetch_open_orders(SYMBOL)] == [placed["id"]]
        assert (await client.cancel_order(placed["id"], SYMBOL))["status"] == "canceled"
        assert await client.fetch_open_orders(SYMBOL) == []
        assert [order["status"] for order in await client.fetch_orders(SYMBOL)] == ["canceled"]

    play(story)


def test_it_trades_and_reads_its_balance_and_its_trades() -> None:
    async def story(client: Any, server: ExchangeServer) -> None:
        order = await client.create_order(SYMBOL, "limit", "buy", 3, 101)
        found = await client.fetch_order(order["id"], SYMBOL)
        assert (found["status"], found["filled"], found["cost"], found["average"]) == ("open", 2, 202, 101)
        (trade,) = await client.fetch_my_trades(SYMBOL)
        assert (trade["order"], trade["amount"], trade["price"]) == (order["id"], 2, 101)
        assert (trade["takerOrMaker"], trade["fee"]["currency"], trade["fee"]["cost"]) == ("taker", "USDT", 0.101)
        balance = await client.fetch_balance()
        wallet = server.office.desk.books["test"].wallet
        for asset in ("USDT", "BTC"):
            assert Decimal(str(balance[asset]["free"])) == wallet.free(asset)
            assert Decimal(str(balance[asset]["used"])) == wallet.locked(asset)
        assert [one["id"] for one in await client.cancel_all_orders(SYMBOL)] == [order["id"]]

    play(story)


@pytest.mark.parametrize(
    ("kind", "side", "amount", "price", "options", "status"),
    [
        ("market", "sell", 0.5, None, {}, "closed"),
        ("market", "buy", 1, None, {"cost": 50}, "closed"),
        ("limit", "buy", 1, 101, {"timeInForce": "IOC"}, "closed"),
        ("limit", "buy", 3, 101, {"timeInForce": "FOK"}, "canceled"),
        ("limit", "buy", 1, 101, {"postOnly": True}, "canceled"),
        ("limit", "buy", 1, 100, {"postOnly": True}, "open"),
    ],
)
def test_its_types_of_orders_are_understood(
    kind: str, side: str, amount: float, price: float | None, options: dict[str, Any], status: str
) -> None:
    async def story(client: Any, _: ExchangeServer) -> None:
        order = await client.create_order(SYMBOL, kind, side, amount, price, options)
        assert (await client.fetch_order(order["id"], SYMBOL))["status"] == status

    play(story)


def test_its_errors_are_the_ones_it_knows() -> None:
    async def story(client: Any, _: ExchangeServer) -> None:
        with pytest.raises(ccxt.InsufficientFunds):
            await client.create_order(SYMBOL, "limit", "buy", 100, 90)
        with pytest.raises(ccxt.InvalidOrder, match="cannot be less than:1USDT"):
            await client.create_order(SYMBOL, "limit", "buy", 0.001, 90)
        with pytest.raises(ccxt.BadRequest):
            await client.cancel_order("C02__9", SYMBOL)
        client.options["timeDifference"] += 60_000
        with pytest.raises(ccxt.InvalidNonce):
            await client.fetch_balance()
        client.options["timeDifference"] -= 60_000
        client.secret = "another"
        with pytest.raises(ccxt.AuthenticationError):
            await client.fetch_balance()

    play(story)


def test_it_watches_orders_trades_and_balances() -> None:
    async def story(client: Any, server: ExchangeServer) -> None:
        watches = (client.watch_orders, client.watch_my_trades, client.watch_balance)
        watching = [asyncio.create_task(watch()) for watch in watches]
        await eventually(lambda: sum(len(one.private_channels) for one in server.hub.connections) == 3)
        placed = await client.create_order(SYMBOL, "limit", "buy", 1, 101, {"clientOrderId": "own-1"})
        orders, trades, balance = await asyncio.gather(*watching)
        assert (orders[0]["id"], orders[0]["clientOrderId"]) == (placed["id"], "own-1")
        assert (trades[0]["order"], trades[0]["amount"], trades[0]["price"]) == (placed["id"], 1, 101)
        assert balance["USDT"]["used"] is not None

    play(story)


def test_its_own_messages_read_ours_to_the_last_field() -> None:
    wish = Wish("BTCUSDT", BUY, "LIMIT", Decimal(101), Decimal(3), client_id="own-1")
    deal = Deal(7, Decimal(101), Decimal(2), Decimal(202), Decimal("0.101"), "USDT", maker=False, time_ms=START_MS)
    order = Order("C02__5", wish, START_MS, START_MS, "USDT", Decimal(0), "PARTIALLY_FILLED", Decimal(2), Decimal(202))
    order.deals.append(deal)
    change = BalanceChange("USDT", Decimal(1), Decimal(-2), Decimal(3), Decimal(2), "ENTRUST_PLACE")
    for message in (order_message(order, 1), deal_message(order, deal, 2), balance_message(change, 3)):
        theirs = ForeignWrapper.FromString(message.SerializeToString())
        assert theirs.WhichOneof("body") == message.WhichOneof("body")
        assert theirs.SerializeToString() == message.SerializeToString()
        body, foreign = (getattr(one, str(one.WhichOneof("body"))) for one in (message, theirs))
        assert [(field.name, value) for field, value in foreign.ListFields()] == [
            (field.name, value) for field, value in body.ListFields()
        ]
