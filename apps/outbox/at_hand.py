"""A doorbell at one's own door: what a task leads to on the very queue that its worker serves is done right after it.

The event stands in the outbox as any other and is marked when its task has ended. Whoever dies before leaves it to the
relay; a task that fails here is rung for through the broker and is tried as often as any other. What is saved is one
way through the broker, and the place behind everything that waits there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from celery import current_app

from apps.outbox.models import OutboxEvent

log = logging.getLogger(__name__)

KEPT_MAX: Final = 8
SECONDS_MAX: Final = 2.0
"""Of one turn. Beyond either bound the broker is told, so that other workers may help and no time limit is near."""


@dataclass(slots=True)
class _Turn:
    queue: str
    began: float
    kept: list[tuple[OutboxEvent, str]] = field(default_factory=list)
    taken: int = 0


_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)


def queue_of(task: str) -> str:
    """The queue that a task is sent to, empty if no route names one."""
    return str(current_app.conf.task_routes.get(task, {}).get("queue", ""))


def keep(event: OutboxEvent, task: str) -> bool:
    """Take an event whose task belongs to this worker; False if the broker has to be told."""
    turn = _turn.get()
    if turn is None or queue_of(task) != turn.queue or turn.taken >= KEPT_MAX:
        return False
    turn.taken += 1
    turn.kept.append((event, task))
    return True


@contextmanager
def serving(
    queue: str, *, tell: Callable[[OutboxEvent], object], done: Callable[[OutboxEvent], None]
) -> Iterator[None]:
    """A message from `queue` is being worked on. At its end what was kept is done, in its order.

    `tell` publishes an event through the broker, `done` marks one whose task has ended. If the message's own task
    raises, everything that was kept is told to the broker.
    """
    turn = _Turn(queue, time.monotonic())
    before = _turn.set(turn)
    try:
        yield
        while turn.kept and time.monotonic() - turn.began < SECONDS_MAX:
            if _did(*turn.kept[0]):
                done(turn.kept.pop(0)[0])
            else:
                break
    finally:
        _turn.reset(before)
        for event, _ in turn.kept:
            tell(event)


def _did(event: OutboxEvent, task: str) -> bool:
    """Whether the task of an event has run to its end here."""
    try:
        current_app.tasks[task](**event.payload)
    except Exception:  # whatever it was: the message that leads to it through the broker is tried as often as any
        log.warning("%s of event %d failed here and is told to the broker", task, event.pk, exc_info=True)
        return False
    return True
