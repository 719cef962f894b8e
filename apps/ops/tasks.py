"""Doors of the operations tasks."""

from __future__ import annotations

import time

from celery import shared_task
from django.conf import settings

from apps.bus import clients, streams


@shared_task(name="ops.note_beat", max_retries=0)
def note_beat() -> None:
    """Sent by beat, done by a worker: while this is fresh, schedule, broker and worker all do something."""
    clients.writer(settings.REDIS_URL).set(streams.heartbeat_key("beat"), time.time_ns() // 1_000_000, ex=3600)
