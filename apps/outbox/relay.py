"""Publishing what was recorded and not published: at least once, by any number of relays at the same time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from apps.bus.failpoints import failpoint
from apps.outbox.models import OutboxEvent
from apps.outbox.pace import AtMostEvery
from apps.outbox.services import BROKER_ERRORS, Sender, UnknownEvent, ring

log = logging.getLogger(__name__)

OLDER_THAN_MS: Final = 1_000
BATCH: Final = 200

_complaints = AtMostEvery(10)


@dataclass(frozen=True, slots=True)
class Relayed:
    """`published` of the `found` events; they differ when the broker failed on the way."""

    found: int
    published: int


def publish_pending(
    *, now: datetime, older_than_ms: int = OLDER_THAN_MS, limit: int = BATCH, sender: Sender = ring
) -> Relayed:
    """Publish events that have waited longer than `older_than_ms`, oldest first, at most `limit` of them.

    A relay that dies after sending and before committing sends again: receivers tolerate an event twice.
    """
    with transaction.atomic():
        waiting = list(
            OutboxEvent.objects.select_for_update(skip_locked=True)
            .filter(published_at=None, created_at__lt=now - timedelta(milliseconds=older_than_ms))
            .order_by("id")[:limit]
        )
        sent = _send(waiting, sender)
        OutboxEvent.objects.filter(pk__in=sent).update(published_at=now)
    return Relayed(len(waiting), len(sent))


def _send(events: list[OutboxEvent], sender: Sender) -> list[int]:
    """Ids of the events that were sent. Stops at the first failure: the broker is away, and the order is kept."""
    sent: list[int] = []
    for event in events:
        try:
            sender(event.event_type, event.payload)
        except BROKER_ERRORS as error:
            if _complaints.ready("relay"):
                log.warning("%d events wait for the broker: %s", len(events) - len(sent), error)
            break
        except UnknownEvent:
            if _complaints.ready(event.event_type):
                log.error("event %d: no task is routed from %s; it stays unpublished", event.pk, event.event_type)
            continue
        failpoint("outbox.after_publish")
        sent.append(event.pk)
    return sent
