"""Small recordings, a running exchange, and a client that speaks to it over real sockets."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from apps.engine.recording import HEADER, InstrumentSpec, Recording, parse_recording
from proto.gen.push_pb2 import PushDataV3ApiWrapper
from workers.exchange.journal import Journal
from workers.exchange.limits import Limits
from workers.exchange.log import EventLog
from workers.exchange.market import MarketSource
from workers.exchange.private.accounts import read_account
from workers.exchange.private.signing import signature_of
from workers.exchange.replay import ReplaySource
from workers.exchange.server import ExchangeServer, running
from workers.exchange.synthetic import SyntheticSource

START_MS: Final = 1_700_000_040_000  # a whole minute
SYMBOLS: Final = ("ETHUSDT", "BTCUSDT", "XRPUSDT")
SPECS: Final = {
    "ETHUSDT": InstrumentSpec("ETHUSDT", "ETH", "USDT", 2, 5),
    "BTCUSDT": InstrumentSpec("BTCUSDT", "BTC", "USDT", 2, 6),
    "XRPUSDT": InstrumentSpec("XRPUSDT", "XRP", "USDT", 4, 0),
}
PRICES: Final = {"ETHUSDT": 340_000, "BTCUSDT": 9_500_000, "XRPUSDT": 24_000}


def random_rows(count: int, *, seed: int = 1, minutes: float = 30.0) -> list[str]:
    """Rows of all symbols spread over some minutes from START_MS on; some share a millisecond."""
    dice = random.Random(seed)
    times = sorted(START_MS + int(dice.random() * minutes * 60_000) for _ in range(count))
    rows = []
    for number, time_ms in enumerate(times):
        symbol = dice.choice(SYMBOLS)
        spec = SPECS[symbol]
        ticks = int(PRICES[symbol] * (1 + 0.02 * (dice.random() - 0.5)))
        price = f"{ticks / 10**spec.price_decimals:.{spec.price_decimals}f}"
        quantity = f"{(1 + int(dice.random() * 10_000)) / 10**spec.quantity_decimals:.{spec.quantity_decimals}f}"
        rows.append(f"{symbol},{time_ms},{7_000_000 + number},{dice.choice(['buy', 'sell'])},{price},{quantity}")
        if number and dice.random() < 0.2:
            rows[-1] = rows[-1].replace(str(time_ms), rows[-2].split(",")[1])
    return sorted(rows, key=lambda row: int(row.split(",")[1]))


def recording_of(rows: list[str]) -> Recording:
    return parse_recording([HEADER, *rows], "test.csv", SPECS)


def replay_of(rows: list[str], resume_ms: int | None = None) -> ReplaySource:
    return ReplaySource(recording_of(rows), resume_ms)


def deals(symbol: str, every: str = "100ms") -> str:
    return f"spot@public.aggre.deals.v3.api.pb@{every}@{symbol}"


def book_ticker(symbol: str, every: str = "100ms") -> str:
    return f"spot@public.aggre.bookTicker.v3.api.pb@{every}@{symbol}"


class Client:
    """A WebSocket client and a REST client of one exchange."""

    def __init__(self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, address: str) -> None:
        self.http = http
        self.socket = socket
        self.address = address
        self.frames: list[PushDataV3ApiWrapper] = []
        self.raw_frames: list[bytes] = []

    async def get(self, path: str, expected_status: int = 200) -> Any:
        async with self.http.get(f"{self.address}{path}") as answer:
            assert answer.status == expected_status, await answer.text()
            return await answer.json()

    async def status(self) -> Any:
        return await self.get("/exchange/status")

    async def send(self, method: str, *channels: str, request_id: int = 1) -> None:
        await self.socket.send_json({"method": method, "params": list(channels), "id": request_id})

    async def subscribe(self, *channels: str) -> str:
        """Subscribe and return the answer's message; data frames before it are kept."""
        await self.send("SUBSCRIPTION", *channels)
        return str((await self.next_text())["msg"])

    async def command(self, do: str, **options: Any) -> list[int]:
        """Order a fault; the numbers of the connections it means."""
        async with self.http.post(f"{self.address}/exchange/control", json={"do": do, **options}) as answer:
            assert answer.status == 200, await answer.text()
            found: list[int] = (await answer.json())["applied"][0]["c"]
            return found

    async def messages_until(
        self, done: Callable[[aiohttp.WSMessage], bool], timeout_seconds: float = 10.0
    ) -> list[aiohttp.WSMessage]:
        """Messages as they come, undecoded, up to the one that `done` says is the last."""
        messages: list[aiohttp.WSMessage] = []
        async with asyncio.timeout(timeout_seconds):
            while not messages or not done(messages[-1]):
                messages.append(await self.socket.receive())
        return messages

    async def next_text(self, timeout_seconds: float = 5.0) -> Any:
        """The next control answer."""
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    return message.json()
                self._keep(message)

    async def collect_until(self, done: Callable[[Client], bool], timeout_seconds: float = 20.0) -> None:
        """Keep data frames until `done` says so."""
        async with asyncio.timeout(timeout_seconds):
            while not done(self):
                self._keep(await self.socket.receive())

    async def closed(self, timeout_seconds: float = 5.0) -> int | None:
        """Wait until the server closes; the close code."""
        async with asyncio.timeout(timeout_seconds):
            while True:
                message = await self.socket.receive()
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                    return self.socket.close_code

    def _keep(self, message: aiohttp.WSMessage) -> None:
        assert message.type is aiohttp.WSMsgType.BINARY, message
        self.raw_frames.append(message.data)
        self.frames.append(PushDataV3ApiWrapper.FromString(message.data))

    def frames_of(self, channel: str) -> list[PushDataV3ApiWrapper]:
        return [frame for frame in self.frames if frame.channel == channel]

    def trade_ids(self, symbol: str) -> list[str]:
        return [deal.tradeId for frame in self.frames_of(deals(symbol)) for deal in frame.publicAggreDeals.deals]


