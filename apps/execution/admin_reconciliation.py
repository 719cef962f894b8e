"""Reconciliation as staff sees it: runs, differences with what a person can decide, and the starts of trading."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action

from apps.engine.risk.words import plain
from apps.execution.models import DatabaseIncarnation, ReconcileDifference, ReconcileRun, TradingStart
from apps.execution.services.reconciling import DifferenceRefused, approve, dismiss
from apps.execution.venues.base import VenueUnclear
from apps.staff.columns import links
from apps.staff.forms import ReasonForm
from apps.staff.records import LongRecord, Record

# By the name of a method: a permission's own name would be looked up in the database at every start of a process.
MAY_DECIDE = ["decide"]


@admin.register(ReconcileRun)
class ReconcileRunAdmin(LongRecord):
    words = (
        "Our books compared with the venue's: open orders every 10 s; fills and balances every minute and at a start. "
        "A run that compared 0 has shown nothing. The first row appears with the first start."
    )
    list_display = [
        "started_at", "scope", "outcome", "compared", "differences", "corrected", "account", "detail",
        links("found", "differences"),
    ]  # fmt: skip
    list_filter = ["outcome", "scope", "account"]
    list_select_related = ["account", "account__session"]
    prefetch = ["found"]
    search_fields = ["detail", "account__session__name"]
    ordering = ["-id"]


@admin.register(ReconcileDifference)
class ReconcileDifferenceAdmin(Record):
    words = (
        "What differs between our books and the venue's for longer than anything is under way. Small ones are "
        "corrected by themselves; an open one lets nothing be opened, and halts after a minute, until somebody decides."
    )
    list_display = [
        "found_at", "kind", "subject", "ours", "venue", "correction", "size", "state", "decided_by", "decided_at",
        "reason", "run",
    ]  # fmt: skip
    list_filter = ["state", "kind", "account"]
    list_select_related = ["account", "account__session", "run"]
    search_fields = ["subject", "client_order_id", "reason", "decided_by"]
    ordering = ["-id"]
    actions_detail = ["approve_difference", "dismiss_difference"]

    def has_decide_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("execution.decide_difference"))

    @action(description="Approve…", url_path="approve", permissions=MAY_DECIDE)  # type: ignore[untyped-decorator]
    def approve_difference(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, "Approve", approve)

    @action(description="Dismiss…", url_path="dismiss", permissions=MAY_DECIDE)  # type: ignore[untyped-decorator]
    def dismiss_difference(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, "Dismiss", dismiss)

    def _decide(
        self, request: HttpRequest, object_id: str, verb: str, decide: Callable[..., ReconcileDifference]
    ) -> HttpResponse:
        """The page that says what will be done; and, with a reason given, doing it."""
        row = get_object_or_404(ReconcileDifference, pk=object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            by, reason = request.user.get_username(), form.cleaned_data["reason"]
            try:
                decide(difference_id=row.pk, by=by, reason=reason, now=timezone.now())
            except (DifferenceRefused, VenueUnclear) as refused:
                messages.error(request, str(refused))
            else:
                self.log_change(request, row, f"{verb}: {reason}")
                messages.success(request, f"{row}: {'approved' if verb == 'Approve' else 'dismissed'}.")
            return HttpResponseRedirect(reverse("admin:execution_reconciledifference_change", args=(row.pk,)))
        context = {**self.admin_site.each_context(request), "title": f"{verb} a difference", "button": verb}
        return TemplateResponse(
            request,
            "admin/reason.html",
            {**context, "form": form, "words": _meaning(row, verb), "row": row, "opts": self.opts},
        )


def _meaning(row: ReconcileDifference, verb: str) -> str:
    """What the decision will do, in words."""
    worth = "of unknown worth" if row.size is None else f"worth {plain(row.size)}"
    what = f"{row}, {worth}. Ours: {row.ours}. Venue: {row.venue}."
    if verb == "Approve":
        return f"{what} Approving does this: {row.get_correction_display()}."
    return f"{what} Dismissing books nothing, and lets it stand until it changes."


@admin.register(TradingStart)
class TradingStartAdmin(Record):
    words = "Each start of trading and each recovery, step by step. Paper resumes by itself after the last step."
    list_display = ["started_at", "cause", "ok", "reason", "finished_at", "session"]
    list_filter = ["ok", "cause"]
    list_select_related = ["session"]
    search_fields = ["cause", "reason"]
    ordering = ["-id"]


@admin.register(DatabaseIncarnation)
class DatabaseIncarnationAdmin(Record):
    words = "Which life of the database this is: a restored one begins another, so that no id is given out twice."
    list_display = ["token", "reason", "created_at"]
    search_fields = ["token", "reason"]
    ordering = ["-id"]
