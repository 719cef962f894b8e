"""What is wrong with one connection at the moment; everything it is sent goes through here while something is."""

from __future__ import annotations

import random
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from workers.exchange.faults.commands import FRAME_FAULTS
from workers.exchange.faults.frames import BAD_VALUES, SPOILERS, fragments, payload_of, with_bad_value
from workers.exchange.journal import Span, spans_of
from workers.exchange.rounds import Parcel

if TYPE_CHECKING:
    from workers.exchange.connection import Connection

HELD_BYTES_MAX: Final = 64 * 1024 * 1024
_ESTABLISHED: Final = 1  # the first byte of TCP_INFO


class Outgoing(NamedTuple):
    """Bytes to write, and the trades that are sent with them."""

    data: bytes
    symbol: str = ""
    spans: Sequence[Span] = ()
    why: str = ""
    bytewise: bool = False


@dataclass
class Armed:
    """A fault that waits for deals frames."""

    do: str
    symbols: tuple[str, ...]
    options: dict[str, Any]
    left: int

    def wants(self, parcel: Parcel) -> bool:
        return parcel.channel.kind == "deals" and (not self.symbols or parcel.channel.symbol in self.symbols)


class Late(NamedTuple):
    """Trades that were held back, and when they are sent."""

    due: float
    parcel: Parcel


