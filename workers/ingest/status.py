"""What one connection shows of itself. Written by its own thread, read by others, one attribute at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """Where a connection stands."""

    CONNECTING = "CONNECTING"
    SUBSCRIBING = "SUBSCRIBING"  # open, not every channel answered yet
    STREAMING = "STREAMING"
    STALE = "STALE"  # open, but the PONG or every frame is late
    BLOCKED = "BLOCKED"  # nothing was accepted; tried again at a slow pace
    CLOSED = "CLOSED"  # waiting for the next attempt


@dataclass(slots=True)
class ConnectionStatus:
    """Times ending in `_ms` are wall clock, those ending in `_at` seconds of the ingest's clock; None is never."""

    name: str
    symbols: tuple[str, ...]
    state: State = State.CLOSED
    reason: str = "not started"
    since_ms: int = 0
    last_frame_ms: int | None = None
    last_pong_ms: int | None = None
    last_frame_at: float | None = None
    last_market_at: float | None = None
    last_pong_at: float | None = None
    accepted: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    opens: int = 0  # handshakes that succeeded
    text_frames: int = 0
    bytes_in: int = 0  # of the connections that have ended
    last_close: dict[str, object] | None = None
    transitions: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))

    @property
    def reconnects(self) -> int:
        return max(self.opens - 1, 0)
