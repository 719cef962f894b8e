"""Runs of the backtest: what was asked, with which code, and what came out."""

from __future__ import annotations

from typing import Any, Final

from django.db import models

from apps.market.models import MONEY
from apps.portfolio.models import TradingSession


class RunState(models.TextChoices):
    REQUESTED = "requested"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"


UNDER_WAY: Final = frozenset({RunState.RUNNING, RunState.CANCELLING})
ENDED: Final = frozenset({RunState.CANCELLED, RunState.DONE, RunState.FAILED})


class BacktestRun(models.Model):
    """One backtest. `inputs` and `engine_hash` never change: the same inputs with the same code decide the same."""

    state = models.CharField(max_length=10, choices=RunState.choices, default=RunState.REQUESTED)
    words = models.CharField(max_length=400, blank=True, help_text="why it ended as it did, if not well")
    inputs = models.JSONField(help_text="what was asked; never changed")
    engine_hash = models.CharField(max_length=64, help_text="hash of the engine's sources")
    requested_by = models.CharField(max_length=150)
    again_of = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="repeats")
    requested_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True, help_text="last sign of life of the process that runs it")
    ended_at = models.DateTimeField(null=True, blank=True)
    permille = models.PositiveSmallIntegerField(default=0, help_text="of the time to simulate, that is done")
    trades = models.BigIntegerField(default=0, help_text="read so far")
    parameters = models.JSONField(default=dict, blank=True, help_text="every parameter as it was judged with")
    data = models.JSONField(default=dict, blank=True, help_text="symbols, files and their fingerprints, span")
    final_equity = models.DecimalField(**MONEY, null=True, blank=True)
    result = models.DecimalField(**MONEY, null=True, blank=True, help_text="quote currency, net of fees")
    figures = models.JSONField(default=dict, blank=True, help_text="counts, performance, denied decisions by reason")
    decision_hash = models.CharField(max_length=64, blank=True, help_text="equal exactly if every decision is")
    report = models.CharField(max_length=200, blank=True, help_text="name of the report's file")

    class Meta:
        indexes = [models.Index(fields=["state"])]

    def __str__(self) -> str:
        return f"backtest {self.pk}: {self.title}"

    @property
    def title(self) -> str:
        """What was asked, in a few words: `momentum:3 with threshold_pct=1.5 on XRPUSDT`."""
        asked: dict[str, Any] = self.inputs
        version = f":{asked['version']}" if asked.get("version") else ""
        changes = ", ".join(f"{name}={value}" for name, value in asked.get("set", {}).items())
        symbols = ", ".join(asked.get("symbols", [])[:3]) + ("…" if len(asked.get("symbols", [])) > 3 else "")
        words = f"{asked.get('strategy', '')}{version}"
        words += f" with {changes}" if changes else ""
        return words + (f" on {symbols}" if symbols else "")


class ParityAudit(models.Model):
    """A session done again from its stream, through the end of a UTC day: equal, or the first difference."""

    session = models.ForeignKey(TradingSession, on_delete=models.PROTECT, related_name="parity_audits")
    day = models.DateField(help_text="UTC")
    holds = models.BooleanField(help_text="whether everything came out equal")
    compared = models.JSONField(help_text="how many signals, decisions, fills and ends were compared")
    difference = models.JSONField(default=dict, blank=True, help_text="the first difference, with both sides")
    created_at = models.DateTimeField(auto_now_add=True)
    asked_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["session", "-day"])]

    def __str__(self) -> str:
        return f"{self.session} on {self.day}: {'equal' if self.holds else 'different'}"
