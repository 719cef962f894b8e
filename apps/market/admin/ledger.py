"""The coverage ledger: minutes that are not PROVEN, the gaps they make up, and what klines made doubtful."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.template.loader import render_to_string

from apps.market.models import Coverage, Gap, KlineDoubt
from apps.staff import times
from apps.staff.columns import listing, minute_tag, named, when
from apps.staff.records import LongRecord, Record

MINUTES_SHOWN = 60


@admin.register(Coverage)
class CoverageAdmin(LongRecord):
    words = (
        "Minutes that are not PROVEN: BACKFILLED from the exchange's REST, or UNPROVEN with the reason. A minute "
        "that has a bar and no row here is PROVEN. No signal uses a window that touches an UNPROVEN minute."
    )
    list_display = [
        "minute", "instrument", "status", "reason", "gap", "attempts", "next_attempt_at", "detail", "epoch",
    ]  # fmt: skip
    list_filter = ["status", "instrument"]
    list_select_related = ["instrument", "epoch", "gap", "gap__instrument"]
    search_fields = ["instrument__symbol__istartswith", "reason"]
    ordering = ["-minute", "-id"]


def minutes_of(gap: Gap) -> str:
    """The gap's newest minutes as a table."""
    rows = list(gap.minutes.order_by("-minute")[: MINUTES_SHOWN + 1])
    shown = [
        {
            "minute": minute_tag(row.minute),
            "status": row.status,
            "abnormal": row.status == Coverage.Status.UNPROVEN,
            "attempts": row.attempts,
            "next": when(row.next_attempt_at),
            "detail": row.detail,
        }
        for row in rows[:MINUTES_SHOWN]
    ]
    return render_to_string("admin/market/gap_minutes.html", {"rows": shown, "more": len(rows) > MINUTES_SHOWN})


def length_of(gap: Gap) -> str:
    return times.duration((gap.last_minute - gap.first_minute + 1) * times.MINUTE_MS)


def attempts_of(gap: Any) -> str:
    """Of the minute that was asked for most often; nothing was asked for before the gap's first minute had closed."""
    return str(gap.tries or 0)


@admin.register(Gap)
class GapAdmin(LongRecord):
    words = (
        "Interruptions: neighbouring minutes of a symbol that became UNPROVEN for one reason. Each is asked for at "
        "the exchange's REST, after 2, 5, 15 s and then ever more rarely, eight times in all. Empty while nothing "
        "was interrupted."
    )
    list_display = [
        "first_minute", named(length_of, "length", "length"), "instrument", "reason", "status", "rows",
        named(attempts_of, "tries", "attempts"), "opened_at", "closed_at", "epoch",
    ]  # fmt: skip
    list_filter = ["status", "epoch"]
    list_select_related = ["instrument", "epoch"]
    search_fields = ["instrument__symbol__istartswith", "reason"]
    ordering = ["-id"]
    road = [
        named(minutes_of, "minutes", "Minutes"),
        listing("market_coverage", "All minutes", lambda row: {"gap__id__exact": row.pk}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        most = Coverage.objects.filter(gap=OuterRef("pk")).order_by("-attempts").values("attempts")[:1]
        found: QuerySet[Any] = super().get_queryset(request).annotate(tries=Subquery(most))
        return found


@admin.register(KlineDoubt)
class KlineDoubtAdmin(Record):
    words = (
        "Minutes whose volume differs from the exchange's kline, found by the hourly sweep. Each becomes UNPROVEN "
        "through the stream and is then repaired. Empty as long as every comparison agreed."
    )
    list_display = ["minute", "instrument", "ours", "theirs", "found_at", "settled_at", "epoch"]
    list_filter = ["epoch"]
    list_select_related = ["instrument", "epoch"]
    search_fields = ["instrument__symbol__istartswith"]
    ordering = ["-id"]
    road = [
        listing(
            "market_coverage",
            "In the ledger",
            lambda row: {"instrument__id__exact": row.instrument_id, "minute": row.minute},
        )
    ]
