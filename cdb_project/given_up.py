"""What a person gets to see when a task is given up: an alert, whichever process noticed it.

A task whose process was ended again and again, or that ran into the hard time limit, is noticed by the main process of
its worker; one that came too often, or that took too much memory, by the process that was to run it. Nothing is lost
by giving a task up: the steward brings what is undone up by a new message. But if that ends the same way, the road
stands still at this place, and only a person can tell why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from django.db import DatabaseError, connection

log = logging.getLogger(__name__)

HARD_LIMIT: Final = "the hard time limit ended its process"
NO_MEMORY: Final = "it wanted more memory than there is"


class TookTooMuch(Exception):
    """A task wanted more memory than there is. It has failed; its worker goes on."""


def note_failure(
    *, sender: Any, task_id: str, exception: BaseException, kwargs: Mapping[str, Any] | None = None, **_: Any
) -> threading.Thread | None:
    """Raise an alert for a task that failed with its process. Any other failure is the task's own matter.

    Celery calls this. A worker's main process must not wait for a database while it has a process to end, so there a
    thread does it, which is returned.
    """
    if isinstance(exception, TookTooMuch):
        give_up(sender.name, kwargs, NO_MEMORY)
        return None
    # Celery tells of a hard limit twice, the second time without the request.
    if sender.request.id != task_id or not isinstance(exception, WorkerLostError | TimeLimitExceeded):
        return None
    if isinstance(exception, WorkerLostError) and _ending():
        return None
    timed_out = isinstance(exception, TimeLimitExceeded)
    why = HARD_LIMIT if timed_out else times_ended(sender.request.retries + 1)
    thread = threading.Thread(target=give_up, args=(sender.name, kwargs, why), name="given up", daemon=True)
    thread.start()
    return thread


def _ending() -> bool:
    """Whether this worker was told to end: what was under way then comes again, and is no failure."""
    from celery.worker import state  # brings all that a worker needs, and other processes import this module as well

    return state.should_stop is not None or state.should_terminate is not None


def times_ended(times: int) -> str:
    return f"its process was ended {times} times" if times > 1 else "its process was ended"


def give_up(task: str, arguments: Mapping[str, Any] | None, why: str) -> None:
    """Say in the log and by an alert that a task is given up. Without a database the log has to do.

    Of the task's arguments only numbers are told, which can be nothing secret.
    """
    numbers = ", ".join(f"{name} {value}" for name, value in (arguments or {}).items() if type(value) is int)
    words = f"{task}{f' ({numbers})' if numbers else ''} is given up: {why}"
    log.critical("task %s", words)
    try:
        _store(task, f"{words}. What it was to do comes up again by a new message.")
    except DatabaseError as error:
        log.error("no alert tells that task %s is given up: %s", task, error)
    finally:
        connection.close()  # the thread ends; in a process that runs tasks the next one opens its own


def _store(task: str, words: str) -> None:
    """Once more on a new connection if the one that was kept is gone."""
    from apps.alerts.models import Alert  # models can be had only once Django is set up, tasks are made before
    from apps.alerts.services import raise_alert

    raised = partial(raise_alert, kind=Alert.Kind.TASK_GIVEN_UP, severity=Alert.Severity.CRITICAL, subject=task)
    kept = connection.connection is not None
    try:
        raised(words=words)
    except DatabaseError:
        connection.close()
        if not kept:
            raise
        raised(words=words)
