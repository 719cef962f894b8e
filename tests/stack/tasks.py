"""Tasks that leave a trace in a file: what ran is known even if the process that ran it is gone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from celery import Celery

HOLD_SECONDS_MAX = 14


def append(path: str, word: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{word}\n")


def register(app: Celery) -> None:
    """Add the tasks to an application."""

    @app.task(name="stack.note")
    def note(path: str, word: str) -> None:
        append(path, word)

    @app.task(name="stack.hold")
    def hold(path: str, word: str) -> None:
        """Run until somebody makes the file `<path>.go`."""
        append(path, f"{word} begins")
        deadline = time.monotonic() + HOLD_SECONDS_MAX
        while not Path(f"{path}.go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        append(path, f"{word} ends")

    @app.task(name="stack.die", max_retries=2)
    def die(path: str) -> None:
        """What the kernel does to a process that takes too much memory."""
        append(path, "run")
        os.kill(os.getpid(), signal.SIGKILL)
