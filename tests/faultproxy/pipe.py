"""One direction of one proxied connection: bytes are read, kept for a while in order, perhaps spoilt, and written."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

Direction = Literal["up", "down", "both"]
UP: Final = "up"  # from the client to the target
DOWN: Final = "down"
BOTH: Final = "both"

READ_BYTES: Final = 64 * 1024
QUEUE_BYTES_MAX: Final = 4 * 1024 * 1024  # what a delay may keep; then the proxy stops reading


@dataclass
class Lane:
    """What holds for one direction of all connections."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    discarding: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)  # closed while bytes are held back

    def heal(self) -> None:
        """Pass bytes on at once again."""
        self.delay_seconds = self.jitter_seconds = 0.0
        self.bytes_per_second = None
        self.discarding = False
        self.gate.set()


@dataclass
class Strike:
    """Something that happens once, when so many more bytes have been passed on."""

    kind: Literal["cut", "corrupt"]
    after_bytes: int
    mask: int = 0xFF
    how: Literal["reset", "close"] = "reset"


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a TCP reset."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Pipe:
    """Reads in one task and writes in another, so that a delay does not slow the flow down."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        lane: Lane,
        dice: random.Random,
        struck: Callable[[Strike], None],
    ) -> None:
        self.bytes_passed = 0
        self.lost_bytes = False
        self.strikes: list[Strike] = []
        self._reader = reader
        self._writer = writer
        self._lane = lane
        self._dice = dice
        self._struck = struck
        self._queue: deque[tuple[float, bytes]] = deque()  # (when due, bytes); no bytes are the end of the stream
        self._queued_bytes = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until this direction has ended; raises OSError if a side broke."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill())
            tasks.create_task(self._empty())

    def strand(self) -> None:
        """Throw away what comes from here on, whatever the other connections do."""
        self._lane = Lane(discarding=True)  # its gate is never opened
        self.lost_bytes = True

    async def _fill(self) -> None:
        while True:
            if not self._lane.discarding:
                await self._lane.gate.wait()
            data = await self._reader.read(READ_BYTES)
            if data and self._lane.discarding:
                self.lost_bytes = True
                continue
            self._put(data)
            if not data:
                return
            while self._queued_bytes > QUEUE_BYTES_MAX:
                self._changed.clear()
                await self._changed.wait()

    def _put(self, data: bytes) -> None:
        lane = self._lane
        wait_seconds = lane.delay_seconds + lane.jitter_seconds * self._dice.random()
        # Bytes leave in the order they came: what is due earlier than its predecessor waits for it, as TCP does.
        self._queue.append((asyncio.get_running_loop().time() + wait_seconds, data))
        self._queued_bytes += len(data)
        self._changed.set()

    async def _empty(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._queue.popleft()
            self._queued_bytes -= len(data)
            self._changed.set()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                await self._lane.gate.wait()
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                return
            await self._pass_on(data)

    async def _pass_on(self, data: bytes) -> None:
        while data:
            await self._lane.gate.wait()
            rate = self._lane.bytes_per_second
            size = len(data) if rate is None else max(int(rate / 20), 1)
            piece, data = data[:size], data[size:]
            piece, strike = self._strike(piece)
            self._writer.write(piece)
            await self._writer.drain()
            self.bytes_passed += len(piece)
            if strike is not None:
                await self._flush()  # a reset throws away what has not left yet
                self._struck(strike)
                return
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)

    async def _flush(self) -> None:
        # A transport does not tell when it is empty; a reader that never reads must not hold up the cut.
        for _ in range(200):
            if not self._writer.transport.get_write_buffer_size():
                return
            await asyncio.sleep(0.005)

    def _strike(self, piece: bytes) -> tuple[bytes, Strike | None]:
        """The piece as it goes on, and the cut that comes after it if one does."""
        remaining = []
        cut: Strike | None = None
        for strike in sorted(self.strikes, key=lambda strike: strike.after_bytes):
            if strike.after_bytes >= len(piece) + (strike.kind == "cut"):
                strike.after_bytes -= len(piece)
                remaining.append(strike)
            elif strike.kind == "corrupt":
                at = strike.after_bytes
                piece = piece[:at] + bytes((piece[at] ^ strike.mask,)) + piece[at + 1 :]
                self._struck(strike)
            elif cut is None:
                cut = strike
                piece = piece[: strike.after_bytes]
        self.strikes = remaining
        return piece, cut
