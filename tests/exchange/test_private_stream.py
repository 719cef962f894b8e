"""The private stream over real sockets: what an account is told, in which bytes, and when it is told no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import pytest

from proto.gen.push_pb2 import PushDataV3ApiWrapper
from tests.exchange.helpers import START_MS, Client, book_ticker, eventually, exchange, rows_of
from tests.proto.golden import GOLDEN_FRAMES
from workers.exchange.limits import Limits
from workers.exchange.private.accounts import Account
from workers.exchange.private.listen_keys import ListenKeys
from workers.exchange.private.orders import SELL, Deal, Order, Wish
from workers.exchange.private.signing import signature_of
from workers.exchange.private.stream import ACCOUNT, CHANNELS, DEALS, ORDERS, deal_message, order_message
from workers.exchange.server import ExchangeServer
from workers.exchange.synthetic import SyntheticSource

FIRST: Final = Account("first", "mx0testfirst00000000", "first's secret", {"USDT": Decimal(1_000), "BTC": Decimal(5)})
SECOND: Final = Account("second", "mx0testsecond0000000", "second's secret")
LIMITS: Final = Limits(tick_seconds=0.01)


class Customer:
    """One account at one exchange, over one HTTP session."""

    def __init__(self, server: ExchangeServer, http: aiohttp.ClientSession, account: Account) -> None:
        self.address = f"http://127.0.0.1:{server.port}"
        self.http = http
        self.server = server
        self._account = account

    async def ask(self, method: str, path: str, **values: str) -> Any:
        time_ms = self.server.hub.clock.now_ms() + self.server.rules.clock_skew_ms
        query = urlencode({**values, "timestamp": time_ms})
        url = f"{self.address}/api/v3/{path}?{query}&signature={signature_of(query, self._account.secret)}"
        headers = {"X-MEXC-APIKEY": self._account.api_key, "Content-Type": "application/json"}
        async with self.http.request(method, url, headers=headers) as answer:
            return await answer.json()

    async def order(self, **values: str) -> str:
        usual = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "90"}
        return str((await self.ask("POST", "order", **usual | values))["orderId"])

    @asynccontextmanager
    async def stream(self, *channels: str, key: str | None = None) -> AsyncIterator[Client]:
        """A socket with a listen key (a new one if none is given), subscribed."""
        listen_key = key or (await self.ask("POST", "userDataStream"))["listenKey"]
        async with self.http.ws_connect(f"{self.address}/ws?listenKey={listen_key}") as socket:
            client = Client(self.http, socket, self.address)
            if channels:
                assert await client.subscribe(*channels) == ",".join(channels)
            yield client


@asynccontextmanager
async def customers(limits: Limits = LIMITS, journal: Path | None = None) -> AsyncIterator[tuple[Customer, Customer]]:
    """Two accounts at one exchange where BTCUSDT stands at 100 to 101, 2 BTC on each side."""
    source = SyntheticSource(1, START_MS)
    options: dict[str, Any] = {"accounts": [FIRST, SECOND], "journal": journal, "limits": limits}
    async with exchange(source, **options) as server, aiohttp.ClientSession() as http:
        server.hub.clock.start()
        pin = {"do": "pin", "s": "BTCUSDT", "bid": "100", "ask": "101", "bid_quantity": "2", "ask_quantity": "2"}
        async with http.post(f"http://127.0.0.1:{server.port}/exchange/control", json=pin) as answer:
            assert answer.status == 200
        yield Customer(server, http, FIRST), Customer(server, http, SECOND)


def _bodies(client: Client, channel: str) -> list[Any]:
    return [getattr(frame, str(frame.WhichOneof("body"))) for frame in client.frames_of(channel)]


def test_an_order_its_fills_and_the_balances_are_told_in_order() -> None:
    async def run() -> None:
        async with customers() as (first, _), first.stream(*CHANNELS) as client:
            order_id = await first.order(quantity="3", price="101", newClientOrderId="own-1")
            await client.collect_until(lambda got: len(got.frames_of(ORDERS)) == 2)
            placed, partly = _bodies(client, ORDERS)
            assert (placed.id, placed.clientId, placed.status, placed.orderType) == (order_id, "own-1", 1, 1)
            assert (placed.remainQuantity, placed.remainAmount, placed.amount) == ("3", "303", "303")
            assert (partly.status, partly.lastDealQuantity, partly.cumulativeQuantity) == (3, "2", "2")
            assert (partly.remainQuantity, partly.avgPrice, partly.cumulativeAmount) == ("1", "101", "202")
            (deal,) = _bodies(client, DEALS)
            assert (deal.orderId, deal.clientOrderId, deal.price, deal.quantity) == (order_id, "own-1", "101", "2")
            assert (deal.feeAmount, deal.feeCurrency, deal.tradeType, deal.isMaker) == ("0.101", "USDT", 1, False)
            changes = [(row.vcoinName, row.type, row.balanceAmountChange) for row in _bodies(client, ACCOUNT)]
            assert changes == [
                ("USDT", "ENTRUST_PLACE", "-303.1515"),
                ("USDT", "ENTRUST", "0"),
                ("BTC", "ENTRUST", "2"),
                ("USDT", "TRADE_FEE", "0"),
            ]
            assert not client.frames_of(ACCOUNT)[0].HasField("symbol")
            (trade,) = await first.ask("GET", "myTrades", symbol="BTCUSDT")
            assert trade["id"] == deal.tradeId

    asyncio.run(run())


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ({"quantity": "1", "price": "101"}, [1, 2]),
        ({"quantity": "3", "price": "101", "type": "IMMEDIATE_OR_CANCEL"}, [1, 3, 5]),
        ({"quantity": "1", "price": "99", "type": "IMMEDIATE_OR_CANCEL"}, [1, 4]),
        ({"quantity": "3", "price": "101", "type": "FILL_OR_KILL"}, [1, 4]),
    ],
)
def test_statuses_follow_one_another_as_the_table_of_the_exchange_says(
    values: dict[str, str], statuses: list[int]
) -> None:
    async def run() -> None:
        async with customers() as (first, _), first.stream(ORDERS) as client:
            await first.order(**values)
            await client.collect_until(lambda got: len(got.frames) == len(statuses))
            assert [row.status for row in _bodies(client, ORDERS)] == statuses

    asyncio.run(run())


def test_nobody_is_told_of_another_account_and_nothing_that_was_not_subscribed() -> None:
    async def run() -> None:
        async with customers() as (first, second), first.stream(DEALS) as mine, second.stream(*CHANNELS) as other:
            await first.order(quantity="1", price="101")
            await mine.collect_until(lambda got: bool(got.frames))
            order_id = await second.order(quantity="1", price="101")
            await other.collect_until(lambda got: bool(got.frames_of(DEALS)))
            assert [row.orderId for row in _bodies(other, DEALS)] == [order_id]
            await mine.send("PING")
            await mine.next_text()
            assert [frame.channel for frame in mine.frames] == [DEALS]

    asyncio.run(run())


def test_private_channels_need_a_listen_key_and_public_ones_work_beside_them() -> None:
    async def run() -> None:
        async with customers() as (first, _):
            async with first.http.ws_connect(f"{first.address}/ws") as socket:
                refused = await Client(first.http, socket, first.address).subscribe(*CHANNELS)
                assert refused.startswith("Not Subscribed successfully!")
            async with first.stream(ORDERS) as client:
                assert await client.subscribe(book_ticker("BTCUSDT")) == book_ticker("BTCUSDT")
                await first.order()
                await client.collect_until(lambda got: len({frame.channel for frame in got.frames}) == 2)

    asyncio.run(run())


def test_a_wrong_listen_key_is_told_in_bare_text() -> None:
    async def run() -> None:
        async with customers() as (first, _), first.http.ws_connect(f"{first.address}/ws?listenKey=none") as socket:
            message = await socket.receive(timeout=5)
            assert (message.type, message.data) == (aiohttp.WSMsgType.TEXT, "Invalid listen key")
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE

    asyncio.run(run())


def test_listen_keys_are_made_listed_extended_and_closed() -> None:
    async def run() -> None:
        async with customers() as (first, second):
            keys = [(await first.ask("POST", "userDataStream"))["listenKey"] for _ in range(2)]
            assert (await first.ask("GET", "userDataStream"))["listenKey"] == keys
            assert await first.ask("PUT", "userDataStream", listenKey=keys[0]) == {"listenKey": keys[0]}
            assert (await second.ask("PUT", "userDataStream", listenKey=keys[0]))["code"] == "730708"
            assert await first.ask("DELETE", "userDataStream", listenKey=keys[0]) == {"listenKey": keys[0]}
            assert (await first.ask("GET", "userDataStream"))["listenKey"] == keys[1:]

    asyncio.run(run())


def test_an_account_has_so_many_keys_and_a_key_so_many_sockets() -> None:
    async def run() -> None:
        limits = Limits(tick_seconds=0.01, listen_keys_max=2, listen_key_sockets_max=1)
        async with customers(limits) as (first, _):
            keys = [(await first.ask("POST", "userDataStream"))["listenKey"] for _ in range(2)]
            assert (await first.ask("POST", "userDataStream"))["code"] == 33333
            one_more = f"{first.address}/ws?listenKey={keys[0]}"
            async with first.stream(ORDERS, key=keys[0]), first.http.ws_connect(one_more) as socket:
                assert (await socket.receive(timeout=5)).data == "Invalid listen key"
            async with first.stream(ORDERS, key=keys[0]):  # the place is free again
                pass

    asyncio.run(run())


def test_after_its_key_is_over_a_socket_is_told_nothing_more_and_not_closed() -> None:
    async def run() -> None:
        async with customers() as (first, _), first.stream(ORDERS) as client:
            await first.order()
            await client.collect_until(lambda got: bool(got.frames))
            await client.command("expire_listen_keys")
            await first.order()
            async with first.stream(ORDERS) as fresh:
                await first.order()
                await fresh.collect_until(lambda got: bool(got.frames))
            await client.send("PING")
            assert (await client.next_text())["msg"] == "PONG"
            assert len(client.frames) == 1

    asyncio.run(run())


def test_a_key_lives_as_long_as_it_is_extended() -> None:
    now = 0.0
    keys = ListenKeys(Limits(listen_key_seconds=3_600), lambda: now)
    key = keys.make("first")
    now = 3_599.9
    keys.extend("first", key)
    now = 7_199.8
    assert keys.account_of(key) == "first"
    now = 7_199.91
    assert keys.account_of(key) is None


@pytest.mark.parametrize(
    ("mode", "channel", "seen"),
    [
        ("drop", "deals", [2, 3]),
        ("duplicate", "deals", [1, 1, 2, 3]),
        ("reorder", "deals", [2, 1, 3]),
        ("late", "deals", [2, 3, 1]),
        ("drop", "orders", [1, 2, 3]),
    ],
)
def test_a_private_frame_can_be_lost_doubled_late_or_out_of_order(
    tmp_path: Path, mode: str, channel: str, seen: list[int]
) -> None:
    journal = tmp_path / "journal.jsonl"

    async def run() -> None:
        async with customers(journal=journal) as (first, _), first.stream(DEALS) as client:
            await client.command("private", mode=mode, channel=channel, stall=0.3)
            for number in (1, 2, 3):
                await first.order(quantity=f"0.{number}", price="101")
            await client.collect_until(lambda got: len(got.frames) == len(seen))
            assert [int(row.quantity.removeprefix("0.")) for row in _bodies(client, DEALS)] == seen

    asyncio.run(run())
    (struck,) = rows_of(journal, "fault")[1:]  # after the pin
    assert (struck["do"], struck["mode"]) == ("private", mode)
    assert channel in struck["channel"]


def test_silence_lasts_for_its_seconds_and_loses_what_happened() -> None:
    async def run() -> None:
        async with customers() as (first, _), first.stream(DEALS) as client:
            await client.command("private", mode="silence", seconds=60)
            await first.order(quantity="0.1", price="101")
            await eventually(lambda: not first.server.office.stream.waiting)
            await client.command("heal")
            await first.order(quantity="0.2", price="101")
            await client.collect_until(lambda got: bool(got.frames))
            assert [row.quantity for row in _bodies(client, DEALS)] == ["0.2"]

    asyncio.run(run())


def test_a_fill_may_be_told_before_its_order_is_acknowledged() -> None:
    async def run() -> None:
        async with customers() as (first, _), first.stream(DEALS) as client:
            await client.command("rest", mode="late", stall=3_600, path="/order", method="POST", after=True)
            asking = asyncio.create_task(first.order(quantity="1", price="101"))
            await client.collect_until(lambda got: bool(got.frames))
            assert not asking.done()
            asking.cancel()

    asyncio.run(run())


def test_the_clock_that_is_wrong_shows_in_the_frames() -> None:
    async def run() -> None:
        async with customers() as (first, _), first.stream(ORDERS) as client:
            await client.command("clock_skew", ms=-4_000)
            await first.order()
            await client.collect_until(lambda got: bool(got.frames))
            (frame,) = client.frames
            assert -4_100 < frame.sendTime - frame.privateOrders.createTime < -3_900

    asyncio.run(run())


def test_our_messages_are_the_known_frames_byte_for_byte() -> None:
    wish = Wish("MXUSDT", SELL, "MARKET", quantity=Decimal(1))
    deal = Deal(
        505979017439002624, Decimal("3.6962"), Decimal(1), Decimal("3.6962"), Decimal("0.0003998377369698171"), "MX",
        maker=False, time_ms=1_736_417_034_280,
    )  # fmt: skip
    order = Order("C02__505979017439002624115", wish, 1_736_417_034_259, 0, "MX", Decimal(0), "FILLED")
    order.executed, order.executed_amount, order.last_price = deal.quantity, deal.amount, deal.price
    order.deals.append(deal)
    known = {name: bytes.fromhex(text) for name, text in GOLDEN_FRAMES.items()}
    assert deal_message(order, deal, 1_736_417_034_332).SerializeToString() == known["private deal"]
    message = order_message(order, 1_736_417_034_281)
    assert message.privateOrders.price == "3.6962"
    message.privateOrders.price = "3.5121"  # the sample's market order shows another price than it traded at
    assert message.SerializeToString() == known["private order"]
    account = PushDataV3ApiWrapper.FromString(known["private account"])
    assert (account.channel, account.WhichOneof("body")) == (ACCOUNT, "privateAccount")
