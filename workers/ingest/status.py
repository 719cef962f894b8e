"""What one connection shows of itself. Written by its own threads, read by others, one attribute at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a connection stands."""

    CONNECTING = "CONNECTING"
    SUBSCRIBING = "SUBSCRIBING"  # open, not every channel answered yet
    STREAMING = "STREAMING"
    STALE = "STALE"  # open, but the PONG or every frame is late
    ROTATING = "ROTATING"  # delivers as before while its successor is being opened
    BLOCKED = "BLOCKED"  # nothing was accepted; tried again at a slow pace
    CLOSED = "CLOSED"  # waiting for the next attempt


class Category(StrEnum):
    """Why a state changed; every reason belongs to exactly one, so they can be counted."""

    STARTED = "started"
    RETRIED = "retried"
    CONNECTED = "connected"
    SUBSCRIBED = "subscribed"
    LATE = "late"  # the PONG or every frame
    RECOVERED = "recovered"
    ROTATING = "rotating"
    ROTATED = "rotated"
    TAKEN_OVER = "taken_over"  # the old link died while its successor was at hand
    ROTATION_GIVEN_UP = "rotation_given_up"
    BLOCKED = "blocked"
    HANDSHAKE_FAILED = "handshake_failed"
    CLOSED_BY_EXCHANGE = "closed_by_exchange"
    LIFETIME = "lifetime"  # closed by the exchange because its day was over
    NETWORK_ERROR = "network_error"
    PROTOCOL_ERROR = "protocol_error"
    NO_ACK = "no_ack"
    NO_PONG = "no_pong"
    NO_FRAME = "no_frame"
    PARTIAL_FRAME = "partial_frame"
    EMPTIED = "emptied"  # none of its symbols is wanted any more
    STOPPED = "stopped"


@dataclass(slots=True)
class Vitals:
    """Signs of life of one link. `_ms` is wall clock, `_at` seconds of the ingest's clock; None is never."""

    last_frame_ms: int | None = None
    last_pong_ms: int | None = None
    last_frame_at: float | None = None
    last_market_at: float | None = None
    last_pong_at: float | None = None
    opened_ms: int | None = None


@dataclass(slots=True)
class ConnectionStatus:
    """`vitals` are those of the link that owns the symbols, also after it has ended. Times `_ms` are wall clock."""

    name: str
    symbols: tuple[str, ...]
    state: State = State.CLOSED
    reason: str = "not started"
    since_ms: int = 0
    vitals: Vitals = field(default_factory=Vitals)
    accepted: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    opens: int = 0  # handshakes that succeeded, successors of a rotation left out
    rotations: int = 0
    bytes_ended: int = 0  # received on links that have ended
    bytes_in: int = 0  # on all links
    blocked_until_ms: int | None = None
    last_close: dict[str, object] | None = None
    closes: int = 0  # attempts that ended, before or after the handshake

    @property
    def reconnects(self) -> int:
        return max(self.opens - 1, 0)
