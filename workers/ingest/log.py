"""Log lines of the ingest: the name of what happened and its facts as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

_WINDOW_SECONDS = 1.0

logger = logging.getLogger("ingest")


def event(name: str, *, level: int = logging.INFO, **facts: object) -> None:
    """One line: `name {"key": value, ...}`."""
    logger.log(level, "%s %s", name, json.dumps(facts, default=str, ensure_ascii=False))


class BoundedLog:
    """At most one line per second and reason; the next line says how many were left out.

    Called from several threads; a race may let one line more through, which is all the precision it needs.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, name: str, reason: str, **facts: object) -> None:
        key = f"{name} {reason}"
        now = self._monotonic()
        if now - self._last.get(key, -_WINDOW_SECONDS) < _WINDOW_SECONDS:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        self._last[key] = now
        left_out = self._left_out.pop(key, 0)
        if left_out:
            facts["left_out"] = left_out
        event(name, level=logging.WARNING, reason=reason, **facts)
