"""Strategies and what they saw, as staff can read it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from apps.signals.forms import StrategyVersionForm
from apps.signals.models import (
    ParameterSchedule,
    SessionStrategy,
    Signal,
    SignalRefusal,
    Strategy,
    StrategyCall,
    StrategyVersion,
)
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


def changes_in_words(version: StrategyVersion) -> str:
    changed = (f"{name} {_value(before)} → {_value(after)}" for name, (before, after) in version.changes.items())
    return ", ".join(changed) or numbers.UNKNOWN


def _value(value: Any) -> str:
    return numbers.UNKNOWN if value is None else str(value)


@admin.register(StrategyVersion)
class StrategyVersionAdmin(Record):
    """Versions are added by those who may, under their own name; the strategy checks them. None is ever changed."""

    words = (
        "Every set of parameters that a strategy has been given, with who made it, why, and what it changed. A version "
        "judges nothing before a session begins with it or follows it (schedule)."
    )
    form = StrategyVersionForm
    list_display = [
        "__str__", named(changes_in_words, "changes_in_words", "against the version before"), "author", "reason",
        "created_at",
    ]  # fmt: skip
    list_filter = ["strategy", "author"]
    list_select_related = ["strategy"]
    search_fields = ["strategy__name", "author", "reason", "engine_hash__startswith"]
    ordering = ["-id"]
    hidden = frozenset({"changes"})
    road = [
        named(changes_in_words, "changes_in_words", "against the version before"),
        listing("signals_signal", "Signals", lambda row: {"strategy_version__id__exact": row.pk}),
    ]

    def has_add_permission(self, request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm("signals.add_strategyversion"))

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return super().get_fields(request, obj) if obj is not None else ["strategy", "assignments", "reason"]

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return super().get_readonly_fields(request, obj) if obj is not None else []

    def save_form(self, request: HttpRequest, form: StrategyVersionForm, **_: bool) -> StrategyVersion:
        """The service stores it, all at once: `save_model` has nothing left to do."""
        row = form.store(request.user.get_username())
        self.message_user(request, f"{row}: {changes_in_words(row)}")
        return row

    def save_model(self, _request: HttpRequest, _obj: StrategyVersion, _form: Any, _change: bool) -> None:
        """Stored by `save_form`."""

    def save_related(self, *_: Any) -> None:
        """Nothing hangs on the form."""


@admin.register(ParameterSchedule)
class ParameterScheduleAdmin(Record):
    words = (
        "From which event minute on a session's strategy is judged by another version than the one it began with. The "
        "first row appears when a tier moves or somebody lets the session follow a version."
    )
    list_display = ["created_at", "session", "base", "version", "from_minute", "set_by", "reason"]
    list_filter = ["session", "set_by"]
    list_select_related = ["session", "base__strategy", "version__strategy"]
    search_fields = ["session__name", "set_by", "reason"]
    ordering = ["-id"]


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


@admin.register(StrategyCall)
class StrategyCallAdmin(Record):
    words = (
        "Trades on which a strategy said that the reason for its entries is gone. Every position that it had opened "
        "before, and that has not switched this off, was sold with the reason exit_signal. Empty for strategies "
        "without exit signals of their own."
    )
    list_display = ["id", "ts_event", "instrument", "price", "trade_id", "strategy_version", "epoch"]
    list_filter = ["instrument", "strategy_version"]
    list_select_related = ["instrument", "strategy_version", "strategy_version__strategy", "epoch"]
    search_fields = ["instrument__symbol__istartswith", "trade_id__exact"]
    ordering = ["-ts_event", "-id"]
