"""The outbox, as staff can read it."""

from __future__ import annotations

from django.contrib import admin

from apps.outbox.models import OutboxEvent
from apps.staff.records import LongRecord


@admin.register(OutboxEvent)
class OutboxEventAdmin(LongRecord):
    list_display = ["id", "event_type", "payload", "created_at", "published_at"]
    list_filter = ["event_type", ("published_at", admin.EmptyFieldListFilter)]
    search_fields = ["event_type__istartswith"]
    ordering = ["-id"]
