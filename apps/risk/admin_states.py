"""Trading states and trips on the staff pages, with a confirmation page for each change that asks why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget

from apps.market.models import EpochInstrument
from apps.portfolio.models import Account
from apps.risk.models import BreakerTrip, RiskState, Scope, ScopedState, StateRefusal, TradingState, TripCause
from apps.risk.scopes import STRICTNESS, open_trips, scoped_states
from apps.risk.services.flattening import flatten
from apps.risk.services.refusals import refuse_state
from apps.risk.services.states import StateRefused, set_trading_state
from apps.risk.services.ways_back import WAYS_BACK
from apps.risk.words import HALT_STOPS_EXITS, meaning, sold_words
from apps.signals.models import SessionStrategy
from apps.staff.columns import named
from apps.staff.forms import ReasonForm
from apps.staff.records import Record

# By the name of a method: a permission's own name would be looked up in the database at every start of a process.
MAY_CHANGE: Final = ["change_trading"]
MAY_RESUME: Final = ["resume_trading"]
NOT_ALLOWED: Final = "you may not let trading go on"

WORDS: Final = {
    TradingState.HALTED: f"{HALT_STOPS_EXITS} To protect what is held, reduce instead.",
    TradingState.REDUCING: "Nothing is opened any more; stops, targets and time limits go on for what is held.",
    TradingState.ACTIVE: "Trading goes on within the limits. It is refused while the cause of a trip persists.",
}
FLATTEN_WORDS: Final = (
    "Nothing is opened any more, and every open position is sold at once, each within the exit band around its price. "
    "This cannot be taken back. Pressing twice sells nothing twice."
)


Work = Callable[[], str]


class StateForm(ReasonForm):
    """Which of the account's trading states, and why."""

    about = forms.ChoiceField(label="what", widget=UnfoldAdminSelectWidget)
    field_order = ("about", "reason")

    def __init__(self, *arguments: Any, account: Account, **named_arguments: Any) -> None:
        super().__init__(*arguments, **named_arguments)
        self.fields["about"].choices = _choices(account)  # type: ignore[attr-defined]

    def scope(self) -> tuple[Scope, str]:
        """Of a form that is valid."""
        scope, _, subject = self.cleaned_data["about"].partition(":")
        return Scope(scope), subject


def _choices(account: Account) -> list[tuple[str, str]]:
    bound = SessionStrategy.objects.filter(session=account.session_id).order_by("version__strategy__name")
    strategies = bound.values_list("version__strategy__name", flat=True).distinct()
    members = EpochInstrument.objects.filter(epoch=account.session.epoch_id).order_by("instrument__symbol")
    symbols = members.values_list("instrument__symbol", flat=True)
    return [
        (f"{Scope.ACCOUNT}:", "everything"),
        *((f"{Scope.STRATEGY}:{name}", f"strategy {name}") for name in strategies),
        *((f"{Scope.SYMBOL}:{name}", f"symbol {name}") for name in symbols),
    ]


