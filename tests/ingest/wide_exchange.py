"""A load for the benchmark: many symbols on many connections, one or two trades and a quote each per 100 ms.

`python -m tests.ingest.wide_exchange PORT`. One quote in five is a change.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import count

from websockets.asyncio.server import ServerConnection, serve

from tests.ingest.market import deals_frame, quote_frame
from workers.ingest.channels import DEALS_PREFIX

ROUND_SECONDS = 0.1
_ids = count(730_292_425_000_000_000)


async def _visit(connection: ServerConnection) -> None:
    request = json.loads(await connection.recv())
    names = request["params"]
    symbols = [name.removeprefix(DEALS_PREFIX) for name in names if name.startswith(DEALS_PREFIX)]
    await connection.send(json.dumps({"id": request["id"], "code": 0, "msg": ",".join(names)}))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_answer(connection))
        tasks.create_task(_feed(connection, symbols))


async def _answer(connection: ServerConnection) -> None:
    async for _ in connection:
        await connection.send('{"id":0,"code":0,"msg":"PONG"}')


async def _feed(connection: ServerConnection, symbols: list[str]) -> None:
    due = time.monotonic()
    for number in count():
        now_ms = time.time_ns() // 1_000_000
        for position, symbol in enumerate(symbols):
            await connection.send(quote_frame(symbol, f"{10 + number // 5 % 7}.00", "20.00", now_ms))
            ids = [f"{next(_ids)}X0_{next(_ids)}X1" for _ in range(2 if (number + position) % 10 == 0 else 1)]
            deals = [("10.50", "1.25", 1, now_ms - 5, trade_id) for trade_id in ids]
            await connection.send(deals_frame(symbol, deals, now_ms))
        due += ROUND_SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def main(port: int) -> None:
    async with serve(_visit, "127.0.0.1", port, compression=None, ping_interval=None):
        sys.stderr.write("event=listening\n")
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
