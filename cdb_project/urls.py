"""All URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from apps.ops import health, metrics
from apps.ops.explain import pages as explaining

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health", health.view, name="health"),
    path("metrics", metrics.view, name="metrics"),
    path("explain/", admin.site.admin_view(explaining.ask), name="explain-ask"),
    path("explain/<str:name>/", admin.site.admin_view(explaining.explanation), name="explain"),
    path("", include("apps.live.urls")),
]
