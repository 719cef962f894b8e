"""Strategies and what they saw, as staff can read it."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.signals.models import SessionStrategy, Signal, SignalRefusal, Strategy, StrategyVersion
from apps.staff import numbers
from apps.staff.columns import links, listing, named
from apps.staff.records import Record, RecordInline


def indicator(value: float | None) -> Decimal | None:
    """An indicator as it prints; it is a measured quantity, not money."""
    return None if value is None else Decimal(repr(value))


def change_percent(signal: Signal | SignalRefusal) -> str:
    return numbers.percent(indicator(signal.change), 2, signed=True)


def rsi_text(signal: Signal | SignalRefusal) -> str:
    return numbers.rounded(indicator(signal.rsi), 1)


def turnover_text(signal: Signal | SignalRefusal) -> str:
    return numbers.rounded(indicator(signal.turnover), 2)


INDICATORS: Final = {
    "change": named(change_percent, "change", "change", "change"),
    "rsi": named(rsi_text, "rsi", "RSI", "rsi"),
    "turnover": named(turnover_text, "turnover", "turnover", "turnover"),
}


class StrategyVersionInline(RecordInline):
    model = StrategyVersion
    fields = ["version", "created_at", "engine_hash"]


@admin.register(Strategy)
class StrategyAdmin(ModelAdmin):  # type: ignore[misc]
    """The description may be edited; what a version does is frozen."""

    list_display = ["name", "description"]
    search_fields = ["name"]
    readonly_fields = ["name"]
    inlines = [StrategyVersionInline]
    actions = None

    def has_add_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False


@admin.register(StrategyVersion)
class StrategyVersionAdmin(Record):
    list_display = ["__str__", "strategy", "version", "created_at"]
    list_filter = ["strategy"]
    list_select_related = ["strategy"]
    search_fields = ["strategy__name", "engine_hash__startswith"]
    ordering = ["-id"]
    road = [listing("signals_signal", "Signals", lambda row: {"strategy_version__id__exact": row.pk})]


@admin.register(SessionStrategy)
class SessionStrategyAdmin(Record):
    list_display = ["__str__", "session", "version", "book"]
    list_select_related = ["session", "version", "version__strategy"]
    search_fields = ["session__name", "version__strategy__name"]
    ordering = ["-id"]


@admin.register(Signal)
class SignalAdmin(Record):
    list_display = [
        "id", "ts_event", "kind", "instrument", "price", "change", "rsi", "turnover", "exit_reason", "strategy_version",
        links("decisions", "decision"),
    ]  # fmt: skip
    list_filter = ["kind", "exit_reason", "instrument", "strategy_version", "session"]
    list_select_related = [
        "instrument", "strategy_version", "strategy_version__strategy", "session", "position", "position__instrument",
    ]  # fmt: skip
    prefetch = ["decisions"]
    search_fields = ["instrument__symbol__istartswith", "trigger_key__exact", "trade_id__exact"]
    formats = INDICATORS
    road = [links("decisions", "Decision")]
    ordering = ["-ts_event", "-id"]


@admin.register(SignalRefusal)
class SignalRefusalAdmin(Record):
    list_display = [
        "id", "ts_event", "instrument", "price", "change", "rsi", "turnover", "unproven_minutes", "reason",
        "strategy_version",
    ]  # fmt: skip
    list_filter = ["reason", "instrument", "strategy_version", "session"]
    list_select_related = ["instrument", "strategy_version", "strategy_version__strategy", "session"]
    search_fields = ["instrument__symbol__istartswith", "trigger_key__exact", "trade_id__exact"]
    formats = INDICATORS
    ordering = ["-ts_event", "-id"]
