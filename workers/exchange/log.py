"""One line per event to stderr (`key=value` pairs), at a bounded rate per kind of event."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

VALUE_LENGTH_MAX: Final = 200


class EventLog:
    """Writes at most `burst` lines per kind and window; the first line after a cut says how many were left out."""

    def __init__(
        self,
        write: Callable[[str], object] = sys.stderr.write,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        burst: int = 20,
        window_seconds: float = 10.0,
    ) -> None:
        self._write = write
        self._monotonic = monotonic
        self._burst = burst
        self._window_seconds = window_seconds
        self._windows: dict[str, tuple[float, int]] = {}

    def event(self, kind: str, **values: object) -> None:
        """Log one event; values are shown as JSON where a bare word would be ambiguous."""
        now = self._monotonic()
        opened, count = self._windows.get(kind, (now, 0))
        left_out = 0
        if now - opened >= self._window_seconds:
            left_out, opened, count = max(count - self._burst, 0), now, 0
        self._windows[kind] = (opened, count + 1)
        if count >= self._burst:
            return
        if left_out:
            values["left_out"] = left_out
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        pairs = "".join(f" {key}={_shown(value)}" for key, value in values.items())
        self._write(f"ts={stamp} event={kind}{pairs}\n")


def _shown(value: object) -> str:
    text = str(value)[:VALUE_LENGTH_MAX]
    plain = text.isascii() and text.isprintable() and text and not any(character in ' "=' for character in text)
    return text if plain else json.dumps(text)
