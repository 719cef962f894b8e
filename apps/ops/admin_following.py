"""The symbols that an epoch follows, and the pages on which those who may ask for more or fewer, with a reason.

It stands here and not with the market's tables, because letting a symbol go asks for positions and orders first.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.market.admin.screening import SymbolsField
from apps.market.models import EpochInstrument, FeedEpoch
from apps.market.rest import RestError
from apps.market.selectors import current_epoch
from apps.market.services.screener import RuleRefused
from apps.ops.services.exchange import exchange_rest
from apps.ops.services.following import Change, FollowRefused, subscribe, unsubscribe
from apps.staff.columns import listing
from apps.staff.records import Record

# By the name of a method: a permission's own name would be looked up in the database at every start of a process.
MAY_CHANGE = ["wish"]
REST_WAIT_SECONDS = 2.0


class WishForm(forms.Form):
    """Which symbols, and why: both are kept with the symbols and in the history."""

    symbols = SymbolsField(widget=UnfoldAdminTextareaWidget, help_text="apart by blanks or commas, such as BTCUSDT")
    reason = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget)


@admin.register(EpochInstrument)
class EpochInstrumentAdmin(Record):
    words = (
        "Symbols of each feed epoch. They come and go while the ingest runs, by the screener or by staff; a "
        "symbol that is no longer followed keeps its bars and its place here."
    )
    list_display = ["instrument", "epoch", "shard", "followed", "why", "swept_minute", "changed_at"]
    list_filter = ["followed", "shard", "epoch"]
    list_select_related = ["instrument", "epoch"]
    search_fields = ["instrument__symbol__istartswith", "why"]
    ordering = ["-epoch", "instrument__symbol"]
    actions_list = ["follow", "stop_following"]
    actions_detail = ["change_this"]
    road = [
        listing("market_bar", "Bars", lambda row: {"instrument__id__exact": row.instrument_id}),
        listing("market_coverage", "Minutes not proven", lambda row: {"instrument__id__exact": row.instrument_id}),
        listing("market_gap", "Gaps", lambda row: {"instrument__id__exact": row.instrument_id}),
    ]

    def has_wish_permission(self, request: HttpRequest, *_: object) -> bool:
        return bool(request.user.has_perm("market.change_epochinstrument"))

    @action(description="Follow…", url_path="follow", permissions=MAY_CHANGE)  # type: ignore[untyped-decorator]
    def follow(self, request: HttpRequest) -> HttpResponse:
        return self._wish(request, "Follow symbols", "Follow", _follow)

    @action(description="Stop following…", url_path="stop-following", permissions=MAY_CHANGE)  # type: ignore[untyped-decorator]
    def stop_following(self, request: HttpRequest) -> HttpResponse:
        return self._wish(request, "Stop following symbols", "Stop following", _stop)

    @action(description="Follow or stop…", url_path="wish", permissions=MAY_CHANGE)  # type: ignore[untyped-decorator]
    def change_this(self, _request: HttpRequest, object_id: str) -> HttpResponse:
        row = get_object_or_404(EpochInstrument.objects.select_related("instrument"), pk=object_id)
        name = "stop_following" if row.followed else "follow"
        query = {"symbols": row.instrument.symbol}
        return HttpResponseRedirect(reverse(f"admin:market_epochinstrument_{name}", query=query))

    def _wish(self, request: HttpRequest, title: str, button: str, carry_out: CarryOut) -> HttpResponse:
        """The form; its POST changes the newest open epoch, tells what came of it and keeps who asked."""
        epoch = current_epoch()
        sent = request.method == "POST"
        form = WishForm(request.POST if sent else None, initial={"symbols": request.GET.get("symbols", "")})
        if sent and epoch is not None and form.is_valid():
            symbols, reason = form.cleaned_data["symbols"], form.cleaned_data["reason"]
            try:
                change = carry_out(epoch, symbols, request.user.get_username(), reason)
            except (FollowRefused, RuleRefused, RestError) as refused:
                form.add_error(None, str(refused))
            else:
                self._note(request, epoch, change, f"{button}: {reason}")
                return HttpResponseRedirect(reverse("admin:market_epochinstrument_changelist"))
        context = {**self.admin_site.each_context(request), "title": title, "button": button, "form": form}
        return TemplateResponse(request, "admin/market/wish.html", {**context, "epoch": epoch, "opts": self.opts})

    def _note(self, request: HttpRequest, epoch: FeedEpoch, change: Change, words: str) -> None:
        for row in epoch.members.filter(instrument__symbol__in=change.changed).select_related("instrument"):
            self.log_change(request, row, words)
        if change.changed:
            messages.success(request, f"{words.partition(':')[0]}: {', '.join(change.changed)}.")
        if change.already:
            messages.info(request, f"It was so already: {', '.join(change.already)}.")


CarryOut = Callable[[FeedEpoch, list[str], str, str], Change]


def _follow(epoch: FeedEpoch, symbols: list[str], by: str, reason: str) -> Change:
    rest = exchange_rest(wait_max_seconds=REST_WAIT_SECONDS)
    return subscribe(epoch=epoch, symbols=symbols, rest=rest, by=by, reason=reason, now_ms=_now_ms())


def _stop(epoch: FeedEpoch, symbols: list[str], by: str, reason: str) -> Change:
    return unsubscribe(epoch=epoch, symbols=symbols, by=by, reason=reason, now_ms=_now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
