"""The live page."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.live import board as boards
from apps.live.frame import state_of, wall_ms


def board(request: HttpRequest) -> HttpResponse:
    """The whole board as plain HTML; the browser's code only keeps it up to date."""
    request.current_app = admin.site.name
    sections = boards.render(boards.read(state_of(request), wall_ms()))
    context = {**admin.site.each_context(request), "title": "Live", "sections": sections}
    return TemplateResponse(request, "live/board.html", context)
