"""Runs inside the process manager, through its extension point `rpcinterface`: counts restarts and paces them.

The manager by itself gives up on a service after some quick failures, and restarts one that fails a little later
without any pause. Here a service is never given up and the pause grows to half a minute, so that a server which is away
for an hour neither loses its clients for good nor is hammered by them.
"""

from __future__ import annotations

import time
from typing import Any

from supervisor import events
from supervisor.states import ProcessStates

PAUSES_SECONDS = (0, 1, 2, 4, 8, 15, 30)
STABLE_SECONDS = 60
"""A service that ran that long starts over with the first pause."""


class RestartCounter:
    """Reachable for clients as `cdb.restarts()`."""

    def __init__(self) -> None:
        self._restarts: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        events.subscribe(events.ProcessStateExitedEvent, self._ended)
        events.subscribe(events.ProcessStateBackoffEvent, self._ended)

    def restarts(self) -> dict[str, int]:
        """How often each service was started again after it had ended unasked, since the stack was started."""
        return self._restarts

    def _ended(self, event: Any) -> None:
        """The service ended although nobody stopped it: say when it starts again."""
        process, name = event.process, event.process.config.name
        if time.time() - process.laststart > STABLE_SECONDS:
            self._failures[name] = 0
        pause = PAUSES_SECONDS[min(self._failures.get(name, 0), len(PAUSES_SECONDS) - 1)]
        self._failures[name] = self._failures.get(name, 0) + 1
        self._restarts[name] = self._restarts.get(name, 0) + 1
        process.state = ProcessStates.BACKOFF
        # The manager's own count: it gives up when that passes `startretries`, and takes a pause longer than it for a
        # clock that was set back.
        process.backoff = max(1, pause)
        process.delay = time.time() + pause


def make(_supervisord: Any, **_configuration: Any) -> RestartCounter:
    return RestartCounter()
