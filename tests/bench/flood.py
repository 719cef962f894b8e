"""A server that sends frames made beforehand, as fast as each receiver takes them, or evenly over some seconds.

`python -m tests.bench.flood PORT CONNECTIONS FRAMES [SECONDS]`. The frames are those of an exchange at work: rounds of
100 ms, in each of which every symbol has three trades, and in every fourth a quote, four of five of which repeat the
one before. So a fifth of the frames are quotes, and every trade has an id and a quantity of its own.

It begins when every channel of trades has been asked for, writes `go CONNECTIONS MONOTONIC_NS` then, and begins again
for the next receiver when all connections are closed.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final, NamedTuple

from tests.ingest.frames import Deal, deals_frame, quote_frame
from workers.ingest.channels import DEALS_PREFIX, spread
from workers.ingest.config import Instrument

SYMBOLS: Final = {
    1: 10,
    34: 500,
    67: 1_000,
}  # by connections; the ingest puts at most fifteen on one
TRADES_PER_FRAME: Final = 3
ROUND_MS: Final = 100
ROUNDS_PER_QUOTE: Final = 4
REPEATS: Final = 5
PRICE_DECIMALS: Final = 2
QUANTITY_DECIMALS: Final = 6
_START_MS: Final = 1_790_000_000_000
_FIRST_ID: Final = 730_292_425_000_000_000
_CHUNK_BYTES: Final = 256 * 1024
_ROUND_BYTES: Final = 6 * 1024
_KEY_SALT: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LENGTH_16: Final = 126


def instruments(symbols: int) -> list[Instrument]:
    return [Instrument(f"S{number:03}USDT", PRICE_DECIMALS, QUANTITY_DECIMALS) for number in range(symbols)]


class Load(NamedTuple):
    """What one connection sends: its symbols, whole frames in chunks, and how many frames and trades these are."""

    symbols: list[str]
    chunks: list[bytes]
    frames: int
    trades: int


def make_loads(connections: int, frames: int, chunk_bytes: int = _CHUNK_BYTES) -> list[Load]:
    """The same for the same arguments. `frames` is shared out evenly; whole rounds, so a few more may come out."""
    groups = [[one.symbol for one in group] for group in spread(instruments(SYMBOLS[connections]))]
    assert len(groups) == connections, "so many symbols need another number of connections"
    numbers = itertools.count(1)
    return [_load(group, -(-frames // connections), numbers, chunk_bytes) for group in groups]


def _load(symbols: list[str], frames_min: int, numbers: Iterator[int], chunk_bytes: int) -> Load:
    chunks, chunk, frames, trades = [], bytearray(), 0, 0
    for payload, deals in rounds(symbols, frames_min, numbers):
        chunk += _framed(payload)
        frames += 1
        trades += deals
        if len(chunk) >= chunk_bytes:
            chunks.append(bytes(chunk))
            chunk.clear()
    return Load(symbols, [*chunks, bytes(chunk)], frames, trades)


def rounds(symbols: list[str], frames_min: int, numbers: Iterator[int]) -> Iterator[tuple[bytes, int]]:
    """Payloads with the number of their trades, at least so many frames, to the end of a round."""
    sent = 0
    for number in itertools.count():
        if sent >= frames_min:
            return
        now_ms = _START_MS + number * ROUND_MS
        for position, symbol in enumerate(symbols):
            turn, rest = divmod(number + position, ROUNDS_PER_QUOTE)
            if rest == 0:
                bid = 1000 + turn // REPEATS % 7
                yield quote_frame(symbol, f"{bid}.00", f"{bid}.50", now_ms, ("1.250000", "2.5")), 0
                sent += 1
            deals = [deal(next(numbers), now_ms) for _ in range(TRADES_PER_FRAME)]
            yield deals_frame(symbol, deals, now_ms), len(deals)
            sent += 1


def deal(number: int, now_ms: int) -> Deal:
    """The trade of this number, counted from 1 over all symbols, in the round of `now_ms`."""
    price, quantity = f"{1000 + number % 40 / 100:.2f}", f"0.{number % 999_999 + 1:06}"
    trade_id = f"{_FIRST_ID + 2 * number}X0_{_FIRST_ID + 2 * number + 1}X0"
    return price, quantity, 1 + number % 2, now_ms - number % ROUND_MS, trade_id


def number_of(trade_id: str) -> int:
    return (int(trade_id.partition("X")[0]) - _FIRST_ID) // 2


def _framed(payload: bytes) -> bytes:
    """An unmasked binary WebSocket frame."""
    if len(payload) < _LENGTH_16:
        return bytes((0x82, len(payload))) + payload
    return struct.pack("!BBH", 0x82, _LENGTH_16, len(payload)) + payload


class Flood:
    """Accepts for ever; a round of sending per receiver."""

    def __init__(self, port: int, loads: list[Load], seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._loads = {symbol: load for load in loads for symbol in load.symbols}
        self._symbols = len(self._loads)
        self._lock = threading.Lock()
        self._visits: list[_Visit] = []
        self._wanted: set[str] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)

    def serve(self) -> None:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while True:
            raw, _ = self._listener.accept()
            visit = _Visit(raw, self)
            threading.Thread(target=visit.run, daemon=True).start()

    def subscribed(self, visit: _Visit, symbols: list[str]) -> None:
        """Begin when nothing is missing."""
        with self._lock:
            if visit not in self._visits:
                self._visits.append(visit)
            self._wanted.update(symbols)
            if symbols and len(self._wanted) == self._symbols:
                go_ns = time.monotonic_ns()
                for each in self._visits:
                    threading.Thread(target=each.send_all, daemon=True).start()
                sys.stdout.write(f"go {len(self._visits)} {go_ns}\n")
                sys.stdout.flush()

    def left(self, visit: _Visit) -> None:
        with self._lock:
            if visit in self._visits:
                self._visits.remove(visit)
            if not self._visits:
                self._wanted.clear()

    def load_of(self, symbol: str) -> Load:
        return self._loads[symbol]


class _Visit:
    """One connection: answers requests, and sends its load when told."""

    def __init__(self, raw: socket.socket, flood: Flood) -> None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = raw
        self._flood = flood
        self._lock = threading.Lock()  # an answer must not stand inside a frame
        self._answers: deque[bytes] = deque()
        self._load: Load | None = None

    def run(self) -> None:
        with suppress(OSError, EOFError), self._raw, self._raw.makefile("rb") as stream:
            key = ""
            while line := stream.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                key = value.strip() if name.lower() == "sec-websocket-key" else key
            accept = base64.b64encode(hashlib.sha1((key + _KEY_SALT).encode()).digest()).decode()  # noqa: S324
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            self._raw.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            while True:
                self._answer(*_read_frame(stream))
        self._flood.left(self)

    def send_all(self) -> None:
        assert self._load is not None
        with suppress(OSError):
            pause, due = self._flood.seconds / len(self._load.chunks), time.monotonic()
            for chunk in self._load.chunks:
                with self._lock:
                    self._raw.sendall(chunk)
                self._send_answers()
                due += pause
                if pause:
                    time.sleep(max(0.0, due - time.monotonic()))

    def _answer(self, opcode: int, payload: bytes) -> None:
        if opcode != 1:
            return
        request = json.loads(payload)
        if request["method"].upper() == "PING":
            self._say("PONG", 0)
            return
        names = request["params"]
        symbols = [name.removeprefix(DEALS_PREFIX) for name in names if name.startswith(DEALS_PREFIX)]
        if symbols:
            self._load = self._flood.load_of(symbols[0])
        self._say(",".join(names), request.get("id", 0))
        self._flood.subscribed(self, symbols)

    def _say(self, words: str, number: int) -> None:
        text = json.dumps({"id": number, "code": 0, "msg": words}).encode()
        head = bytes((0x81, len(text))) if len(text) < _LENGTH_16 else struct.pack("!BBH", 0x81, _LENGTH_16, len(text))
        self._answers.append(head + text)
        self._send_answers()

    def _send_answers(self) -> None:
        """Between two pieces of the load, by whoever comes first; who sends the load would never let go for long."""
        while self._answers and self._lock.acquire(timeout=0.01):
            try:
                if self._answers:
                    self._raw.sendall(self._answers.popleft())
            finally:
                self._lock.release()


def _read_frame(stream: BinaryIO) -> tuple[int, bytes]:
    """Opcode and payload of a client's frame; raises EOFError at the end."""
    head = stream.read(2)
    if len(head) < 2:
        raise EOFError
    length = head[1] & 0x7F
    if length == _LENGTH_16:
        length = int.from_bytes(stream.read(2), "big")
    mask = stream.read(4)
    payload = stream.read(length)
    return head[0] & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


if __name__ == "__main__":
    wanted = int(sys.argv[2]), int(sys.argv[3])
    if len(sys.argv) > 4:  # in pieces of about a round, as an exchange sends them
        Flood(int(sys.argv[1]), make_loads(*wanted, _ROUND_BYTES), float(sys.argv[4])).serve()
    Flood(int(sys.argv[1]), make_loads(*wanted)).serve()
