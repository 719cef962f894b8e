"""How many of what went how far down the road, for one session."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Count, Q, Sum

from apps.bus.feed import FeedReport
from apps.execution.models import Order, Trade
from apps.market.models import Bar, IngestRun, ShardCursor
from apps.ops.selectors.state import State
from apps.portfolio.models import TradingSession
from apps.risk.models import RiskDecision
from apps.signals.models import Signal, SignalRefusal
from apps.staff import times

STAGES: Final = (
    "received", "decoded", "published", "processed", "bars", "evaluated", "refused", "signals", "approved", "denied",
    "orders", "trades",
)  # fmt: skip


def of_state(state: State, now_ms: int) -> dict[str, Any]:
    """Counts by stage plus `as_of` and the two ages in seconds (None: not known). Empty if no session is open."""
    if state.session is None:
        return {}
    seen = [feed.age_ms for feed in state.snapshot.feeds]
    oldest = max((age for age in seen if age is not None), default=None) if None not in seen else None
    last_trade_ms = state.snapshot.last_trade_ms
    return {
        **counts(state.session, state.report),
        "as_of": times.iso(now_ms),
        "feed_age_s": None if oldest is None else oldest / 1000,
        "last_trade_age_s": None if last_trade_ms is None else max(now_ms - last_trade_ms, 0) / 1000,
    }


def counts(session: TradingSession, report: FeedReport | None) -> dict[str, int]:
    """The counts alone. Trades that the ingest saw come from its runs, and from its live report where that is newer."""
    epoch_id = session.epoch_id
    read = ShardCursor.objects.filter(epoch_id=epoch_id).aggregate(
        processed=Sum("processed"), evaluated=Sum("evaluated")
    )
    verdicts = RiskDecision.objects.filter(signal__session=session).aggregate(
        approved=Count("id", filter=Q(verdict=RiskDecision.Verdict.APPROVED)),
        denied=Count("id", filter=Q(verdict=RiskDecision.Verdict.DENIED)),
    )
    return {
        **_ingested(epoch_id, report),
        "processed": read["processed"] or 0,
        "bars": Bar.objects.filter(epoch_id=epoch_id).exclude(source=Bar.Source.KLINES).count(),
        "evaluated": read["evaluated"] or 0,
        "refused": SignalRefusal.objects.filter(session=session).count(),
        "signals": Signal.objects.filter(session=session).count(),
        **verdicts,
        "orders": Order.objects.filter(account__session=session).count(),
        "trades": Trade.objects.filter(account__session=session).count(),
    }


def _ingested(epoch_id: int, report: FeedReport | None) -> dict[str, int]:
    names = ("received", "decoded", "published")
    runs = {row["token"]: row for row in IngestRun.objects.filter(epoch_id=epoch_id).values("token", *names)}
    if report is not None:
        stored = runs.get(report.token, {})
        runs[report.token] = {name: max(stored.get(name, 0), getattr(report.counts, name)) for name in names}
    return {name: sum(row[name] for row in runs.values()) for name in names}
