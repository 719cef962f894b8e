"""Builds the snapshot that the state sentence is written from, with few queries."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import F, Min, OuterRef, Subquery, Sum

from apps.alerts.selectors import open_alerts
from apps.bus.feed import FeedReport
from apps.execution.models import Order, OrderStatus, Trade
from apps.execution.selectors import compared
from apps.market.coverage import gated
from apps.market.feed_history import lease, took_over
from apps.market.models import Bar, EpochInstrument, IngestRun, ShardCursor
from apps.ops.selectors.feed import blocked_connections, broken_connection, newest_report, refused_channels
from apps.ops.sentence import QUIET_MS, TAKEOVER_SHOWN_MS, Sentence, sentence
from apps.ops.snapshot import Gated, Mover, OpenAlert, Snapshot, SymbolFeed, UnknownOrder
from apps.portfolio.models import MAIN_BOOK, Account, Position, TradingSession
from apps.portfolio.selectors import current_session
from apps.risk.models import RiskLimits
from apps.risk.selectors import tier_in_force
from apps.signals.models import SessionStrategy
from apps.signals.services.schedules import version_in_force
from apps.staff import numbers, times

UNKNOWN_ORDERS_MAX = 20
RSI_CLOSES = 15  # closed minutes before the momentum rule's RSI is ready; the rule itself would import its compiler


@dataclass(frozen=True, slots=True)
class State:
    """The sentence, what it was written from, and the report of the ingest behind it."""

    snapshot: Snapshot
    sentence: Sentence
    session: TradingSession | None
    account: Account | None
    report: FeedReport | None


def read_state(now_ms: int) -> State:
    """Everything the sentence needs, as of `now_ms` (wall clock)."""
    session = current_session()
    if session is None:
        empty = Snapshot(now_ms, alerts=_alerts())
        return State(empty, sentence(empty), None, None, None)
    account = main_account(session)
    report, redis_answers = newest_report(session.epoch_id)
    snapshot = Snapshot(
        now_ms=now_ms,
        mode=session.mode,
        alerts=_alerts(),
        tier=tier_in_force(session),
        market=session.epoch.kind,
        replay=session.epoch.kind == "replay",
        quote_asset=session.quote_asset,
        started_ms=times.to_ms(session.started_at),
        redis_answers=redis_answers,
        **_trading_state(account),
        **_feed(session, report, now_ms),
        **_lease(session),
        gated=_gated(session),
        **_warm_up(session),
        **_money(session, account),
        **_activity(session, account, now_ms),
    )
    return State(snapshot, sentence(snapshot), session, account, report)


def _alerts() -> tuple[OpenAlert, ...]:
    return tuple(OpenAlert(row.words, row.count, row.severity == row.Severity.CRITICAL) for row in open_alerts())


def main_account(session: TradingSession) -> Account | None:
    accounts = Account.objects.filter(session=session, book=MAIN_BOOK)
    return accounts.select_related("risk_state", "session").first()


def _trading_state(account: Account | None) -> dict[str, Any]:
    state = getattr(account, "risk_state", None)
    if state is None:
        return {}
    return {
        "trading_state": state.trading_state,
        "state_since_ms": times.to_ms(state.state_since),
        "state_set_by": state.state_set_by,
        "state_reason": state.state_reason,
    }


def _feed(session: TradingSession, report: FeedReport | None, now_ms: int) -> dict[str, Any]:
    members = EpochInstrument.objects.filter(epoch_id=session.epoch_id, followed=True)
    ordered = sorted(members.values_list("instrument__symbol", flat=True))
    if report is None:
        seen = (
            IngestRun.objects.filter(epoch_id=session.epoch_id)
            .order_by("-token")
            .values_list("last_seen_at", flat=True)
        )
        last = seen.first()
        report_ms = None if last is None else times.to_ms(last)
        return {"reported_ms": report_ms, "feeds": tuple(SymbolFeed(symbol, None) for symbol in ordered)}
    return {
        "reported_ms": report.written_ms,
        "feeds": tuple(SymbolFeed(symbol, report.age(symbol, now_ms).age_ms) for symbol in ordered),
        "last_trade_ms": report.last_trade_ms,
        "event_time_ms": report.event_time_ms,
        "refused": refused_channels(report),
        "connections": len(report.connections),
        "blocked": blocked_connections(report),
        "trouble": broken_connection(report),
    }


def _lease(session: TradingSession) -> dict[str, Any]:
    found = lease(epoch_id=session.epoch_id)
    if found is None:
        return {}
    fields: dict[str, Any] = {"lease_taken": True, "lease_age_ms": found.age_ms}
    recent = found.held and found.held_for_ms is not None and found.held_for_ms < TAKEOVER_SHOWN_MS
    if recent and took_over(epoch_id=session.epoch_id, token=found.token):
        fields["taken_over_ms"] = found.held_for_ms
    return fields


def window_minutes(session: TradingSession) -> int:
    """Minutes before the open one that an entry signal looks at (apps.engine.strategies.momentum says the same)."""
    return int(parameters(session).get("lookback_minutes", 0)) + 1


def _gated(session: TradingSession) -> Gated | None:
    """Symbols held up by minutes whose repair has failed at least once; a hole that is just being filled is no news."""
    found = [
        row
        for row in gated(epoch_id=session.epoch_id, window_minutes=window_minutes(session))
        if row.tried or row.final
    ]
    if not found:
        return None
    return Gated(
        tuple(row.symbol for row in found),
        found[0].reason,
        max(row.free_minute for row in found) * times.MINUTE_MS,
        all(row.final for row in found),
    )


def _warm_up(session: TradingSession) -> dict[str, Any]:
    """How much history the first symbol to become warm has. A shard that has judged a trade is warm."""
    cursors = ShardCursor.objects.filter(epoch_id=session.epoch_id)
    totals = cursors.aggregate(judged=Sum("evaluated"), reached=Min("closed_minute"))
    if totals["judged"]:
        return {"warm": True}
    lookback = int(parameters(session).get("lookback_minutes", 0))
    needed = max(lookback + 1, RSI_CLOSES)
    first = Bar.objects.filter(epoch_id=session.epoch_id).aggregate(first=Min("minute"))["first"]
    if first is None or totals["reached"] is None:
        return {"minutes_needed": needed}
    return {
        "minutes_known": min(max(totals["reached"] - first + 1, 0), needed),
        "minutes_needed": needed,
        "first_decision_ms": (first + needed) * times.MINUTE_MS,
    }


def parameters(session: TradingSession) -> dict[str, Any]:
    """The parameters of the session's first strategy; empty if it runs none."""
    row = SessionStrategy.objects.filter(session=session).select_related("version").order_by("id").first()
    return {} if row is None else dict(version_in_force(row).parameters)


