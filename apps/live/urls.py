"""Pages of the staff window outside the admin's tables."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from apps.live import views

app_name = "live"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="live:board"), name="home"),
    path("live/", admin.site.admin_view(views.board), name="board"),
    path("feed/", admin.site.admin_view(views.feed), name="feed"),
]
