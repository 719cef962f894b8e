"""The outbox: what happened, written in the transaction in which it happened, published afterwards."""

from __future__ import annotations

from django.db import models


class OutboxEvent(models.Model):
    """One past-tense event. Published at least once; whoever receives it must tolerate it twice."""

    event_type = models.CharField(max_length=40, help_text="a key of pipeline.ROUTES, e.g. SignalRaised")
    payload = models.JSONField(help_text="keyword arguments of the task: ids only, never money or secrets")
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="outbox_unpublished", condition=models.Q(published_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.payload}"
