"""The feed's connections with their past, the lives of the ingest, and who holds the lease."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.template.loader import render_to_string

from apps.market import feed_history
from apps.market.models import FeedConnection, FeedTransition, IngestLease, IngestRun
from apps.staff import numbers, times
from apps.staff.columns import link, listing, named, time_tag
from apps.staff.records import LongRecord, Record

HISTORY_SHOWN = 20


def history_rows(found: QuerySet[FeedTransition]) -> list[dict[str, str]]:
    return [
        {
            "at": link(row, time_tag(times.to_ms(row.at))),
            "change": f"{row.from_state or numbers.UNKNOWN} → {row.to_state}",
            "category": row.category.replace("_", " "),
            "reason": row.reason,
            "closed_by": row.closed_by,
            "age": numbers.UNKNOWN if row.age_ms is None else times.duration(row.age_ms),
        }
        for row in found
    ]


def history_of(connection: FeedConnection) -> str:
    """The newest changes of state of this connection as a table."""
    found = FeedTransition.objects.filter(epoch_id=connection.epoch_id, connection=connection.name)
    rows = history_rows(found.order_by("-at", "-id")[:HISTORY_SHOWN])
    return render_to_string("admin/market/history.html", {"rows": rows})


@admin.register(FeedConnection)
class FeedConnectionAdmin(Record):
    words = (
        "The last known state of each connection, stored about once a second. Ages to the tenth of a second are on "
        "the feed page. BLOCKED means that the exchange refused every channel: it is tried again at most once a "
        "minute."
    )
    list_display = [
        "name", "epoch", "state", "reason", "since", "last_frame_at", "last_pong_at", "subscriptions", "reconnects",
    ]  # fmt: skip
    list_filter = ["state"]
    list_select_related = ["epoch"]
    search_fields = ["name", "reason"]
    ordering = ["-epoch", "name"]
    road = [
        named(history_of, "history", "Last changes of state"),
        listing(
            "market_feedtransition",
            "All changes of state",
            lambda row: {"connection": row.name, "epoch__id__exact": row.epoch_id},
        ),
    ]


@admin.register(FeedTransition)
class FeedTransitionAdmin(LongRecord):
    words = (
        "Every change of state of every connection, newest first, with who closed it and why. The newest 10,000 of "
        "a feed epoch are kept. The first row appears when the ingest connects for the first time."
    )
    list_display = [
        "at", "connection", "from_state", "to_state", "category", "reason", "closed_by", "code", "age_ms",
        "last_frame_age_ms", "last_pong_age_ms", "bytes_in", "subscriptions", "epoch",
    ]  # fmt: skip
    list_filter = ["to_state", "category", "closed_by", "connection", "epoch"]
    list_select_related = ["epoch"]
    search_fields = ["connection__iexact", "reason", "entry_id__exact"]
    ordering = ["-id"]


def held(lease: IngestLease) -> str:
    """Judged by the database's clock, as the ingest judges it."""
    found = feed_history.lease(epoch_id=lease.epoch_id)
    if found is None or found.age_ms is None:
        return "given back"
    return "held" if found.held else f"run out {times.duration(found.age_ms)} ago"


@admin.register(IngestLease)
class IngestLeaseAdmin(Record):
    words = (
        "Who may write an epoch's stream. The holder renews it every 2 s and gives up by itself after 4 s without "
        "success; the standby takes it over. Each take-over has a greater token, and the stream refuses a smaller "
        "one."
    )
    list_display = ["epoch", "token", "holder", "acquired_at", "renewed_at"]
    list_select_related = ["epoch"]
    search_fields = ["holder", "token__exact"]
    ordering = ["-epoch"]
    road = [named(held, "held", "Now")]


@admin.register(IngestRun)
class IngestRunAdmin(Record):
    words = "One row per life of the ingest, told apart by its token, with what it counted."
    list_display = ["token", "epoch", "started_at", "last_seen_at", "received", "decoded", "published"]
    list_select_related = ["epoch"]
    search_fields = ["token__exact"]
    ordering = ["-token"]