def last_close(epoch_id: int, instrument: str = "instrument_id") -> Subquery:
    """The close of the newest bar of an outer row's instrument."""
    bars = Bar.objects.filter(epoch_id=epoch_id, instrument_id=OuterRef(instrument)).order_by("-minute")
    return Subquery(bars.values("close")[:1])


def _money(session: TradingSession, account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    held = Position.objects.filter(account=account, status=Position.Status.OPEN).annotate(
        mark=last_close(session.epoch_id)
    )
    rows = list(held.values_list("quantity", "mark", "entry_price"))
    value = sum((quantity * (entry if mark is None else mark) for quantity, mark, entry in rows), Decimal(0))
    limits = RiskLimits.objects.filter(account=account).order_by("-version").first()
    state = getattr(account, "risk_state", None)
    unknown = Order.objects.filter(account=account, status=OrderStatus.UNKNOWN).select_related("instrument")
    return {
        "positions": len(rows),
        "position_value": value,
        "equity": account.cash + value,
        "exposure": None if state is None else state.exposure,
        "exposure_limit": None if limits is None else limits.exposure_max * (account.cash + value),
        "unknown_orders": tuple(_unknown(order) for order in unknown.order_by("id")[:UNKNOWN_ORDERS_MAX]),
        "compared": None if limits is None else compared(account, limits),
    }


def _unknown(order: Order) -> UnknownOrder:
    quantity = numbers.exact(order.quantity, decimals=order.instrument.quantity_decimals)
    return UnknownOrder(order.side, order.instrument.symbol, quantity, times.to_ms(order.updated_at))


def _activity(session: TradingSession, account: Account | None, now_ms: int) -> dict[str, Any]:
    """When the account last filled; and, only if that is long ago, how near the symbols are to an entry."""
    last = Trade.objects.filter(account=account).order_by("-id").values_list("created_at", flat=True).first()
    since_ms = times.to_ms(last or session.started_at)
    facts: dict[str, Any] = {"last_fill_ms": None if last is None else times.to_ms(last)}
    if session.epoch.kind == "replay" or now_ms - since_ms < QUIET_MS:
        return facts
    given = parameters(session)
    if "threshold_pct" not in given or "lookback_minutes" not in given:
        return facts
    lookback = int(given["lookback_minutes"])
    threshold = Decimal(str(given["threshold_pct"])) / 100
    return {**facts, "threshold": threshold, "lookback_minutes": lookback, "closest": _closest(session, lookback)}


def _closest(session: TradingSession, lookback_minutes: int) -> Mover | None:
    """The symbol that has risen most over the lookback window, by its newest bars."""
    newest = Bar.objects.filter(epoch_id=session.epoch_id, instrument_id=OuterRef("instrument_id")).order_by("-minute")
    rows = EpochInstrument.objects.filter(epoch_id=session.epoch_id, followed=True).annotate(
        close=Subquery(newest.values("close")[:1]), at=Subquery(newest.values("minute")[:1])
    )
    before = Bar.objects.filter(epoch_id=session.epoch_id, instrument_id=OuterRef("instrument_id"))
    rows = rows.annotate(
        ref=Subquery(
            before.filter(minute__lte=OuterRef("at") - lookback_minutes).order_by("-minute").values("close")[:1]
        )
    )
    moves = [
        Mover(symbol, close / ref - 1)
        for symbol, close, ref in rows.values_list(F("instrument__symbol"), "close", "ref")
        if close and ref
    ]
    return max(moves, key=lambda move: move.change, default=None)
