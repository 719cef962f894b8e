"""Strategies and what they saw, as staff can read it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action

from apps.signals.forms import StrategyVersionForm
from apps.signals.models import (
    ParameterSchedule,
    SessionStrategy,
    Signal,
    SignalRefusal,
    Strategy,
    StrategyCall,
    StrategyFailure,
    StrategyVersion,
)
from apps.signals.services.failures import enable
from apps.signals.services.schedules import ScheduleRefused, is_enabled, version_in_force
from apps.signals.services.versions import VersionRefused
from apps.staff import numbers, times
from apps.staff.columns import explanation, links, listing, named
from apps.staff.forms import ReasonForm
from apps.staff.records import Record, RecordInline

# By the name of a method: a permission's own name would be looked up in the database at every start of a process.
MAY_ENABLE = ["enable"]


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
        "first row appears when a tier moves or somebody lets the session follow a version. A row that is not enabled "
        "says that nobody judges from there on: the strategy failed, or somebody stopped it."
    )
    list_display = ["created_at", "session", "base", "version", "enabled", "from_minute", "set_by", "reason"]
    list_filter = ["enabled", "session", "set_by"]
    list_select_related = ["session", "base__strategy", "version__strategy"]
    search_fields = ["session__name", "set_by", "reason"]
    ordering = ["-id"]


def judging(binding: SessionStrategy) -> str:
    """What judges the newest minutes; asked for one row only."""
    return f"{version_in_force(binding)}" if is_enabled(binding) else f"nobody: {version_in_force(binding)} is disabled"


@admin.register(SessionStrategy)
class SessionStrategyAdmin(Record):
    """What a strategy judges by is changed by versions; one that was disabled is put back here, with a reason."""

    list_display = ["__str__", "session", "version", "book"]
    list_select_related = ["session", "version", "version__strategy"]
    search_fields = ["session__name", "version__strategy__name"]
    ordering = ["-id"]
    road = [
        named(judging, "judging", "judges now"),
        listing(
            "signals_strategyfailure",
            "Failures",
            lambda row: {"session__id__exact": row.session_id, "base__id__exact": row.version_id},
        ),
    ]
    actions_detail = ["enable_again"]

    def has_enable_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("signals.enable_strategy"))

    @action(description="Enable again…", url_path="enable", permissions=MAY_ENABLE)  # type: ignore[untyped-decorator]
    def enable_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        rows = SessionStrategy.objects.select_related("session", "version__strategy")
        binding = get_object_or_404(rows, pk=object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                row = enable(
                    binding_id=binding.pk, set_by=request.user.get_username(), reason=form.cleaned_data["reason"]
                )  # fmt: skip
            except (ScheduleRefused, VersionRefused) as refused:
                messages.error(request, str(refused))
            else:
                self.log_change(request, binding, "Enabled again")
                messages.success(request, f"{row.version} judges again from {times.minute_text(row.from_minute)} on.")
            return HttpResponseRedirect(reverse("admin:signals_sessionstrategy_change", args=(binding.pk,)))
        words = f"{binding}: judges now {judging(binding)}. Enabled again, it begins anew: it warms up first."
        context = {**self.admin_site.each_context(request), "title": "Enable a strategy again", "button": "Enable"}
        return TemplateResponse(
            request, "admin/reason.html", {**context, "form": form, "words": words, "row": binding, "opts": self.opts}
        )


@admin.register(StrategyFailure)
class StrategyFailureAdmin(Record):
    words = (
        "Strategies that failed: in which shard, on what, and from which minute on nobody judged by them in any shard "
        "(schedule). One is put back under the session's strategy. The first row appears with the first failure."
    )
    list_display = [
        "created_at", "session", "strategy_version", "shard", "symbol", "ts_event", "words", "schedule",
    ]  # fmt: skip
    list_filter = ["session", "base", "symbol"]
    list_select_related = [
        "session", "strategy_version", "strategy_version__strategy", "base", "base__strategy", "schedule",
        "schedule__version", "schedule__version__strategy",
    ]  # fmt: skip
    search_fields = ["symbol__istartswith", "words", "session__name"]
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
    road = [explanation("signal"), links("decisions", "Decision")]
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
    road = [explanation("refusal")]
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
