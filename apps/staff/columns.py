"""How a field of a record is shown: one function per kind of field, the same in lists and on detail pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final

from django.db import models
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.staff import numbers, times

Column = Callable[[Any], str]

LINKS_MAX: Final = 10
JSON_INLINE_MAX: Final = 80
LABELS: Final = {
    "ts_event": "event time",
    "ts_init": "received",
    "ts_trigger": "triggered",
    "ts_mature": "matures",
    "quote_ts": "time of the quote",
    "opened_ts": "opened",
    "due_ts": "due",
    "closed_ts": "closed",
    "swept_minute": "checked against klines until",
    "age_ms": "age of the socket",
    "last_frame_age_ms": "last frame",
    "last_pong_age_ms": "last pong",
    "bytes_in": "bytes received",
    "next_attempt_at": "next attempt",
    "watermark_ms": "watermark",
    "feed_age_ms": "age of the feed",
    "signal_age_ms": "age of the signal",
    "filled_qty": "filled",
    "leaves_qty": "left",
    "avg_px": "average price",
}
MONEY_DECIMALS: Final = 2
_PRICE_DIGITS: Final = 30
_QUANTITY_DIGITS: Final = 36
_MONEY_DIGITS: Final = 40


def named(column: Column, name: str, label: str, order: str | None = None) -> Column:
    """Give a column the attributes that Django's admin reads."""
    column.__name__ = name
    column.short_description = label  # type: ignore[attr-defined]
    if order is not None:
        column.admin_order_field = order  # type: ignore[attr-defined]
    return column


@cache
def of_field(field: models.Field[Any, Any], *, signed: bool = False) -> Column | None:
    """The column of a model field; None where the admin's own rendering is right (text, whole numbers, booleans).

    The same field has the same column every time: Django compares the columns of a form by identity.
    """
    show = _renderer(field, signed=signed)
    if show is None:
        return None
    label = LABELS.get(field.name, str(field.verbose_name))
    return named(lambda row: show(row, getattr(row, field.name)), field.name, label, field.name)


def _renderer(field: models.Field[Any, Any], *, signed: bool) -> Callable[[Any, Any], str] | None:
    name = field.name
    if isinstance(field, models.ForeignKey):
        return lambda _row, value: link(value)
    if isinstance(field, models.DecimalField):
        return lambda row, value: number(value, decimals=_decimals(field, row), signed=signed)
    if isinstance(field, models.DateTimeField):
        return lambda _row, value: time_tag(value if value is None else times.to_ms(value))
    if isinstance(field, models.JSONField):
        return lambda _row, value: json_block(value)
    if name == "age_ms" or name.endswith("_age_ms"):
        return lambda _row, value: numbers.UNKNOWN if value is None else times.duration(value)
    if name.startswith("ts_") or name.endswith("_ts") or name == "watermark_ms":
        return lambda _row, value: time_tag(value)
    if name == "minute" or name.endswith("_minute"):
        return lambda _row, value: minute_tag(value)
    return None


def _decimals(field: models.DecimalField[Any, Any], row: Any) -> int:
    """The fewest decimals to show: those of the instrument's tick or step, two for money."""
    if field.max_digits == _MONEY_DIGITS:
        return MONEY_DECIMALS
    instrument = getattr(row, "instrument", row)
    if field.max_digits == _PRICE_DIGITS:
        return int(getattr(instrument, "price_decimals", 0))
    if field.max_digits == _QUANTITY_DIGITS:
        return int(getattr(instrument, "quantity_decimals", 0))
    return 0


def number(value: Decimal | None, *, decimals: int = 0, signed: bool = False) -> str:
    """A decimal with every stored digit; the exact text for copying in `data-raw`."""
    if value is None:
        return numbers.UNKNOWN
    text = numbers.exact(value, decimals=decimals, signed=signed)
    return format_html('<span class="cdb-num" data-raw="{}">{}</span>', numbers.plain(value), text)


def time_tag(ms: int | None) -> str:
    if ms is None:
        return numbers.UNKNOWN
    return format_html('<time class="cdb-time" datetime="{}">{}</time>', times.iso(ms), times.full(ms))


def minute_tag(minute: int | None) -> str:
    if minute is None:
        return numbers.UNKNOWN
    start = times.iso(minute * times.MINUTE_MS)
    return format_html('<time class="cdb-time" datetime="{}">{}</time>', start, times.minute_text(minute))


def json_block(value: Any) -> SafeString:
    """Stored JSON as it is: in the line if it is short, else folded."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if len(text) <= JSON_INLINE_MAX:
        return format_html('<code class="cdb-json">{}</code>', text)
    block = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<details><summary>as stored</summary><pre class="cdb-json">{}</pre></details>', block)


def link(row: models.Model | None, text: str = "") -> str:
    """A link to the page of a record, under its own name or `text`; its name alone if the record has no page."""
    if row is None:
        return numbers.UNKNOWN
    meta = row._meta
    try:
        url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=(row.pk,))
    except NoReverseMatch:
        return str(row)
    return format_html('<a class="cdb-link" href="{}">{}</a>', url, text or row)


def links(accessor: str, label: str) -> Column:
    """Links to the rows behind a reverse relation, e.g. the orders of an intent. `—` if there is none."""

    def column(row: Any) -> str:
        related = getattr(row, accessor, None)
        if related is None:
            return numbers.UNKNOWN
        found = list(related.all()) if hasattr(related, "all") else [related]
        if not found:
            return numbers.UNKNOWN
        shown = format_html_join(", ", "{}", ((link(item),) for item in found[:LINKS_MAX]))
        more = len(found) - LINKS_MAX
        return format_html("{} and {} more", shown, more) if more > 0 else shown

    return named(column, accessor.replace(".", "_"), label)


def listing(model: str, label: str, lookup: Callable[[Any], dict[str, str | int]], text: str = "show") -> Column:
    """A link to the filtered list of another record, `model` as `app_model`."""

    def column(row: Any) -> str:
        url = reverse(f"admin:{model}_changelist", query=lookup(row))
        return format_html('<a class="cdb-link" href="{}">{}</a>', url, text)

    return named(column, f"{model}_list", label)


def explanation(kind: str) -> Column:
    """A link to the whole chain behind a row: why it was placed, or was not."""

    def column(row: Any) -> str:
        url = reverse("explain", args=(f"{kind}:{row.pk}",))
        return format_html('<a class="cdb-link" href="{}">explain</a>', url)

    return named(column, "explanation", "Why")


def when(value: datetime | None) -> str:
    return numbers.UNKNOWN if value is None else time_tag(times.to_ms(value))
