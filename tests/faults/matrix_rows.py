"""What a row of the fault matrix is, and small helpers that the rows share."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from tests.faults.matrix_road import Road

Work = Callable[[Road, random.Random], None]
RECOVER_SECONDS: Final = 15


@dataclass(frozen=True, slots=True)
class Row:
    """`work` disturbs a running road and heals it, and fails if what is asked of that moment does not hold.

    `within_seconds` is how soon after that the road is asked to have caught up.
    """

    id: str
    fault: str
    work: Work
    within_seconds: float = RECOVER_SECONDS


class Unmet(AssertionError):
    """Something that the matrix asks for did not hold; the words say what."""


def ask(holds: object, words: str) -> None:
    if not holds:
        raise Unmet(words)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process and its children stand still meanwhile."""
    main = psutil.Process(pid)
    family = [main, *main.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            if process.is_running():
                process.send_signal(signal.SIGCONT)


@contextmanager
def no_order_leaves(road: Road, *, after_seconds: float = 1) -> Iterator[None]:
    """No order reaches the venue while this lasts; what was under way has `after_seconds` to arrive."""
    time.sleep(after_seconds)
    before = road.one("SELECT count(*) FROM execution_venueorder")
    yield
    after = road.one("SELECT count(*) FROM execution_venueorder")
    ask(after == before, f"{after - before} orders reached the venue meanwhile")