async def eventually(condition: Callable[[], bool], timeout_seconds: float = 10.0) -> None:
    """Wait for something the server does without telling anyone."""
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - that is what "without telling anyone" means
            await asyncio.sleep(0.01)


@asynccontextmanager
async def exchange(
    source: MarketSource,
    *,
    speed: float = 1.0,
    limits: Limits | None = None,
    lines: list[str] | None = None,
    journal: Path | None = None,
    **options: Any,
) -> AsyncIterator[ExchangeServer]:
    """A running exchange; its log goes to `lines`."""
    log = EventLog(write=(lines if lines is not None else []).append)
    written = Journal(journal, source, lambda: 0)
    server = ExchangeServer(source, speed=speed, limits=limits, log=log, journal=written, **options)
    async with running(server):
        yield server


def rows_of(journal: Path, *kinds: str) -> list[dict[str, Any]]:
    """The journal's lines of some kinds."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    return [row for row in rows if row["k"] in kinds]


def numbers_sent(journal: Path, connection: int, symbol: str) -> list[int]:
    """Every number of a symbol that was sent to a connection, in order, repeated if it was sent twice."""
    sent = [row for row in rows_of(journal, "sent") if row["c"] == connection and row["s"] == symbol]
    return [number for row in sent for number in range(row["n"][0], row["n"][1] + 1)]


@asynccontextmanager
async def connected(server: ExchangeServer) -> AsyncIterator[Client]:
    """One client of the exchange."""
    async with aiohttp.ClientSession() as http:
        address = f"http://127.0.0.1:{server.port}"
        # The server may have made the socket unusable, so leaving waits for no farewell.
        socket = await http.ws_connect(f"{address}/ws", max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=0.2))
        try:
            yield Client(http, socket, address)
        finally:
            await socket.close()


@dataclass(frozen=True)
class PrivateExchange:
    """An exchange with one account, running in a thread of its own; everything here is plain blocking calls."""

    server: ExchangeServer
    key_file: Path
    secret_file: Path
    journal: Path
    timeout_seconds: float = 10.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}/ws"

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and document of any answer."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.url}{path}", body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def signed(self, method: str, path: str, **values: str | int) -> tuple[int, Any]:
        """A signed request at the exchange's own time; `path` without /api/v3/."""
        time_ms = self.server.hub.clock.now_ms() + self.server.rules.clock_skew_ms
        query = urlencode({**values, "recvWindow": 5_000, "timestamp": time_ms})
        signature = signature_of(query, self.secret_file.read_text().strip())
        key = self.key_file.read_text().strip()
        return self.request(method, f"/api/v3/{path}?{query}&signature={signature}", X_MEXC_APIKEY=key)

    def order(self, **values: str | int) -> Any:
        """A new order that is accepted: a limit purchase of BTCUSDT unless something else is said."""
        usual = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT"}
        status, document = self.signed("POST", "order", **usual | values)
        assert status == 200, document
        return document

    def command(self, do: str, **options: Any) -> None:
        """A fault, or a change of the market: `pin` holds a symbol's top of the book."""
        body = json.dumps({"do": do, **options}).encode()
        status, document = self.request("POST", "/exchange/control", body)
        assert status == 200, document

    def pin(self, bid: str, ask: str, quantity: str = "1000", symbol: str = "BTCUSDT") -> None:
        """Hold the top of the book, both sizes alike."""
        self.command("pin", s=symbol, bid=bid, ask=ask, bid_quantity=quantity, ask_quantity=quantity)

    def account(self) -> Any:
        """The account as it truly stands, whatever its own requests are told."""
        return self.request("GET", "/exchange/accounts")[1][0]

    def balances(self) -> dict[str, tuple[str, str]]:
        """Asset -> free, locked."""
        return {row["asset"]: (row["free"], row["locked"]) for row in self.account()["balances"]}


@contextmanager
def private_exchange(
    directory: Path,
    *,
    account: Mapping[str, Any] | None = None,
    source: MarketSource | None = None,
    speed: float = 1.0,
    rate: float = 1.0,
    limits: Limits | None = None,
    started: bool = True,
) -> Iterator[PrivateExchange]:
    """An exchange with an account (100,000 USDT unless `account` says otherwise) whose event time runs at once.

    Not `started`, it stands until somebody subscribes to trades, as always, or `server.hub.clock.start()`.

    Its files lie in `directory`: `test.key` and `test.secret` with mode 0600, and the journal.
    """
    path = directory / "test.json"
    path.write_text(json.dumps(account or {}))
    served = source or SyntheticSource(1, START_MS)
    journal = directory / "journal.jsonl"
    server = ExchangeServer(
        served,
        speed=speed,
        rate=rate,
        limits=limits,
        log=EventLog(write=lambda _: None),
        journal=Journal(journal, served, lambda: 0),
        accounts=[read_account(path)],
    )
    ready, loops = threading.Event(), []
    stop = asyncio.Event()

    async def run() -> None:
        async with running(server):
            if started:
                server.hub.clock.start()
            loops.append(asyncio.get_running_loop())
            ready.set()
            await server.run_until(stop)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield PrivateExchange(server, path.with_suffix(".key"), path.with_suffix(".secret"), journal)
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join(20)
