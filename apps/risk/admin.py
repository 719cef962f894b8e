"""Limits, state and decisions, as staff can read them. They are changed by `manage.py risk`, which asks who and why."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.engine.tiers import LADDER, Tier, applies_to
from apps.portfolio.models import MAIN_BOOK
from apps.risk.admin_states import StateActions, scopes_words, trips_words
from apps.risk.models import (
    LimitsRefusal,
    OrderIntent,
    RiskDecision,
    RiskLimits,
    RiskState,
    RiskStateChange,
    TierChange,
)
from apps.risk.selectors import standing_of
from apps.risk.services.tiers import TierRefused, move_by_hand
from apps.signals.models import SessionStrategy
from apps.signals.services.schedules import version_in_force
from apps.staff import numbers, times
from apps.staff.columns import explanation, link, links, named
from apps.staff.records import Record

CHECK_WORDS = {
    "SYMBOL": "symbol allowed",
    "HALTED": "trading not halted",
    "REDUCING": "opening allowed",
    "LEASE": "lease of the feed",
    "VERSION": "one version of the code",
    "HEARTBEAT": "heartbeats of the workers",
    "RECON": "reconciled with the venue",
    "STALE_FEED": "age of the feed",
    "STALE_SIGNAL": "age of the signal",
    "DATA_GAP": "holes in the window",
    "BAD_TICK": "price confirmed",
    "PRICE_COLLAR": "price against the quote",
    "FAT_FINGER": "size of the order",
    "MIN_NOTIONAL": "the exchange's minimum",
    "POSITION_LIMIT": "position in the symbol",
    "OPEN_ORDERS": "open orders",
    "SELF_TRADE": "no opposite order",
    "EXPOSURE": "gross exposure",
    "CASH": "free cash",
    "LOSS_LIMIT": "loss of the day",
    "DRAWDOWN": "loss from the highest",
    "THROTTLE": "orders per time",
    "REPEAT": "not again and again",
    "DUPLICATE": "the same order again",
}
AGES_MS = {"STALE_FEED", "STALE_SIGNAL", "DUPLICATE"}
FRACTIONS = {"PRICE_COLLAR"}


def check_rows(checks: Any) -> list[dict[str, Any]]:
    """The stored checks as rows of the table, failed ones first and otherwise in the order they were run."""
    rows = [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []
    shown = [
        {
            "words": check_words(str(check.get("code", ""))),
            "code": check.get("code", ""),
            "value": _shown(str(check.get("code")), check.get("value")),
            "value_raw": check.get("value"),
            "limit": _shown(str(check.get("code")), check.get("limit")),
            "limit_raw": check.get("limit"),
            "passed": check.get("passed") is True,
            "note": check.get("note") or "",
        }
        for check in rows
    ]
    return sorted(shown, key=lambda row: row["passed"])


def check_words(code: str) -> str:
    return CHECK_WORDS.get(code, code.replace("_", " ").lower())


def _shown(code: str, stored: Any) -> str:
    """A stored figure in the unit of its check; as it stands if it is no number."""
    if stored is None or stored == "":
        return numbers.UNKNOWN
    try:
        figure = Decimal(str(stored))
    except InvalidOperation:
        return str(stored)
    if code in AGES_MS:
        return times.duration(int(figure))
    return numbers.percent(figure, 2) if code in FRACTIONS else numbers.exact(figure)


def checks_table(decision: RiskDecision) -> str:
    return render_to_string("admin/risk/checks.html", {"rows": check_rows(decision.checks)})


def verdict_sentence(decision: RiskDecision) -> str:
    return format_html('<strong class="cdb-verdict-sentence">{}</strong>', decision.sentence)


def reasons_in_words(decision: RiskDecision) -> str:
    return ", ".join(check_words(code) for code in decision.reasons) or numbers.UNKNOWN


def sentence_column(decision: RiskDecision) -> str:
    return format_html('<span class="cdb-words">{}</span>', decision.sentence)


def signal_column(decision: RiskDecision) -> str:
    return link(decision.signal, f"{decision.signal.kind} signal")


def signal_instrument(decision: RiskDecision) -> str:
    return link(decision.signal.instrument)


def interval_words(change: TierChange) -> str:
    """The interval of the win rate: a statistic, so it prints in tenths of a per cent."""
    return f"{change.lower:.1%} to {change.upper:.1%}"


@admin.register(RiskLimits)
class RiskLimitsAdmin(Record):
    list_display = [
        "__str__",
        "account",
        "version",
        "exposure_max",
        "order_notional_max",
        "position_max",
        "set_by",
        "reason",
        "created_at",
    ]
    list_filter = ["account", "set_by"]
    list_select_related = ["account", "account__session"]
    search_fields = ["set_by", "reason"]
    ordering = ["-id"]


@admin.register(LimitsRefusal)
class LimitsRefusalAdmin(Record):
    list_display = ["__str__", "account", "asked", "why", "set_by", "reason", "created_at"]
    list_filter = ["account", "set_by"]
    list_select_related = ["account", "account__session"]
    search_fields = ["asked", "why", "set_by", "reason"]
    ordering = ["-id"]


@admin.register(RiskState)
class RiskStateAdmin(StateActions, Record):
    actions_detail = ["halt", "reduce", "resume", "flatten"]
    road = [named(scopes_words, "scopes", "Not active"), named(trips_words, "trips", "Open trips")]
    list_display = [
        "__str__",
        "account",
        "trading_state",
        "state_reason",
        "state_set_by",
        "state_since",
        "exposure",
        "sequence",
    ]
    list_filter = ["trading_state"]
    list_select_related = ["account", "account__session"]
    search_fields = ["account__session__name", "state_reason"]
    ordering = ["-id"]


@admin.register(RiskStateChange)
class RiskStateChangeAdmin(Record):
    list_display = ["created_at", "account", "from_state", "to_state", "set_by", "reason", "sequence"]
    list_filter = ["to_state", "set_by", "account"]
    list_select_related = ["account", "account__session"]
    search_fields = ["set_by", "reason"]
    ordering = ["-id"]


class TierChangeForm(forms.ModelForm):  # type: ignore[type-arg]
    """A move by hand, of a running session's strategy."""

    binding = forms.ModelChoiceField(
        SessionStrategy.objects.filter(session__ended_at=None, book=MAIN_BOOK).select_related(
            "session", "version__strategy"
        ),
        label="strategy",
        widget=UnfoldAdminSelectWidget,
    )
    to_tier = forms.ChoiceField(
        choices=[(str(tier), str(tier)) for tier in LADDER], label="tier", widget=UnfoldAdminSelectWidget
    )
    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = TierChange
        fields = ["binding", "to_tier", "reason"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        binding = data.get("binding")
        if binding is None:
            return data
        if standing_of(binding).tier == data.get("to_tier"):
            self.add_error("to_tier", f"{binding} is {data['to_tier']} already.")
        elif not applies_to(version_in_force(binding).parameters):
            self.add_error("binding", f"{binding.version.strategy} has no thresholds that a tier moves.")
        return data


@admin.register(TierChange)
class TierChangeAdmin(Record):
    """Moves are stored with their evidence. Those who may override a tier add one by hand."""

    words = (
        "How much each strategy is trusted: every move with the results it was made on. A tier moves up when more than "
        "60 % of the last 300 round trips won by more than chance, down when fewer than half did or a breaker tripped."
    )
    form = TierChangeForm
    list_display = [
        "created_at", "binding", "from_tier", "to_tier", "cause", "wins", "round_trips",
        named(interval_words, "interval", "win rate"), "from_minute", "set_by", "reason",
    ]  # fmt: skip
    list_filter = ["to_tier", "cause", "set_by"]
    list_select_related = ["binding__session", "binding__version__strategy", "version__strategy", "breaker"]
    search_fields = ["binding__session__name", "set_by", "reason"]
    hidden = frozenset({"lower", "upper"})
    road = [named(interval_words, "interval", "win rate")]
    ordering = ["-id"]

    def has_add_permission(self, request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm("risk.override_tier"))

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return super().get_fields(request, obj) if obj is not None else list(TierChangeForm.Meta.fields)

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return super().get_readonly_fields(request, obj) if obj is not None else []

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> Any:
        """What somebody else did between the look at the form and its storing is said, not shown as an error."""
        try:
            return super().add_view(request, form_url, extra_context)
        except TierRefused as refused:
            self.message_user(request, str(refused), level=messages.ERROR)
            return redirect("admin:risk_tierchange_changelist")

    def save_form(self, request: HttpRequest, form: TierChangeForm, **_: bool) -> TierChange:
        """The service stores the move, all at once: `save_model` has nothing left to do."""
        data = form.cleaned_data
        row = move_by_hand(
            binding_id=data["binding"].pk,
            to_tier=Tier(data["to_tier"]),
            set_by=request.user.get_username(),
            reason=data["reason"],
        )
        if row is None:
            raise TierRefused(f"{data['binding']} is {data['to_tier']} already")
        return row

    def save_model(self, _request: HttpRequest, _obj: TierChange, _form: Any, _change: bool) -> None:
        """Stored by `save_form`."""

    def save_related(self, *_: Any) -> None:
        """Nothing hangs on the form."""


@admin.register(RiskDecision)
class RiskDecisionAdmin(Record):
    list_display = [
        "sequence", "ts_event", named(signal_instrument, "signal_instrument", "instrument"), "verdict",
        named(sentence_column, "sentence", "in words"), named(reasons_in_words, "reasons", "denied by"),
        named(signal_column, "signal", "signal"), links("intents", "intent"),
    ]  # fmt: skip
    list_filter = ["verdict", "trading_state", "signal__kind", "signal__instrument", "account"]
    list_select_related = [
        "signal",
        "signal__instrument",
        "account",
        "account__session",
        "limits",
        "limits__account__session",
    ]
    prefetch = ["intents__instrument"]
    search_fields = ["signal__instrument__symbol__istartswith", "sentence"]
    hidden = frozenset({"sentence", "reasons"})
    road = [
        explanation("decision"),
        named(verdict_sentence, "verdict_sentence", "Verdict"),
        named(checks_table, "checks_table", "Checks"),
        links("intents", "Intent"),
    ]
    ordering = ["-id"]


@admin.register(OrderIntent)
class OrderIntentAdmin(Record):
    list_display = [
        "client_order_id", "ts_event", "side", "instrument", "quantity", "limit_price", "reducing", "decision",
        links("order", "order"), "position",
    ]  # fmt: skip
    list_filter = ["side", "reducing", "instrument", "account"]
    list_select_related = [
        "instrument", "account", "account__session", "decision", "order", "order__instrument", "position",
        "position__instrument",
    ]  # fmt: skip
    search_fields = ["client_order_id__exact", "instrument__symbol__istartswith"]
    road = [links("order", "Order")]
    ordering = ["-id"]
