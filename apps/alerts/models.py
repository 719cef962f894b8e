"""Alerts: raised in the transaction of what they tell of, open until a person acknowledges them."""

from __future__ import annotations

from typing import Final

from django.db import models

from apps.portfolio.models import TradingSession

SUBJECT_MAX: Final = 120
WORDS_MAX: Final = 300
PERSON_MAX: Final = 150
REASON_MAX: Final = 200


class Alert(models.Model):
    """Something that a person has to look at. One is open per kind and subject: what happens again is counted."""

    class Kind(models.TextChoices):
        STRATEGY_FAILED = "strategy_failed"
        PARITY_DIFFERENCE = "parity_difference"
        BREAKER_TRIPPED = "breaker_tripped"
        EXPOSURE_NEAR_LIMIT = "exposure_near_limit"
        ORDER_UNKNOWN = "order_unknown"
        ORDER_ANOMALY = "order_anomaly"
        NO_ACTIVITY = "no_activity"
        FEW_TRADES = "few_trades"
        TASK_GIVEN_UP = "task_given_up"

    class Severity(models.TextChoices):
        NOTICE = "notice"
        WARNING = "warning"
        CRITICAL = "critical"

    kind = models.CharField(max_length=24, choices=Kind.choices)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    subject = models.CharField(max_length=SUBJECT_MAX, help_text="what it is about; one alert of it is open")
    words = models.CharField(max_length=WORDS_MAX, help_text="what happened, the last time")
    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, null=True, blank=True, related_name="alerts")
    count = models.PositiveIntegerField(default=1, help_text="how often it happened while it was open")
    raised_at = models.DateTimeField(auto_now_add=True)
    last_at = models.DateTimeField(auto_now_add=True, help_text="when it happened last")
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=PERSON_MAX, blank=True, default="")
    reason = models.CharField(max_length=REASON_MAX, blank=True, default="", help_text="of whoever acknowledged it")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"], condition=models.Q(acknowledged_at=None), name="alert_open_once"
            )
        ]
        permissions = [("acknowledge_alert", "Can acknowledge an alert")]

    def __str__(self) -> str:
        return f"{self.get_kind_display().lower()}: {self.subject}"
