"""Which connection carries which symbols, and how that follows what is wanted without disturbing anybody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from workers.ingest import log
from workers.ingest.channels import SYMBOLS_PER_CONNECTION_MAX, spread
from workers.ingest.config import Instrument
from workers.ingest.inbox import Inbox, Joined, Left
from workers.ingest.status import ConnectionStatus, State

NAME: Final = "feed-{}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Per connection who leaves and who joins; connections that do not exist yet only have joiners."""

    leave: dict[str, list[str]] = field(default_factory=dict)
    join: dict[str, list[Instrument]] = field(default_factory=dict)


def plan(
    seats: Mapping[str, Sequence[str]],
    wanted: Sequence[Instrument],
    closed: Sequence[str] = (),
    taken: Sequence[str] = (),
) -> Plan:
    """Nobody changes the connection. New symbols go where most room is, but not to `closed` connections; the rest get
    new ones, as few as possible and evenly filled, under names that are not `taken`."""
    symbols = {instrument.symbol for instrument in wanted}
    made = Plan()
    sizes: dict[str, int] = {}
    seated: set[str] = set()
    for name, seat in seats.items():
        gone = [symbol for symbol in seat if symbol not in symbols]
        if gone:
            made.leave[name] = gone
        seated.update(seat)
        if len(gone) < len(seat) and name not in closed:
            sizes[name] = len(seat) - len(gone)
    rest: list[Instrument] = []
    for instrument in wanted:
        if instrument.symbol in seated:
            continue
        emptiest = min(sizes, key=sizes.__getitem__, default=None)
        if emptiest is None or sizes[emptiest] >= SYMBOLS_PER_CONNECTION_MAX:
            rest.append(instrument)
        else:
            sizes[emptiest] += 1
            made.join.setdefault(emptiest, []).append(instrument)
    names = _free_names({*seats, *taken}, -(-len(rest) // SYMBOLS_PER_CONNECTION_MAX))
    made.join.update(zip(names, spread(rest), strict=True))
    return made


def _free_names(used: set[str], count: int) -> list[str]:
    names: list[str] = []
    number = 0
    while len(names) < count:
        if NAME.format(number) not in used:
            names.append(NAME.format(number))
        number += 1
    return names


class Seat(Protocol):
    """What the roster needs of a connection."""

    status: ConnectionStatus

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...

    def is_alive(self) -> bool: ...

    def change(self, *, leave: Sequence[str] = (), join: Sequence[str] = ()) -> None: ...

    def subscribe_again(self, symbol: str) -> None: ...


class Roster:
    """The connections. `want` may come from one thread at a time, everything else from any."""

    def __init__(self, make: Callable[[str, tuple[str, ...]], Seat], inbox: Inbox) -> None:
        self._make = make
        self._inbox = inbox
        self._seats: dict[str, list[str]] = {}
        self._connections: dict[str, Seat] = {}
        self._ending: list[Seat] = []
        self._stopped = False
        self._lock = threading.Lock()

    @property
    def statuses(self) -> list[ConnectionStatus]:
        return [connection.status for connection in list(self._connections.values())]

    @property
    def wanted(self) -> int:
        """How many symbols are followed."""
        return sum(len(seat.symbols) for seat in self.statuses)

    def want(self, instruments: Sequence[Instrument]) -> None:
        """Follow these and nothing else from now on."""
        with self._lock:
            if self._stopped:
                return
            self._ending = [connection for connection in self._ending if connection.is_alive()]
            blocked = [status.name for status in self.statuses if status.state is State.BLOCKED]
            ending = [connection.status.name for connection in self._ending]
            made = plan(self._seats, instruments, blocked, ending)
            for name, symbols in made.leave.items():
                self._leave(name, symbols)
            for name, joining in made.join.items():
                self._join(name, joining)
            if made.leave or made.join:
                log.event("symbols_changed", leave=made.leave, join={n: len(j) for n, j in made.join.items()})

    def subscribe_again(self, name: str, symbol: str) -> None:
        connection = self._connections.get(name)
        if connection is not None:
            connection.subscribe_again(symbol)

    def stop(self) -> list[Seat]:
        """Ask all to end; returns them, to be waited for."""
        with self._lock:
            self._stopped = True
            connections = [*self._connections.values(), *self._ending]
        for connection in connections:
            connection.stop()
        return connections

    def _leave(self, name: str, symbols: list[str]) -> None:
        self._seats[name] = [symbol for symbol in self._seats[name] if symbol not in symbols]
        self._inbox.put(Left(name, tuple(symbols)))
        connection = self._connections[name]
        connection.change(leave=symbols)
        if not self._seats[name]:
            del self._seats[name]
            self._ending.append(connection)
            self._connections = {other: seat for other, seat in self._connections.items() if other != name}

    def _join(self, name: str, instruments: list[Instrument]) -> None:
        """The consumer learns of them before the exchange does, so that nothing arrives unexpected."""
        symbols = [instrument.symbol for instrument in instruments]
        self._inbox.put(Joined(name, tuple(instruments)))
        if name in self._connections:
            self._seats[name] += symbols
            self._connections[name].change(join=symbols)
            return
        self._seats[name] = symbols
        connection = self._make(name, tuple(symbols))
        self._connections = {**self._connections, name: connection}
        connection.start()
