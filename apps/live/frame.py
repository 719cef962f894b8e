"""What every page of the staff window shows around its content: the state strip and the mode."""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest

from apps.engine import timeouts
from apps.live.sources import State, read_state

SOCKET_PATH = "/ws/live/"
TIMEOUTS = {
    "delayed-ms": timeouts.BROWSER_DELAYED_SECONDS * 1000,
    "reconnect-ms": timeouts.BROWSER_RECONNECT_SECONDS * 1000,
    "stale-ms": timeouts.DATA_STALE_SECONDS * 1000,
    "backoff-first-ms": timeouts.BROWSER_BACKOFF_FIRST_MS,
    "backoff-max-ms": timeouts.BROWSER_BACKOFF_MAX_MS,
}
"""Handed to the browser's code through data attributes: numbers live in one module."""


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def state_of(request: HttpRequest) -> State:
    """The state at the time of this request, read once."""
    known: State | None = getattr(request, "cdb_state", None)
    if known is None:
        known = read_state(wall_ms())
        request.cdb_state = known  # type: ignore[attr-defined]
    return known


def context(request: HttpRequest) -> dict[str, Any]:
    """UNFOLD's GLOBAL_CALLBACK. `colors` is None because unfold would write them into an inline style."""
    frame: dict[str, Any] = {"colors": None, "timeouts": TIMEOUTS, "socket_path": SOCKET_PATH}
    if request.user.is_active and request.user.is_staff:
        frame |= {"strip": state_of(request).sentence, "now_ms": wall_ms()}
    return frame


def environment(request: HttpRequest) -> list[str] | None:
    """UNFOLD's ENVIRONMENT: the mode of the session, top right on every page."""
    if not (request.user.is_active and request.user.is_staff):
        return None
    session = state_of(request).session
    return None if session is None else [str(session.mode), "neutral"]
