"""The phases of a start, each printed with its duration when it is over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status


class Progress:
    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()

    @contextmanager
    def phase(self, words: str) -> Iterator[Status]:
        """Shows `words` while the body runs; `update` of the yielded status says what it waits for."""
        began = time.monotonic()
        with self.console.status(words) as status:
            yield status
        self.console.print(f"  {words:<44} {time.monotonic() - began:5.1f} s", highlight=False)

    @property
    def total_seconds(self) -> float:
        return time.monotonic() - self._began
