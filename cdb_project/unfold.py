"""The admin's looks and navigation (django-unfold)."""

from __future__ import annotations

from typing import Any

UNFOLD: dict[str, Any] = {"SITE_TITLE": "Claire de Binare", "SITE_HEADER": "Claire de Binare"}
