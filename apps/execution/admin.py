"""Orders and fills, as staff can read them; and the paper venue's own books beside ours."""

from __future__ import annotations

from django.contrib import admin

from apps.execution import admin_reconciliation
from apps.execution.actions import CancelsOrders, ResolvesAnomalies
from apps.execution.models import Order, OrderAnomaly, OrderEvent, Trade, VenueOrder, VenueTrade
from apps.staff.columns import explanation, links, listing
from apps.staff.records import Record, RecordInline

__all__ = ["OrderAdmin", "admin_reconciliation"]


class OrderEventInline(RecordInline):
    model = OrderEvent
    fields = ["number", "event", "status", "detail", "created_at"]
    ordering = ["number"]
    show_change_link = False


@admin.register(Order)
class OrderAdmin(CancelsOrders):
    list_display = [
        "client_order_id", "ts_event", "side", "instrument", "quantity", "limit_price", "status", "filled_qty",
        "leaves_qty", "avg_px", "reason", "reducing", links("trades", "trades"),
    ]  # fmt: skip
    list_filter = ["status", "side", "reducing", "instrument", "account"]
    list_select_related = ["instrument", "account", "account__session", "intent", "intent__instrument"]
    prefetch = ["trades__instrument"]
    search_fields = ["client_order_id__exact", "venue_order_id__exact", "instrument__symbol__istartswith"]
    search_help_text = "Client order id, venue order id or symbol"
    inlines = [OrderEventInline]
    actions_detail = ["cancel_order"]
    road = [
        explanation("order"),
        links("trades", "Trades"),
        listing("portfolio_position", "Position opened", lambda row: {"q": row.client_order_id}),
        listing("portfolio_reservation", "Reservation", lambda row: {"q": row.client_order_id}),
        listing("execution_venueorder", "Paper venue's record", lambda row: {"q": row.client_order_id}),
    ]
    ordering = ["-id"]


@admin.register(Trade)
class TradeAdmin(Record):
    list_display = [
        "trade_id", "ts_event", "side", "instrument", "quantity", "price", "fee", "fee_currency", "liquidity",
        "latency_ms", "slippage_bps", "order", "position", "sequence",
    ]  # fmt: skip
    list_filter = ["side", "liquidity", "instrument", "account"]
    list_select_related = [
        "instrument", "order", "order__instrument", "position", "position__instrument", "account", "account__session",
    ]  # fmt: skip
    search_fields = ["trade_id__exact", "order__client_order_id__exact", "instrument__symbol__istartswith"]
    road = [
        explanation("trade"),
        listing("portfolio_ledgerentry", "Ledger", lambda row: {"q": f"trade:{row.venue}:{row.trade_id}"}),
    ]
    ordering = ["-id"]


@admin.register(OrderAnomaly)
class OrderAnomalyAdmin(ResolvesAnomalies):
    words = (
        "What a venue reported and cannot be ours: a fill of an order that nobody here sent, in another symbol, at "
        "another price, or more than was ordered. It is booked nowhere, and opening stops until somebody resumes."
    )
    list_display = [
        "seen_at", "kind", "venue", "client_order_id", "reference", "words", "times", "order", "account",
        "resolved_at", "resolved_by",
    ]  # fmt: skip
    list_filter = ["kind", "venue", ("resolved_at", admin.EmptyFieldListFilter), "account"]
    list_select_related = ["account", "account__session", "order", "order__instrument"]
    search_fields = ["client_order_id__exact", "reference__exact", "words"]
    ordering = ["-id"]
    actions_detail = ["resolve_anomaly"]


@admin.register(VenueOrder)
class VenueOrderAdmin(Record):
    list_display = [
        "client_order_id", "owner", "side", "symbol", "quantity", "limit_price", "status", "filled_quantity",
        "ts_trigger", "ts_mature", "outcome", "reason",
    ]  # fmt: skip
    list_filter = ["status", "side", "outcome"]
    search_fields = ["client_order_id__exact", "symbol__istartswith"]
    road = [
        links("trades", "Fills"),
        listing("execution_order", "Our order", lambda row: {"q": row.client_order_id}),
    ]
    ordering = ["-id"]


@admin.register(VenueTrade)
class VenueTradeAdmin(Record):
    list_display = [
        "__str__", "order", "price", "quantity", "fee", "fee_currency", "liquidity", "latency_ms", "slippage_bps",
        "ts_event",
    ]  # fmt: skip
    list_select_related = ["order"]
    search_fields = ["order__client_order_id__exact", "order__symbol__istartswith"]
    ordering = ["-id"]
