"""The live page and the feed page: plain HTML; the browser's code only keeps it up to date."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.live import board as boards
from apps.live import feed as feeds
from apps.live.frame import state_of, wall_ms


def board(request: HttpRequest) -> HttpResponse:
    """What happens now."""
    request.current_app = admin.site.name
    sections = boards.render(boards.read(state_of(request), wall_ms()))
    context = {**admin.site.each_context(request), "title": "Live", "sections": sections}
    return TemplateResponse(request, "live/board.html", context)


def feed(request: HttpRequest) -> HttpResponse:
    """What arrives, what of it is proven, and what is being done about the rest. An unknown `span` is the usual one."""
    request.current_app = admin.site.name
    span = next((span for span in feeds.SPANS if span.page == request.GET.get("span")), feeds.SIX_HOURS)
    sections = feeds.render(state_of(request), wall_ms(), span)
    context = {"title": "Feed", "sections": sections, "span": span, "spans": feeds.SPANS}
    return TemplateResponse(request, "live/feed.html", {**admin.site.each_context(request), **context})