class ConnectionFaults:
    """`deliver` and `control` are what the connection would have been sent."""

    def __init__(
        self,
        connection: Connection,
        dice: random.Random,
        monotonic: Callable[[], float],
        note: Callable[..., None],
        sent: Callable[[Outgoing], None],
        frame_of: Callable[[Parcel, int], bytes],
    ) -> None:
        self.dead = False  # half-open: nothing is read or written
        self._stuck = False  # part of a frame was sent, nothing may follow
        self._dead_until: float | None = None
        self._silent_until: float | None = None
        self._losing = False
        self._muted_until: float | None = None
        self._held: list[Outgoing] = []
        self._held_bytes = 0
        self._armed: deque[Armed] = deque()
        self._late: list[Late] = []
        self._kept: dict[str, Parcel] = {}  # frames that wait for the next one, to follow it
        self._connection = connection
        self._dice = dice
        self._monotonic = monotonic
        self._note_fault = note
        self._sent = sent
        self._frame_of = frame_of

    @property
    def over(self) -> bool:
        """Nothing is wrong any more."""
        pending = self.dead or self._stuck or self._armed or self._late or self._kept or self._held
        return not pending and self._silent_until is None and self._muted_until is None

    def _blocked(self) -> bool:
        """Nothing may be written any more."""
        return self.dead or self._stuck

    # -- commands -----------------------------------------------------------------------------------------------------

    def arm(self, do: str, symbols: tuple[str, ...], options: dict[str, Any]) -> None:
        """Strike the next deals frames."""
        left = options["trades"] if do == "late" else options.get("frames", 1)
        self._armed.append(Armed(do, symbols, options, left))

    def half_open(self, seconds: float | None) -> None:
        """Read and write nothing, close nothing; after the seconds the connection is reset."""
        self.dead = True
        self._dead_until = None if seconds is None else self._monotonic() + seconds
        self._connection.transport.pause_reading()

    def silence(self, seconds: float, *, lose: bool) -> None:
        """Send nothing, then go on, with or without what was due meanwhile."""
        self._silent_until = self._monotonic() + seconds
        self._losing = lose

    def mute(self, seconds: float | None) -> None:
        """Send control answers but no market data."""
        self._muted_until = float("inf") if seconds is None else self._monotonic() + seconds

    def send_extra(self, do: str, base: bytes, options: dict[str, Any]) -> None:
        """A wrong frame beside the right ones, at once."""
        self._note(do, replaced=False)
        self._write(Outgoing(SPOILERS[do](payload_of(base), self._dice, options)))

    def send_again(self, frames: Sequence[Parcel]) -> None:
        """Copies of frames that were sent before."""
        for parcel in frames:
            self._note("duplicate", s=parcel.channel.symbol, n=parcel.spans)
            self._write(Outgoing(parcel.frame, parcel.channel.symbol, parcel.spans, "duplicate"))

    def heal(self) -> None:
        """End what can be ended: a half-open or cut connection stays as it is."""
        self._armed.clear()
        self._muted_until = None
        if self._silent_until is not None:
            self._silent_until = self._monotonic()
        self._late = [Late(0.0, late.parcel) for late in self._late]

    # -- time and data ------------------------------------------------------------------------------------------------

    def check_time(self) -> None:
        """End what is over; forget a client that has gone while nobody read its farewell."""
        now = self._monotonic()
        if self.dead:
            raw = self._connection.transport.get_extra_info("socket")
            state = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state != _ESTABLISHED or (self._dead_until is not None and now >= self._dead_until):
                self._connection.cut("half-open ended")
            return
        if self._silent_until is not None and now >= self._silent_until:
            self._silent_until = None
            held, self._held, self._held_bytes = self._held, [], 0
            for item in held:
                self._write(item)
        if self._muted_until is not None and now >= self._muted_until:
            self._muted_until = None

    def control(self, frame: bytes) -> None:
        """An answer to a control message."""
        self._write(Outgoing(frame))

    def deliver(self, parcels: Sequence[Parcel], send_ms: int) -> None:
        """One step's frames; what was held back before goes first."""
        if self._blocked() or self._muted_until is not None:
            return
        for parcel in [*self._due_late(send_ms), *parcels]:
            if self._blocked():
                return
            for item in self._struck(parcel):
                self._write(item)

    def _due_late(self, send_ms: int) -> list[Parcel]:
        """Held-back trades whose time has come, as frames of this step."""
        now = self._monotonic()
        due = [late for late in self._late if now >= late.due]
        self._late = [late for late in self._late if now < late.due]
        for late in due:
            self._note("late", s=late.parcel.channel.symbol, n=late.parcel.spans)
        return [late.parcel._replace(frame=self._frame_of(late.parcel, send_ms), send_ms=send_ms) for late in due]

    def _struck(self, parcel: Parcel) -> list[Outgoing]:
        """What is sent for a parcel: itself, unless a fault waits for it."""
        symbol = parcel.channel.symbol
        plain = Outgoing(parcel.frame, symbol, parcel.spans)
        if parcel.channel.kind != "deals":
            return [plain]
        armed = next((fault for fault in self._armed if fault.wants(parcel)), None)
        if symbol in self._kept:
            kept = self._kept.pop(symbol)
            self._note("reorder", s=symbol, n=kept.spans)
            return [plain, Outgoing(kept.frame, symbol, kept.spans, "reordered")]
        if armed is None:
            self._connection.recent.append(parcel)
            return [plain]
        return self._strike(armed, parcel, plain)

    def _strike(self, armed: Armed, parcel: Parcel, plain: Outgoing) -> list[Outgoing]:
        if armed.do == "late":
            return self._hold_back(armed, parcel)
        self._used(armed, 1)
        match armed.do:
            case "cut_frame":
                return self._cut(armed, parcel)
            case "reorder":
                self._kept[parcel.channel.symbol] = parcel
                return []
            case "split":
                self._note("split", s=parcel.channel.symbol, n=parcel.spans, bytewise=armed.options["bytewise"])
                data = fragments(parcel.frame, armed.options["pieces"])
                return [plain._replace(data=data, bytewise=armed.options["bytewise"])]
            case "bad_values":
                return [self._bad_values(armed, parcel)]
        self._note(armed.do, s=parcel.channel.symbol, lost=parcel.spans, replaced=True)
        return [Outgoing(SPOILERS[armed.do](payload_of(parcel.frame), self._dice, armed.options))]

    def _used(self, armed: Armed, count: int) -> None:
        armed.left -= count
        if armed.left <= 0:
            self._armed.remove(armed)

    def _hold_back(self, armed: Armed, parcel: Parcel) -> list[Outgoing]:
        """The first trades wait, the rest go out now."""
        count = min(armed.left, len(parcel.prints))
        self._used(armed, count)
        held = parcel._replace(prints=parcel.prints[:count], numbers=parcel.numbers[:count])
        self._late.append(Late(self._monotonic() + armed.options["seconds"], held))
        rest = parcel._replace(prints=parcel.prints[count:], numbers=parcel.numbers[count:])
        if not rest.prints:
            return []
        return [Outgoing(self._frame_of(rest, parcel.send_ms), parcel.channel.symbol, rest.spans)]

    def _cut(self, armed: Armed, parcel: Parcel) -> list[Outgoing]:
        then = armed.options["then"]
        self._note("cut_frame", s=parcel.channel.symbol, lost=parcel.spans, then=then)
        self._write(Outgoing(parcel.frame[: self._dice.randrange(1, len(parcel.frame))]))
        self._stuck = True
        if then != "nothing":
            self._connection.cut("cut inside a frame", reset=then == "reset")
        return []

    def _bad_values(self, armed: Armed, parcel: Parcel) -> Outgoing:
        """One row of the frame is wrong; the others are sent as they are."""
        field, value = armed.options["field"], armed.options["value"]
        if field == "random":
            field = self._dice.choice(list(BAD_VALUES))
        if value == "random":
            value = self._dice.choice(BAD_VALUES.get(field, ("",)))
        row = self._dice.randrange(len(parcel.prints))
        number = parcel.numbers[row]
        self._note("bad_values", s=parcel.channel.symbol, n=[(number, number)], field=field, value=str(value)[:40])
        rest = spans_of([found for found in parcel.numbers if found != number or field == "id"])
        return Outgoing(with_bad_value(parcel.frame, row, field, value), parcel.channel.symbol, rest)

    def _write(self, item: Outgoing) -> None:
        if self._blocked():
            return
        if self._silent_until is not None:
            if not self._losing and self._held_bytes + len(item.data) <= HELD_BYTES_MAX:
                self._held.append(item)
                self._held_bytes += len(item.data)
            return
        if not self._connection.open:
            return
        pieces = [item.data[at : at + 1] for at in range(len(item.data))] if item.bytewise else [item.data]
        for piece in pieces:
            self._connection.write(piece)
        self._sent(item)

    def _note(self, do: str, **values: object) -> None:
        self._note_fault(do, c=self._connection.number, **values)


assert set(SPOILERS) <= set(FRAME_FAULTS)