class StateActions:
    """Halt, reduce, resume and flatten, on the page of an account's trading state."""

    admin_site: admin.AdminSite
    opts: Any
    log_change: Callable[..., Any]

    def has_change_trading_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _may(request, "risk.change_trading_state", object_id)

    def has_resume_trading_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return _may(request, "risk.resume_trading", object_id)

    @action(description="Halt…", url_path="halt", permissions=MAY_CHANGE)  # type: ignore[untyped-decorator]
    def halt(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change(request, object_id, TradingState.HALTED, "Halt trading")

    @action(description="Reduce…", url_path="reduce", permissions=MAY_CHANGE)  # type: ignore[untyped-decorator]
    def reduce(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change(request, object_id, TradingState.REDUCING, "Only reduce")

    @action(description="Resume…", url_path="resume", permissions=MAY_RESUME)  # type: ignore[untyped-decorator]
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._change(request, object_id, TradingState.ACTIVE, "Resume trading")

    @action(description="Flatten…", url_path="flatten", permissions=MAY_CHANGE)  # type: ignore[untyped-decorator]
    def flatten(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = _row(object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            who, why = request.user.get_username(), form.cleaned_data["reason"]
            now_ms = time.time_ns() // 1_000_000

            def sell() -> str:
                return sold_words(flatten(account_id=row.account_id, set_by=who, reason=why, now_ms=now_ms))

            return self._carry_out(request, row, "flatten", (Scope.ACCOUNT, ""), why, sell)
        return self._page(request, row, form, "Sell every position", FLATTEN_WORDS)

    def _change(self, request: HttpRequest, object_id: str, to_state: TradingState, title: str) -> HttpResponse:
        row = _row(object_id)
        form = StateForm(request.POST if request.method == "POST" else None, account=row.account)
        if request.method == "POST" and form.is_valid():
            who, why = request.user.get_username(), form.cleaned_data["reason"]
            scope, subject = form.scope()

            def change() -> str:
                if _is_laxer(row, scope, subject, to_state) and not request.user.has_perm("risk.resume_trading"):
                    raise StateRefused(NOT_ALLOWED)
                done = set_trading_state(
                    account_id=row.account_id, to_state=to_state, set_by=who, reason=why, scope=scope, subject=subject
                )
                return meaning(to_state, done) if done.change else f"{to_state} already; nothing changed."

            return self._carry_out(request, row, to_state, (scope, subject), why, change)
        return self._page(request, row, form, title, WORDS[to_state])

    def _carry_out(
        self, request: HttpRequest, row: RiskState, asked: str, about: tuple[Scope, str], why: str, work: Work
    ) -> HttpResponse:
        """What was asked for is done and told, or refused, told and kept."""
        try:
            words = work()
        except StateRefused as refused:
            refuse_state(
                account=row.account, asked=asked, set_by=request.user.get_username(), reason=why, why=str(refused),
                scope=about[0], subject=about[1],
            )  # fmt: skip
            messages.error(request, f"Refused: {refused}.")
        else:
            self.log_change(request, row, f"{asked} {about[1]}: {why}")
            messages.success(request, words)
        return HttpResponseRedirect(reverse("admin:risk_riskstate_change", args=(row.pk,)))

    def _page(self, request: HttpRequest, row: RiskState, form: forms.Form, title: str, words: str) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": title, "button": title, "opts": self.opts}
        return TemplateResponse(
            request, "admin/reason.html", {**context, "form": form, "words": f"{row}. {words}", "row": row}
        )


def _row(object_id: str) -> RiskState:
    return get_object_or_404(RiskState.objects.select_related("account__session__epoch"), pk=object_id)


def _may(request: HttpRequest, permission: str, object_id: Any) -> bool:
    """Whether somebody may; an attempt of somebody who may not is kept."""
    if request.user.has_perm(permission):
        return True
    asked = request.path.rstrip("/").rpartition("/")[2]
    row = RiskState.objects.filter(pk=object_id).first() if object_id and request.method == "POST" else None
    if row is not None and asked in ("halt", "reduce", "resume", "flatten"):
        scope, _, subject = request.POST.get("about", "").partition(":")
        refuse_state(
            account=row.account, asked=asked, set_by=request.user.get_username(), reason=request.POST.get("reason", ""),
            why=f"the permission {permission} is missing", scope=scope if scope in Scope.values else Scope.ACCOUNT,
            subject=subject,
        )  # fmt: skip
    return False


def _is_laxer(row: RiskState, scope: Scope, subject: str, to_state: TradingState) -> bool:
    now = row.trading_state
    if scope != Scope.ACCOUNT:
        found = ScopedState.objects.filter(account=row.account_id, scope=scope, subject=subject).first()
        now = found.trading_state if found else TradingState.ACTIVE
    return STRICTNESS[to_state] < STRICTNESS[now]


def scopes_words(row: RiskState) -> str:
    """Strategies and symbols whose state is not ACTIVE."""
    return "; ".join(str(scoped) for scoped in scoped_states(row.account_id)) or "none"


def trips_words(row: RiskState) -> str:
    """Open trips, each with its way back."""
    rows = open_trips(row.account_id)
    return "; ".join(f"{trip}: {trip.reason} (way back: {way_back(trip)})" for trip in rows) or "none"


def way_back(trip: BreakerTrip) -> str:
    return WAYS_BACK[TripCause(trip.cause)].words


@admin.register(ScopedState)
class ScopedStateAdmin(Record):
    words = (
        "The trading state of single strategies and symbols. It is changed on the page of the account's risk state; "
        "the strictest of account, strategy and symbol holds for an order."
    )
    list_display = ["__str__", "account", "trading_state", "asked_state", "state_reason", "state_set_by", "state_since"]
    list_filter = ["scope", "trading_state"]
    list_select_related = ["account", "account__session"]
    search_fields = ["subject", "state_reason", "state_set_by"]
    ordering = ["-id"]


@admin.register(BreakerTrip)
class BreakerTripAdmin(Record):
    words = (
        "Every time a rule of ours made a trading state stricter, with the figures it was made on. A trip stays open "
        "until its way back is taken: by itself or by a person who resumes, never while its cause persists."
    )
    list_display = [
        "created_at", "account", "cause", "subject", "from_state", "to_state", "reason",
        named(way_back, "way_back", "way back"), "cleared_at", "cleared_by", "sequence",
    ]  # fmt: skip
    list_filter = ["cause", "to_state", ("cleared_at", admin.EmptyFieldListFilter), "account"]
    list_select_related = ["account", "account__session"]
    search_fields = ["reason", "subject", "cleared_by"]
    ordering = ["-id"]


@admin.register(StateRefusal)
class StateRefusalAdmin(Record):
    words = "Changes of a trading state that somebody asked for and that were refused: nothing was changed by them."
    list_display = ["created_at", "account", "asked", "subject", "set_by", "reason", "why"]
    list_filter = ["asked", "set_by", "account"]
    list_select_related = ["account", "account__session"]
    search_fields = ["set_by", "reason", "why"]
    ordering = ["-id"]
