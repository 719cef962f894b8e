"""The admin's looks and navigation (django-unfold)."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def page(title: str, icon: str, url_name: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(url_name)}


def table(title: str, icon: str, model: str) -> dict[str, Any]:
    """A link to the list of `app_model`, shown to those who may see it."""
    app, _, name = model.partition("_")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{model}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{name}"),
    }


NAVIGATION: list[dict[str, Any]] = [
    {
        "title": "",
        "items": [
            page("Live", "monitoring", "live:board"),
            page("Feed", "sensors", "live:feed"),
            page("Tables", "table_view", "admin:index"),
        ],
    },
    {
        "title": "Road",
        "separator": True,
        "items": [
            table("Signals", "bolt", "signals_signal"),
            table("Refused signals", "block", "signals_signalrefusal"),
            table("Decisions", "gavel", "risk_riskdecision"),
            table("Intents", "outbound", "risk_orderintent"),
            table("Orders", "receipt_long", "execution_order"),
            table("Trades", "swap_horiz", "execution_trade"),
            table("Positions", "inventory_2", "portfolio_position"),
            table("Ledger", "account_balance", "portfolio_ledgerentry"),
        ],
    },
    {
        "title": "Money and risk",
        "separator": True,
        "items": [
            table("Sessions", "play_circle", "portfolio_tradingsession"),
            table("Accounts", "account_balance_wallet", "portfolio_account"),
            table("Reservations", "lock", "portfolio_reservation"),
            table("Equity", "show_chart", "portfolio_equitypoint"),
            table("Limits", "straighten", "risk_risklimits"),
            table("Risk state", "shield", "risk_riskstate"),
            table("State changes", "history", "risk_riskstatechange"),
            table("Strategies", "psychology", "signals_strategy"),
            table("Versions", "difference", "signals_strategyversion"),
            table("Schedule", "event", "signals_parameterschedule"),
            table("Tiers", "stairs", "risk_tierchange"),
        ],
    },
    {
        "title": "Study",
        "separator": True,
        "items": [
            table("Backtests", "science", "backtest_backtestrun"),
            table("Parity", "balance", "backtest_parityaudit"),
        ],
    },
    {
        "title": "Market",
        "separator": True,
        "items": [
            table("Instruments", "currency_exchange", "market_instrument"),
            table("Bars", "candlestick_chart", "market_bar"),
            table("Longer bars", "bar_chart", "market_longerbar"),
            table("Outbox", "outbox", "outbox_outboxevent"),
        ],
    },
    {
        "title": "Feed",
        "separator": True,
        "items": [
            table("Followed symbols", "playlist_add_check", "market_epochinstrument"),
            table("Coverage", "grid_on", "market_coverage"),
            table("Gaps", "heart_broken", "market_gap"),
            table("Doubts", "question_mark", "market_klinedoubt"),
            table("Connections", "cable", "market_feedconnection"),
            table("Changes of state", "timeline", "market_feedtransition"),
            table("Leases", "key", "market_ingestlease"),
            table("Cursors", "start", "market_shardcursor"),
            table("Archive", "archive", "market_archivedshard"),
            table("Ingest runs", "input", "market_ingestrun"),
            table("Screener rules", "filter_list", "market_screenerrule"),
            table("Screener runs", "checklist", "market_screenerrun"),
        ],
    },
    {
        "title": "People",
        "separator": True,
        "items": [table("Users", "person", "auth_user"), table("Groups", "group", "auth_group")],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Claire de Binare",
    "SITE_HEADER": "Claire de Binare",
    "SITE_SYMBOL": "water_drop",
    "SITE_URL": reverse_lazy("live:board"),
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "apps.live.frame.environment",
    "GLOBAL_CALLBACK": "apps.live.frame.context",
    "COMMAND": {"search_models": False, "search_callback": "apps.live.palette.search"},
    "SIDEBAR": {"show_search": True, "command_search": True, "navigation": NAVIGATION},
    "STYLES": [lambda _: static("live/colors.css"), lambda _: static("live/cdb.css")],
    "SCRIPTS": [lambda _: static("live/csp.js")],
}
