"""What staff can do with an order and with what a venue reported: each with a permission and a reason of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.contrib import messages
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action

from apps.execution.models import Order, OrderAnomaly
from apps.execution.services import AnomalyRefused, CancelRefused, request_cancel, resolve_anomaly
from apps.staff.forms import ReasonForm
from apps.staff.records import Record

# By the name of a method: a permission's own name would be looked up in the database at every start of a process.
MAY_CANCEL: Final = ["cancel"]
MAY_RESOLVE: Final = ["resolve"]


class AskingRecord(Record):
    """A record with an action that asks for a reason first."""

    def ask(
        self,
        request: HttpRequest,
        row: models.Model,
        *,
        title: str,
        button: str,
        words: str,
        done: str,
        do: Callable[[str], Any],
    ) -> HttpResponse:
        """The form, or what came of it: `do` gets the reason and may refuse with a ValueError of one line."""
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            try:
                do(form.cleaned_data["reason"])
            except (CancelRefused, AnomalyRefused) as refused:
                messages.error(request, str(refused))
            else:
                self.log_change(request, row, button)
                messages.success(request, done)
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
            return HttpResponseRedirect(reverse(name, args=(row.pk,)))
        context = {**self.admin_site.each_context(request), "title": title, "button": button}
        return TemplateResponse(
            request, "admin/reason.html", {**context, "form": form, "words": words, "row": row, "opts": self.opts}
        )


class CancelsOrders(AskingRecord):
    """The order's page can ask for its cancel; the worker that speaks to the venue does it."""

    def has_cancel_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("execution.cancel_order"))

    @action(description="Cancel…", url_path="cancel", permissions=MAY_CANCEL)  # type: ignore[untyped-decorator]
    def cancel_order(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = get_object_or_404(Order, pk=object_id)
        by = request.user.get_username()
        return self.ask(
            request,
            order,
            title="Cancel an order",
            button="Ask to cancel",
            words=f"{order}. A fill may be faster: what the venue says then holds. A canceled exit is raised again.",
            done=f"The cancel of {order.client_order_id} is asked for.",
            do=lambda reason: request_cancel(order_id=order.pk, reason=reason, by=by),
        )


class ResolvesAnomalies(AskingRecord):
    def has_resolve_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("execution.resolve_orderanomaly"))

    @action(description="Resolve…", url_path="resolve", permissions=MAY_RESOLVE)  # type: ignore[untyped-decorator]
    def resolve_anomaly(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(OrderAnomaly, pk=object_id)
        by = request.user.get_username()
        return self.ask(
            request,
            row,
            title="Resolve an anomaly",
            button="Resolve",
            words=f"{row.words}. Say what it was. This books nothing and resumes nothing.",
            done=f"{row} is resolved.",
            do=lambda reason: resolve_anomaly(anomaly_id=row.pk, by=by, resolution=reason),
        )
