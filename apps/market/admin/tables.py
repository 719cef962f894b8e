"""What the market did."""

from __future__ import annotations

from django.contrib import admin

from apps.market.models import Bar, DeadEntry, EpochInstrument, FeedEpoch, Instrument, LongerBar, ShardCursor
from apps.staff.columns import links, listing
from apps.staff.records import LongRecord, Record, RecordInline


@admin.register(Instrument)
class InstrumentAdmin(Record):
    list_display = [
        "symbol", "source", "base_asset", "quote_asset", "price_decimals", "quantity_decimals", "quantity_min",
        "notional_min", "taker_fee", "tradable", "updated_at",
    ]  # fmt: skip
    list_filter = ["source", "tradable", "quote_asset"]
    search_fields = ["symbol__istartswith", "base_asset__iexact"]
    road = [
        listing("market_bar", "Bars", lambda row: {"instrument__id__exact": row.pk}),
        listing("market_longerbar", "Longer bars", lambda row: {"instrument__id__exact": row.pk}),
        listing("signals_signal", "Signals", lambda row: {"instrument__id__exact": row.pk}),
        listing("execution_order", "Orders", lambda row: {"instrument__id__exact": row.pk}),
        listing("portfolio_position", "Positions", lambda row: {"instrument__id__exact": row.pk}),
    ]


class EpochInstrumentInline(RecordInline):
    model = EpochInstrument
    fields = ["instrument", "shard", "followed", "why", "swept_minute"]


@admin.register(FeedEpoch)
class FeedEpochAdmin(Record):
    list_display = ["__str__", "kind", "source", "shard_count", "started_at", "ended_at"]
    list_filter = ["kind"]
    search_fields = ["description", "source"]
    ordering = ["-id"]
    inlines = [EpochInstrumentInline]
    road = [
        links("sessions", "Sessions"),
        listing("market_gap", "Gaps", lambda row: {"epoch__id__exact": row.pk}),
        listing("market_feedtransition", "Changes of state", lambda row: {"epoch__id__exact": row.pk}),
        links("connections", "Connections"),
        links("runs", "Ingest runs"),
        links("cursors", "Cursors"),
    ]


@admin.register(ShardCursor)
class ShardCursorAdmin(Record):
    list_display = [
        "__str__",
        "epoch",
        "shard",
        "closed_minute",
        "watermark_ms",
        "processed",
        "evaluated",
        "updated_at",
    ]
    list_filter = ["shard"]
    list_select_related = ["epoch"]
    search_fields = ["seen_through__exact", "replay_from__exact"]
    ordering = ["-epoch", "shard"]


@admin.register(DeadEntry)
class DeadEntryAdmin(Record):
    list_display = ["entry_id", "epoch", "shard", "reason", "created_at"]
    list_filter = ["shard"]
    list_select_related = ["epoch"]
    search_fields = ["entry_id__exact", "reason"]
    ordering = ["-id"]


@admin.register(Bar)
class BarAdmin(LongRecord):
    list_display = [
        "minute",
        "instrument",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "turnover",
        "count",
        "source",
        "revision",
    ]
    list_filter = ["source", "instrument"]
    list_select_related = ["instrument", "epoch"]
    search_fields = ["instrument__symbol__istartswith"]
    ordering = ["-minute", "-id"]


@admin.register(LongerBar)
class LongerBarAdmin(LongRecord):
    words = (
        "Bars of 5, 15 and 60 minutes. Each is at every moment what its one-minute bars are: a late trade or a repair "
        "changes both. Proven, backfilled and unproven say how many of its minutes are which; minutes before the "
        "symbol's first price are none of them."
    )
    list_display = [
        "minute", "length", "instrument", "open", "high", "low", "close", "volume", "turnover", "count", "proven",
        "backfilled", "unproven", "revision",
    ]  # fmt: skip
    list_filter = ["length", "instrument"]
    list_select_related = ["instrument", "epoch"]
    search_fields = ["instrument__symbol__istartswith"]
    ordering = ["-minute", "-id"]
