"""Sessions and money, as staff can read them."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from apps.portfolio.models import (
    Account,
    Correction,
    EquityPoint,
    LedgerEntry,
    Position,
    Reservation,
    SessionReport,
    TradingSession,
)
from apps.staff import numbers
from apps.staff.columns import Column, links, listing, named
from apps.staff.records import LongRecord, Record

TRADE_REFERENCE = "trade:"


def opening_order(position: Position) -> str:
    """The order that opened this position, found by its client order id."""
    url = reverse("admin:execution_order_changelist", query={"q": position.opened_by})
    return format_html('<a class="cdb-link" href="{}">{}</a>', url, position.opened_by)


def moved_by(entry: LedgerEntry) -> str:
    """The trade that moved this money, if one did."""
    if not entry.reference.startswith(TRADE_REFERENCE):
        return numbers.UNKNOWN
    trade_id = entry.reference.rpartition(":")[2]
    url = reverse("admin:execution_trade_changelist", query={"q": trade_id})
    return format_html('<a class="cdb-link" href="{}">trade {}</a>', url, trade_id)


def other_legs(entry: LedgerEntry) -> str:
    url = reverse("admin:portfolio_ledgerentry_changelist", query={"q": entry.reference})
    return format_html('<a class="cdb-link" href="{}">all legs of {}</a>', url, entry.reference)


@admin.register(TradingSession)
class TradingSessionAdmin(Record):
    list_display = ["name", "mode", "tier", "epoch", "quote_asset", "started_at", "ends_at", "ended_at"]
    list_filter = ["mode", "tier"]
    list_select_related = ["epoch"]
    search_fields = ["name"]
    ordering = ["-id"]
    road = [
        links("report", "Report"),
        links("accounts", "Accounts"),
        listing("signals_signal", "Signals", lambda row: {"session__id__exact": row.pk}),
    ]


def figure(name: str, label: str) -> Column:
    """One of a report's figures, as it was frozen."""

    def column(row: SessionReport) -> str:
        value = row.figures.get(name)
        return numbers.UNKNOWN if value is None else str(value)

    return named(column, name, label)


@admin.register(SessionReport)
class SessionReportAdmin(Record):
    words = "What each session came to, as it was known when it ended. A report is made once and never changed."
    list_display = [
        "session",
        figure("trades", "trades"),
        figure("net", "net result"),
        figure("win_rate", "win rate"),
        figure("profit_factor", "profit factor"),
        figure("uptime", "uptime"),
        "created_at",
    ]
    list_select_related = ["session"]
    search_fields = ["session__name"]
    ordering = ["-id"]


@admin.register(Account)
class AccountAdmin(Record):
    list_display = ["__str__", "session", "currency", "initial", "cash", "sequence"]
    list_filter = ["currency", "book"]
    list_select_related = ["session"]
    search_fields = ["session__name", "book__iexact"]
    ordering = ["-id"]
    road = [
        links("risk_state", "Risk state"),
        *(
            listing(model, label, lambda row: {"account__id__exact": row.pk})
            for model, label in (
                ("risk_riskdecision", "Decisions"),
                ("execution_order", "Orders"),
                ("execution_trade", "Trades"),
                ("portfolio_position", "Positions"),
                ("portfolio_ledgerentry", "Ledger"),
                ("portfolio_correction", "Corrections"),
                ("portfolio_reservation", "Reservations"),
                ("portfolio_equitypoint", "Equity"),
                ("risk_risklimits", "Limits"),
            )
        ),
    ]


@admin.register(LedgerEntry)
class LedgerEntryAdmin(LongRecord):
    list_display = [
        "id",
        "ts_event",
        "reference",
        "leg",
        "kind",
        "amount",
        "currency",
        named(moved_by, "moved_by", "moved by"),
    ]
    list_filter = ["kind", "currency", "account"]
    list_select_related = ["account", "account__session"]
    search_fields = ["reference__exact"]
    search_help_text = "Exact reference, such as trade:paper:17"
    signed = frozenset({"amount"})
    road = [named(moved_by, "moved_by", "moved by"), named(other_legs, "other_legs", "legs")]
    ordering = ["-id"]


@admin.register(Correction)
class CorrectionAdmin(Record):
    words = "Legs that were added because something in the ledger was wrong. What was wrong stays as it was."
    list_display = ["number", "account", "reason", "made_by", "approved_by", "reverses", "ts_event", "created_at"]
    list_filter = ["account"]
    list_select_related = ["account", "account__session"]
    search_fields = ["reason__icontains", "made_by__exact"]
    road = [
        listing("portfolio_ledgerentry", "Legs", lambda row: {"q": row.reference, "account__id__exact": row.account_id})
    ]
    ordering = ["-id"]


@admin.register(Position)
class PositionAdmin(Record):
    list_display = [
        "id", "instrument", "status", "quantity", "entry_quantity", "entry_price", "stop_price", "target_price",
        "opened_ts", "due_ts", "closed_ts", "cost", "realized", "fees",
    ]  # fmt: skip
    list_filter = ["status", "instrument", "account"]
    list_select_related = ["instrument", "account", "account__session"]
    search_fields = ["opened_by__exact", "instrument__symbol__istartswith"]
    signed = frozenset({"realized"})
    hidden = frozenset({"opened_by"})
    road = [
        named(opening_order, "opening_order", "opened by order"),
        links("trades", "Trades"),
        links("exit_signals", "Exit signals"),
        links("exit_intents", "Exit intents"),
        links("reservation_set", "Reservations"),
    ]
    ordering = ["-id"]


@admin.register(Reservation)
class ReservationAdmin(Record):
    list_display = [
        "client_order_id",
        "instrument",
        "active",
        "reducing",
        "amount",
        "currency",
        "notional",
        "position",
        "ts_event",
    ]
    list_filter = ["active", "reducing", "instrument", "account"]
    list_select_related = ["instrument", "account", "account__session", "position", "position__instrument"]
    search_fields = ["client_order_id__exact", "instrument__symbol__istartswith"]
    road = [listing("execution_order", "Order", lambda row: {"q": row.client_order_id})]
    ordering = ["-id"]


@admin.register(EquityPoint)
class EquityPointAdmin(LongRecord):
    list_display = ["minute", "account", "equity", "cash", "exposure", "peak", "drawdown", "created_at"]
    list_filter = ["account"]
    list_select_related = ["account", "account__session"]
    search_fields = ["account__session__name"]
    ordering = ["-minute", "-id"]
