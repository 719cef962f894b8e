"""Events: recorded in the transaction in which they happened, published when it has committed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import redis
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import KombuError

from apps.bus.failpoints import failpoint
from apps.outbox import at_hand
from apps.outbox.models import OutboxEvent
from apps.outbox.pace import AtMostEvery, Pause

log = logging.getLogger(__name__)

Payload = Mapping[str, int | str]
Sender = Callable[[str, Payload], None]

BROKER_ERRORS: Final = (KombuError, redis.RedisError, OSError)
# A broker that does not answer costs a socket timeout per message: after one failure the relay takes over for a while.
PAUSE_AFTER_FAILURE_SECONDS: Final = 2.0

_pause = Pause(PAUSE_AFTER_FAILURE_SECONDS)
_complaints = AtMostEvery(10)


class UnknownEvent(LookupError):
    """An event type that the route table does not know. A mistake in our code, found where the event is recorded."""


def ring(event_type: str, payload: Payload) -> None:
    """Wake the task that this event leads to. Raises one of `BROKER_ERRORS`."""
    current_app.send_task(task_of(event_type), kwargs=dict(payload), retry=False, ignore_result=True)


def task_of(event_type: str) -> str:
    """The task that an event wakes, by the route table of the settings. Raises `UnknownEvent`."""
    try:
        return str(settings.PIPELINE_ROUTES[event_type])
    except KeyError:
        raise UnknownEvent(event_type) from None


def record(event_type: str, *, sender: Sender = ring, **ids: int | str) -> OutboxEvent:
    """Note an event in the running transaction; it is published when that commits, or later by the relay."""
    task_of(event_type)
    event = OutboxEvent.objects.create(event_type=event_type, payload=ids)
    transaction.on_commit(partial(publish, event, sender=sender))
    return event


def publish(event: OutboxEvent, *, sender: Sender = ring) -> bool:
    """Publish one event and note that it was. False if the broker could not be told; the relay will."""
    if sender is ring and at_hand.keep(event, task_of(event.event_type)):
        return True
    if _pause.active:
        return False
    try:
        sender(event.event_type, event.payload)
    except BROKER_ERRORS as error:
        _pause.begin()
        if _complaints.ready("publish"):
            log.warning("event %d (%s) waits for the relay: %s", event.pk, event.event_type, error)
        return False
    note_published(event)
    return True


def note_published(event: OutboxEvent) -> None:
    """The task of this event was woken, or has run."""
    failpoint("outbox.after_publish")
    OutboxEvent.objects.filter(pk=event.pk, published_at=None).update(published_at=timezone.now())
