"""What was compared with a venue and what differed; each start of trading; and which database this is."""

from __future__ import annotations

from django.db import models

from apps.engine.reconciling import Correction, Kind
from apps.market.models import MONEY
from apps.portfolio.models import Account, TradingSession


def _choices(names: type[Kind | Correction]) -> list[tuple[str, str]]:
    return [(name.value, name.value.replace("_", " ").lower()) for name in names]


class ReconcileRun(models.Model):
    """One comparison of our books with the venue's. One that compared nothing has shown nothing."""

    class Scope(models.TextChoices):
        ORDERS = "orders", "open orders and their fills"
        FULL = "full", "orders, recent fills and balances"
        ALL = "all", "orders, every fill of the account and balances"

    class Outcome(models.TextChoices):
        CLEAN = "clean"
        DIFFERENT = "different"
        EMPTY = "empty", "compared 0"
        UNCLEAR = "unclear", "the venue did not answer"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="reconcile_runs")
    scope = models.CharField(max_length=8, choices=Scope.choices)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    compared = models.JSONField(default=dict, help_text="how many orders, fills and balances were compared")
    differences = models.PositiveIntegerField(default=0, help_text="open after this run")
    corrected = models.PositiveIntegerField(default=0, help_text="applied by this run")
    suspects = models.JSONField(default=dict, help_text="what differed too briefly to be called a difference, by key")
    detail = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["account", "scope", "-id"], name="reconcile_run_newest")]

    def __str__(self) -> str:
        return f"{self.scope}: {self.get_outcome_display().lower()}"

    @property
    def compared_in_all(self) -> int:
        return sum(self.compared.values())


class ReconcileDifference(models.Model):
    """What differed for longer than anything is under way, and what became of it. One is open per kind and subject."""

    class State(models.TextChoices):
        OPEN = "open", "waits for a person"
        APPLIED = "applied", "corrected by itself"
        APPROVED = "approved", "corrected as a person approved"
        DISMISSED = "dismissed"
        RESOLVED = "resolved", "no longer differs"

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="reconcile_differences")
    run = models.ForeignKey(ReconcileRun, on_delete=models.PROTECT, related_name="found")
    kind = models.CharField(max_length=24, choices=_choices(Kind))
    subject = models.CharField(max_length=80, help_text="order, trade or currency")
    client_order_id = models.CharField(max_length=64, blank=True, default="")
    ours = models.CharField(max_length=160)
    venue = models.CharField(max_length=160)
    correction = models.CharField(max_length=16, choices=_choices(Correction))
    amount = models.DecimalField(**MONEY, default=0, help_text="of a balance: what is missing here")
    size = models.DecimalField(**MONEY, null=True, blank=True, help_text="quote currency; empty: cannot be valued")
    detail = models.CharField(max_length=200, blank=True, default="")
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    found_at = models.DateTimeField(help_text="when it was seen first")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind", "subject"], condition=models.Q(state="open"), name="difference_open_once"
            )
        ]
        permissions = [("decide_difference", "Can approve and dismiss a reconciliation difference")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


class TradingStart(models.Model):
    """One start of trading, or recovery: its steps with their durations, and why it stopped if it did."""

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, null=True, blank=True, related_name="starts")
    cause = models.CharField(max_length=16, help_text="start, or what was recovered from")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    ok = models.BooleanField(null=True, help_text="unknown while it runs, or if it was cut off")
    steps = models.JSONField(default=list, help_text="list of {name, seconds, ok, detail}")
    reason = models.CharField(max_length=300, blank=True, default="", help_text="why it stopped, or what holds trading")

    def __str__(self) -> str:
        return f"{self.cause} {self.started_at:%d %b %H:%M}"


class DatabaseIncarnation(models.Model):
    """Which life of the database this is: the newest row names it. A restored database begins another.

    What a restored database would give out a second time (wire ids at an exchange) carries this token.
    """

    token = models.CharField(max_length=8, unique=True)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.token
