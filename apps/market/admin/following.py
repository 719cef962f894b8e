"""The symbols that an epoch follows, why, and how far they have been compared with klines."""

from __future__ import annotations

from django.contrib import admin

from apps.market.models import EpochInstrument
from apps.staff.columns import listing
from apps.staff.records import Record


@admin.register(EpochInstrument)
class EpochInstrumentAdmin(Record):
    words = (
        "Symbols of each feed epoch. They come and go while the ingest runs, by the screener or by staff; a "
        "symbol that is no longer followed keeps its bars and its place here."
    )
    list_display = ["instrument", "epoch", "shard", "followed", "why", "swept_minute", "changed_at"]
    list_filter = ["followed", "shard", "epoch"]
    list_select_related = ["instrument", "epoch"]
    search_fields = ["instrument__symbol__istartswith", "why"]
    ordering = ["-epoch", "instrument__symbol"]
    road = [
        listing("market_bar", "Bars", lambda row: {"instrument__id__exact": row.instrument_id}),
        listing("market_coverage", "Minutes not proven", lambda row: {"instrument__id__exact": row.instrument_id}),
        listing("market_gap", "Gaps", lambda row: {"instrument__id__exact": row.instrument_id}),
    ]
