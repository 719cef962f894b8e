"""How far the archive is, shard by shard, and what stopped it."""

from __future__ import annotations

from django.contrib import admin

from apps.market.models import ArchivedShard
from apps.staff.records import Record


@admin.register(ArchivedShard)
class ArchivedShardAdmin(Record):
    words = (
        "Trades and quotes leave the stream's raw segments for Parquet files, a slice of ten minutes at a time. A "
        "failure here never stops trading: it is tried again every minute, and nothing is lost while the segments "
        "are kept."
    )
    list_display = [
        "__str__", "epoch", "shard", "archived_through", "trades", "quotes", "moved_at", "failures", "error",
        "failed_at",
    ]  # fmt: skip
    list_filter = ["shard"]
    list_select_related = ["epoch"]
    search_fields = ["error"]
    ordering = ["-epoch", "shard"]
