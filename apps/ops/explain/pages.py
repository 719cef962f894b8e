"""The page of the chain: what `manage.py explain` tells, for those who may read decisions."""

from __future__ import annotations

import json
import time
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.ops.explain.asking import NoSubject, explain
from apps.ops.explain.parts import as_json
from apps.ops.explain.subjects import FORMS
from apps.ops.explain.words import sections

MAY_READ = "risk.view_riskdecision"
NOT_FOUND = 404


def explanation(request: HttpRequest, name: str) -> HttpResponse:
    """The chain behind a name, top-down; a name of nothing is told in the frame of every page."""
    _check(request)
    context: dict[str, Any] = {**admin.site.each_context(request), "name": name, "forms": FORMS}
    try:
        found = explain(name, now_ms=time.time_ns() // 1_000_000)
    except NoSubject as error:
        context |= {"title": "Explain", "refused": str(error)}
        return TemplateResponse(request, "ops/explanation.html", context, status=NOT_FOUND)
    context |= {
        "title": f"Explain {found.subject}",
        "found": found,
        "sections": sections(found),
        "data": json.dumps(as_json(found), indent=1, ensure_ascii=False),
    }
    return TemplateResponse(request, "ops/explanation.html", context)


def ask(request: HttpRequest) -> HttpResponse:
    """Where a name is typed: to its page, else the empty form."""
    _check(request)
    name = request.GET.get("name", "").strip()
    if name and "/" not in name:
        return HttpResponseRedirect(reverse("explain", args=(name,)))
    context = {**admin.site.each_context(request), "title": "Explain", "forms": FORMS, "name": name}
    return TemplateResponse(request, "ops/explanation.html", context)


def _check(request: HttpRequest) -> None:
    """Raises `PermissionDenied`."""
    request.current_app = admin.site.name
    if not request.user.has_perm(MAY_READ):
        raise PermissionDenied
