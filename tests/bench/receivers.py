"""Who receives the flood without Redis: `python -m tests.bench.receivers KIND PORT CONNECTIONS WANTED FRAMES CORE`.

`ceiling` reads bytes and looks at none of them, `bare` is websocket-client's receive loop (a thread per connection),
`ccxt` is the user of `watchTrades`, a task per symbol. Each writes one line of JSON when it has everything, or has
given up, as ccxt does when a PONG comes late: `ended_ns` on the machine's monotonic clock, `cpu_seconds` of the
process while receiving, `trades` handed to its user.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import ccxt.pro
import websocket
from aiohttp._websocket.reader_py import MSG_SIZE_OVERHEAD
from ccxt.async_support.base.ws.client import Client

from tests.bench.flood import PRICE_DECIMALS, QUANTITY_DECIMALS, SYMBOLS, instruments, make_loads
from workers.ingest.channels import channels_of, spread

_READ_BYTES: Final = 1024 * 1024


def ceiling(port: int, connections: int, wanted: int, frames: int) -> dict[str, Any]:
    """As fast as the server can send."""
    sizes = [sum(map(len, load.chunks)) for load in make_loads(connections, wanted)]

    def drain(client: websocket.WebSocket, number: int) -> int:
        assert client.sock is not None
        buffer, left = bytearray(_READ_BYTES), sizes[number]
        while left > 0:
            left -= client.sock.recv_into(buffer)
        return 0

    return _in_threads(port, connections, drain)


def bare(port: int, connections: int, wanted: int, frames: int) -> dict[str, Any]:
    counts = [load.frames for load in make_loads(connections, wanted)]

    def drain(client: websocket.WebSocket, number: int) -> int:
        for _ in range(counts[number]):
            client.recv()
        return 0

    return _in_threads(port, connections, drain)


def _in_threads(port: int, connections: int, drain: Callable[[websocket.WebSocket, int], int]) -> dict[str, Any]:
    groups = spread(instruments(SYMBOLS[connections]))
    clients = []
    for group in groups:
        client = websocket.create_connection(f"ws://127.0.0.1:{port}/ws", timeout=60)
        client.send(json.dumps({"method": "SUBSCRIPTION", "params": channels_of([one.symbol for one in group])}))
        client.recv()
        clients.append(client)
    cpu = time.process_time()
    threads = [threading.Thread(target=drain, args=(client, number)) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"ended_ns": time.monotonic_ns(), "cpu_seconds": time.process_time() - cpu, "trades": 0}


class _Counting(ccxt.pro.mexc):  # type: ignore[misc]
    """Counts the frames that all its instances have worked through; at the price of an addition per frame."""

    done = 0
    wanted = 0
    all_done: asyncio.Event

    def handle_message(self, client: Any, message: Any) -> Any:
        outcome = super().handle_message(client, message)
        if isinstance(message, bytes):
            _Counting.done += 1
            if _Counting.done == _Counting.wanted:
                _Counting.all_done.set()
        return outcome


class _Buffer:
    """aiohttp's queue of messages as ccxt expects it.

    ccxt empties the queue behind aiohttp's back and gives the sizes back in one sum. Since aiohttp counts an overhead
    per message beside its size, the sum falls short, the queue counts as full when it is empty, and nothing is read
    any more (ccxt 4.5.64 with aiohttp 3.14.5: for ever, after some 2,000 frames). Naming the whole size mends that.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def __len__(self) -> int:
        return len(self._queue)

    def __getitem__(self, at: int) -> Any:
        return self._queue[at]

    def __setitem__(self, at: int, item: Any) -> None:
        self._queue[at] = item

    def popleft(self) -> tuple[Any, int]:
        message, size = self._queue.popleft()
        return message, size + MSG_SIZE_OVERHEAD


def _mend_queue() -> None:
    theirs = Client.buffer.fget
    Client.buffer = property(lambda client: None if (queue := theirs(client)) is None else _Buffer(queue))


def watch(port: int, connections: int, wanted: int, frames: int) -> dict[str, Any]:
    _mend_queue()
    return asyncio.new_event_loop().run_until_complete(_watch(port, connections, frames))


async def _watch(port: int, connections: int, frames: int) -> dict[str, Any]:
    _Counting.wanted, _Counting.all_done = frames, asyncio.Event()
    rows: set[tuple[Any, ...]] = set()
    tasks = []
    for group in spread(instruments(SYMBOLS[connections])):
        client = _client(port, [one.symbol for one in group])
        tasks += [asyncio.create_task(_follow(client, one.symbol, rows)) for one in group]
    cpu = time.process_time()
    done = asyncio.create_task(_Counting.all_done.wait())
    await asyncio.wait([done, *tasks], return_when=asyncio.FIRST_COMPLETED)  # a task ends only by an error
    ended_ns, cpu = time.monotonic_ns(), time.process_time() - cpu
    await asyncio.sleep(0.2)  # what was resolved last still reaches its user
    return {"ended_ns": ended_ns, "cpu_seconds": cpu, "trades": len(rows), "frames": _Counting.done}


async def _follow(client: Any, symbol: str, rows: set[tuple[Any, ...]]) -> None:
    name = f"{symbol.removesuffix('USDT')}/USDT"
    while True:
        for trade in await client.watch_trades(name):
            rows.add((symbol, trade["timestamp"], trade["price"], trade["amount"], trade["side"]))


def _client(port: int, symbols: list[str]) -> Any:
    """A client that knows its markets already, on a connection of its own."""
    client = _Counting({"enableRateLimit": False})
    client.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}/ws"
    precision = {"price": 10**-PRICE_DECIMALS, "amount": 10**-QUANTITY_DECIMALS}
    markets = [
        client.safe_market_structure(
            {
                "id": symbol,
                "symbol": f"{symbol.removesuffix('USDT')}/USDT",
                "base": symbol.removesuffix("USDT"),
                "quote": "USDT",
                "baseId": symbol.removesuffix("USDT"),
                "quoteId": "USDT",
                "type": "spot",
                "spot": True,
                "active": True,
                "precision": precision,
            }
        )
        for symbol in symbols
    ]
    client.set_markets(markets)
    return client


KINDS: Final = {"ceiling": ceiling, "bare": bare, "ccxt": watch}

if __name__ == "__main__":
    kind, (port, connections, wanted, frames, core) = sys.argv[1], map(int, sys.argv[2:])
    os.sched_setaffinity(0, {core})
    print(json.dumps(KINDS[kind](port, connections, wanted, frames)), flush=True)
    os._exit(0)  # sockets that are still read by somebody's tasks are closed by the system
