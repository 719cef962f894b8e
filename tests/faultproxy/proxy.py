"""The proxy: a listener and its connections on an event loop in a thread, commanded from any other thread."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, TypeVar

from tests.faultproxy.pipe import BOTH, DOWN, UP, Direction, Lane, Pipe, Strike, reset

T = TypeVar("T")
_COMMAND_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0


@dataclass
class Counters:
    """What has happened since the start; `open` is the number of connections now."""

    accepted: int = 0
    open: int = 0
    blackholed: int = 0
    unreachable: int = 0
    resets: int = 0
    cuts: int = 0
    corrupted: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class _Link:
    """One proxied connection: two pipes."""

    def __init__(self, client: asyncio.StreamWriter, target: asyncio.StreamWriter, pipes: dict[str, Pipe]) -> None:
        self.client = client
        self.target = target
        self.pipes = pipes
        self.tasks: list[asyncio.Task[None]] = []

    def reset(self) -> None:
        reset(self.client)
        reset(self.target)
        self._end()

    def close(self) -> None:
        self.client.close()
        self.target.close()
        self._end()

    def _end(self) -> None:
        """A pipe may wait for a gate that nobody opens."""
        for task in self.tasks:
            task.cancel()


class FaultProxy:
    """Every command takes effect before it returns. `port` is known after `start`.

    A command of a state (delay, throttle, drop, refuse, blackhole) holds until `heal`; of those, refuse and blackhole
    concern new connections only, the others open and new ones. `reset` ends the open ones. `cut_after` and `corrupt`
    strike each open connection once, counted from now, and with `new=True` the next new connection instead, counted
    from its beginning.
    """

    def __init__(
        self, target_host: str, target_port: int, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0
    ) -> None:
        self.host = host
        self.port = port
        self._target = (target_host, target_port)
        self._dice = random.Random(seed)
        self._counters = Counters()
        self._links: set[_Link] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._for_new: list[tuple[str, Strike]] = []
        self._blackhole = False
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faultproxy", daemon=True)
        self._lanes: dict[str, Lane] = {UP: Lane(), DOWN: Lane()}

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen; raises OSError if the port is taken."""
        self._thread.start()
        self._call(self._heal)
        return self

    def stop(self) -> None:
        """Reset what is open and end the thread."""
        self._call(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_COMMAND_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- commands -----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Pass everything again. A connection that has lost bytes to `drop(discard=True)` is reset: it cannot go on."""
        self._call(self._heal)

    def delay(self, seconds: float, jitter_seconds: float = 0.0, direction: Direction = BOTH) -> None:
        """Pass bytes on after a while, in order."""
        self._on_lanes(direction, lambda lane: vars(lane).update(delay_seconds=seconds, jitter_seconds=jitter_seconds))

    def throttle(self, bytes_per_second: float, direction: Direction = BOTH) -> None:
        """Pass at most so many bytes per second and connection."""
        self._on_lanes(direction, lambda lane: vars(lane).update(bytes_per_second=bytes_per_second))

    def drop(self, direction: Direction = BOTH, *, discard: bool = False) -> None:
        """Pass nothing and close nothing. What comes meanwhile waits in the sender's kernel and goes on after `heal`,
        or is read and thrown away with `discard`."""

        def close_gate(lane: Lane) -> None:
            lane.discarding = discard
            lane.gate.clear()

        self._on_lanes(direction, close_gate)

    def strand(self) -> int:
        """Half-open for good: what is open now passes nothing more and is never closed; new connections are sound. How
        many. `heal` resets them."""
        return self._call(self._strand)

    def reset(self) -> int:
        """End every open connection with a TCP reset on both sides; how many."""
        return self._call(self._reset)

    def cut_after(
        self, count: int, direction: Direction = DOWN, *, how: Literal["reset", "close"] = "reset", new: bool = False
    ) -> None:
        """End a connection after so many more bytes of a direction."""
        self._arm(direction, lambda: Strike("cut", count, how=how), new=new)

    def corrupt(self, offset: int = 0, direction: Direction = DOWN, *, mask: int = 0xFF, new: bool = False) -> None:
        """Flip bits of the byte that comes after `offset` more bytes."""
        self._arm(direction, lambda: Strike("corrupt", offset, mask=mask), new=new)

    def refuse(self) -> None:
        """Close the listening socket: new connections are refused by the kernel, open ones go on."""
        self._call(self._stop_listening)

    def blackhole(self) -> None:
        """Accept new connections, then neither read nor write nor close."""

        async def switch() -> None:
            self._blackhole = True

        self._call(switch)

    def counters(self) -> Counters:
        """A copy."""

        async def copied() -> Counters:
            pipes = [(name, pipe) for link in self._links for name, pipe in link.pipes.items()]
            up, down = (sum(pipe.bytes_passed for name, pipe in pipes if name == wanted) for wanted in (UP, DOWN))
            values: dict[str, Any] = asdict(self._counters)
            values.update(open=len(self._links), bytes_up=values["bytes_up"] + up)
            values.update(bytes_down=values["bytes_down"] + down)
            return Counters(**values)

        return self._call(copied)

    # -- inside the loop ----------------------------------------------------------------------------------------------

    def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_COMMAND_SECONDS)

    def _on_lanes(self, direction: Direction, change: Callable[[Lane], object]) -> None:
        async def apply() -> None:
            for name, lane in self._lanes.items():
                if direction in (BOTH, name):
                    change(lane)

        self._call(apply)

    def _arm(self, direction: Direction, strike: Callable[[], Strike], *, new: bool) -> None:
        async def apply() -> None:
            names = [name for name in (UP, DOWN) if direction in (BOTH, name)]
            if new:
                self._for_new += [(name, strike()) for name in names]
                return
            for link in self._links:
                for name in names:
                    link.pipes[name].strikes.append(strike())

        self._call(apply)

    async def _heal(self) -> None:
        self._blackhole = False
        self._for_new.clear()
        for link in list(self._links):
            for pipe in link.pipes.values():
                pipe.strikes.clear()
            if any(pipe.lost_bytes for pipe in link.pipes.values()):
                self._counters.resets += 1
                link.reset()
        for lane in self._lanes.values():
            lane.heal()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, reuse_address=True)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the socket is closed by a callback

    async def _strand(self) -> int:
        for link in self._links:
            for pipe in link.pipes.values():
                pipe.strand()
        return len(self._links)

    async def _reset(self) -> int:
        count = len(self._links) + len(self._silent)
        self._counters.resets += count
        for link in list(self._links):
            link.reset()
        for writer in list(self._silent):
            reset(writer)
        self._silent.clear()
        return count

    async def _shut(self) -> None:
        await self._stop_listening()
        await self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """One connection from its acceptance to its end. As a task of ours, so that stopping waits for it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._counters.accepted += 1
        try:
            if self._blackhole:
                self._counters.blackholed += 1
                client.transport.pause_reading()  # type: ignore[attr-defined]  # every TCP transport can
                self._silent.add(client)
                return
            await self._connect(reader, client)
        except asyncio.CancelledError:
            reset(client)
        finally:
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                target_reader, target = await asyncio.open_connection(*self._target)
        except OSError:  # a TimeoutError is one
            self._counters.unreachable += 1
            reset(client)
            return
        link = _Link(client, target, {})
        link.pipes[UP] = Pipe(reader, target, self._lanes[UP], self._dice, lambda strike: self._struck(link, strike))
        link.pipes[DOWN] = Pipe(
            target_reader, client, self._lanes[DOWN], self._dice, lambda strike: self._struck(link, strike)
        )
        for name, strike in self._for_new:
            link.pipes[name].strikes.append(strike)
        self._for_new.clear()
        await self._run(link)

    async def _run(self, link: _Link) -> None:
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                link.tasks = [tasks.create_task(pipe.run()) for pipe in link.pipes.values()]
        except* OSError:
            link.reset()  # one side broke: the other learns of it in the same way
        finally:
            self._links.discard(link)
            self._counters.bytes_up += link.pipes[UP].bytes_passed
            self._counters.bytes_down += link.pipes[DOWN].bytes_passed
            with suppress(OSError):
                link.close()

    def _struck(self, link: _Link, strike: Strike) -> None:
        if strike.kind == "corrupt":
            self._counters.corrupted += 1
            return
        self._counters.cuts += 1
        if strike.how == "reset":
            link.reset()
        else:
            link.close()
