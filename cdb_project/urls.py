"""All URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from apps.ops import health, metrics

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health", health.view, name="health"),
    path("metrics", metrics.view, name="metrics"),
    path("", include("apps.live.urls")),
]
