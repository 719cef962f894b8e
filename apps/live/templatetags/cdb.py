"""Ages for templates."""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.engine import timeouts
from apps.staff import times

register = template.Library()


@register.simple_tag
def age(at_ms: int | None, now_ms: int) -> SafeString:
    """How long ago `at_ms` was. The browser goes on counting; without it the text is right for when it was written."""
    if at_ms is None:
        return format_html('<span class="cdb-age cdb-never" title="{}">{}</span>', "never seen", "— never")
    old = now_ms - at_ms > timeouts.DATA_STALE_SECONDS * 1000
    text = times.duration(now_ms - at_ms) + (" old" if old else "")
    return format_html('<span class="cdb-age{}" data-at="{}">{}</span>', " cdb-old" if old else "", at_ms, text)
