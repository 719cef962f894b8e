"""Alerts as staff sees them, and the one thing that can be done with one."""

from __future__ import annotations

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action

from apps.alerts.models import Alert
from apps.alerts.services import AlertRefused, acknowledge
from apps.staff.forms import ReasonForm
from apps.staff.records import Record

# By the name of a method: a permission's own name would be looked up in the database at every start of a process.
MAY_ACKNOWLEDGE = ["acknowledge"]


@admin.register(Alert)
class AlertAdmin(Record):
    words = (
        "What somebody has to look at: a strategy that failed, a day that a replay did not give again. It stays open, "
        "and in the sentence above, until somebody acknowledges it with a reason. The first row appears with the "
        "first trouble."
    )
    list_display = [
        "raised_at", "severity", "kind", "subject", "words", "count", "last_at", "session", "acknowledged_by",
        "acknowledged_at",
    ]  # fmt: skip
    list_filter = ["kind", "severity", ("acknowledged_at", admin.EmptyFieldListFilter), "session"]
    list_select_related = ["session"]
    search_fields = ["subject", "words", "acknowledged_by"]
    ordering = ["-id"]
    actions_detail = ["acknowledge_alert"]

    def has_acknowledge_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("alerts.acknowledge_alert"))

    @action(description="Acknowledge…", url_path="acknowledge", permissions=MAY_ACKNOWLEDGE)  # type: ignore[untyped-decorator]
    def acknowledge_alert(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = get_object_or_404(Alert, pk=object_id)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                acknowledge(
                    alert_id=alert.pk, by=request.user.get_username(), reason=form.cleaned_data["reason"]
                )  # fmt: skip
            except AlertRefused as refused:
                messages.error(request, str(refused))
            else:
                self.log_change(request, alert, "Acknowledged")
                messages.success(request, f"{alert} is acknowledged.")
            return HttpResponseRedirect(reverse("admin:alerts_alert_change", args=(alert.pk,)))
        context = {**self.admin_site.each_context(request), "title": "Acknowledge an alert", "button": "Acknowledge"}
        words = f"{alert}. {alert.words}"
        return TemplateResponse(
            request, "admin/reason.html", {**context, "form": form, "words": words, "row": alert, "opts": self.opts}
        )
