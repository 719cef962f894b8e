"""What a session came to: its configuration, its road, its results, as values that JSON can keep.

Money is exact text in the account's currency, shares are numbers from 0 to 1, times are ISO 8601 in UTC. A figure that
its definition does not give for these data is None (apps.engine.performance says when).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db.models import Count, Sum

from apps.engine import performance
from apps.engine.money import ZERO, exact, notional, total
from apps.engine.performance import RoundTrip
from apps.execution.models import Order, Trade
from apps.market.coverage import minute_counts
from apps.market.models import IngestRun
from apps.market.selectors import closed_minute, reached_ms
from apps.portfolio.models import Account, Correction, LedgerEntry, Position, TradingSession
from apps.portfolio.selectors import closes_at, equity_series, main_account, worth_at
from apps.risk.models import OrderIntent, RiskDecision, RiskLimits, RiskStateChange, TierChange
from apps.signals.models import SessionStrategy, Signal, SignalRefusal
from apps.staff import numbers, times

DAY_MINUTES: Final = 24 * 60
DAYS_FOR_DAILY: Final = 30
DAYS_FOR_HOURLY: Final = 2
EVER_MINUTES: Final = 10**9


def figures_of(session: TradingSession, now: datetime) -> dict[str, Any]:
    """All figures of a session as of `now` (wall clock), or as of its end if it has one."""
    end = session.ended_at or now
    account = main_account(session)
    return {
        **_frame(session, end),
        **_road(session),
        "coverage": _coverage(session),
        "uptime": uptime(session, end),
        **({} if account is None else _money(account)),
    }


def _frame(session: TradingSession, end: datetime) -> dict[str, Any]:
    newest = RiskLimits.objects.filter(account__session=session).order_by("-version").first()
    bindings = SessionStrategy.objects.filter(session=session).select_related("version__strategy").order_by("id")
    return {
        "session": session.pk,
        "name": session.name,
        "mode": session.mode,
        "tier": session.tier,
        "market": session.epoch.kind,
        "source": session.epoch.source,
        "started_at": _iso(session.started_at),
        "ends_at": _iso(session.ends_at),
        "ended_at": _iso(session.ended_at),
        "ended_by": session.ended_by,
        "end_reason": session.end_reason,
        "minutes": int((end - session.started_at).total_seconds() // 60),
        "reached_ms": reached_ms(epoch_id=session.epoch_id),
        "config": session.config,
        "seed": session.seed,
        "limits_version": None if newest is None else newest.version,
        "strategies": [
            {"name": row.version.strategy.name, "version": row.version.version, "engine_hash": row.version.engine_hash}
            for row in bindings
        ],
        "tier_changes": TierChange.objects.filter(binding__session=session).count(),
        "state_changes": RiskStateChange.objects.filter(account__session=session).count(),
    }


def _road(session: TradingSession) -> dict[str, Any]:
    decisions = RiskDecision.objects.filter(signal__session=session)
    denied = decisions.filter(verdict=RiskDecision.Verdict.DENIED)
    reasons = Counter(found[0] if found else "" for found in denied.values_list("reasons", flat=True))
    orders = Order.objects.filter(account__session=session).values_list("status").annotate(n=Count("id"))
    return {
        "signals": Signal.objects.filter(session=session).count(),
        "refused": SignalRefusal.objects.filter(session=session).count(),
        "approved": decisions.filter(verdict=RiskDecision.Verdict.APPROVED).count(),
        "denied": sum(reasons.values()),
        "denied_by_reason": dict(sorted(reasons.items())),
        "orders_by_status": dict(sorted(orders.order_by("status"))),
    }


def _coverage(session: TradingSession) -> dict[str, Any]:
    """Minutes of all symbols by what is known of them, and the share that is proven."""
    counts = minute_counts(epoch_id=session.epoch_id, minutes=EVER_MINUTES)
    known = sum(counts.values())
    return {**counts, "proven_share": _share(counts.get("proven", 0), known)}


def uptime(session: TradingSession, end: datetime) -> float | None:
    """Share of the session's wall time in which an ingest reported that it ran."""
    runs = IngestRun.objects.filter(epoch_id=session.epoch_id, last_seen_at__isnull=False).order_by("started_at")
    up_ms, reached, end_ms = 0, times.to_ms(session.started_at), times.to_ms(end)
    whole_ms = end_ms - reached
    for began, seen in runs.values_list("started_at", "last_seen_at"):
        until = min(times.to_ms(seen or began), end_ms)
        up_ms += max(until - max(times.to_ms(began), reached), 0)
        reached = max(reached, until)
    return _share(up_ms, whole_ms)


# --- money ------------------------------------------------------------------------------------------------------------


def _money(account: Account) -> dict[str, Any]:
    trades = list(Trade.objects.filter(account=account).select_related("instrument").order_by("sequence"))
    positions = list(Position.objects.filter(account=account).select_related("instrument").order_by("id"))
    closed = [row for row in positions if row.status == Position.Status.CLOSED]
    still_open = [row for row in positions if row.status == Position.Status.OPEN]
    curve = equity_series(account)
    found = performance.measure(
        curve,
        round_trips(closed, trades),
        period_minutes=period_of(curve),
        open_since_ms=[row.opened_ts for row in still_open],
    )
    fall = found.max_drawdown
    return {
        "currency": account.currency,
        "initial": _text(account.initial),
        "cash": _text(account.cash),
        "trades": len(trades),
        "round_trips": found.round_trips,
        "won": found.won,
        "win_rate": found.win_rate,
        "profit_factor": found.profit_factor,
        "expectancy": _text(found.expectancy),
        "gross": _text(found.gross),
        "net": _text(found.net),
        "turnover": _text(found.turnover),
        "total_return": found.total_return,
        "sharpe": found.sharpe,
        "sortino": found.sortino,
        "calmar": found.calmar,
        "period_minutes": found.period_minutes,
        "exposure_share": found.exposure,
        "max_drawdown": None if fall is None else fall.share,
        "max_drawdown_amount": None if fall is None else _text(fall.amount),
        "realized": _text(total(row.realized for row in positions)),
        "fees": _text(total(row.fees for row in positions)),
        "fees_by_currency": _fees(account),
        "fees_unvalued": _unvalued(positions),
        "corrections": Correction.objects.filter(account=account).count(),
        "open_positions": len(still_open),
        **_worth(account, still_open),
        "first_minute": curve[0][0] if curve else None,
        "last_minute": curve[-1][0] if curve else None,
    }


def round_trips(closed: Iterable[Position], trades: Iterable[Trade]) -> list[RoundTrip]:
    """Closed positions as the figures want them, in the order in which they were closed."""
    amounts: dict[tuple[int, str], Decimal] = {}
    for trade in trades:
        key = (trade.position_id, trade.side)
        amounts[key] = total([amounts.get(key, ZERO), notional(trade.quantity, trade.price)])
    ordered = sorted(closed, key=lambda row: (row.closed_ts or 0, row.pk))
    return [_round_trip(row, amounts) for row in ordered]


@exact
def _round_trip(row: Position, amounts: dict[tuple[int, str], Decimal]) -> RoundTrip:
    return RoundTrip(
        symbol=row.instrument.symbol,
        reason="",
        opened_ts_event=row.opened_ts,
        closed_ts_event=row.closed_ts or row.opened_ts,
        entry_notional=amounts.get((row.pk, OrderIntent.Side.BUY), ZERO),
        exit_notional=amounts.get((row.pk, OrderIntent.Side.SELL), ZERO),
        gross=row.realized,
        fees=row.fees,
        net=row.realized - row.fees,
    )


def period_of(curve: Sequence[tuple[int, Decimal]]) -> int:
    """Minutes between the returns that yearly figures are worked out from."""
    minutes = curve[-1][0] - curve[0][0] + 1 if curve else 0
    if minutes >= DAYS_FOR_DAILY * DAY_MINUTES:
        return DAY_MINUTES
    return 60 if minutes >= DAYS_FOR_HOURLY * DAY_MINUTES else 1


def _worth(account: Account, held: Sequence[Position]) -> dict[str, Any]:
    """Equity and unrealised result at the last closed minute; None for what has no price."""
    minute = closed_minute(epoch_id=account.session.epoch_id)
    marks = {} if minute is None else closes_at(epoch_id=account.session.epoch_id, minute=minute)
    found = worth_at(account=account, before_ms=None, marks=marks)
    named = {"marks_minute": minute, "unvalued": {coin: _text(amount) for coin, amount in found.unvalued.items()}}
    if found.unmarked:
        return {"equity": None, "unrealized": None, **named, "unmarked": list(found.unmarked)}
    gains = [total([notional(row.quantity, marks[row.instrument.symbol]), -row.cost]) for row in held]
    return {"equity": _text(found.equity), "unrealized": _text(total(gains)), **named, "unmarked": []}


def _fees(account: Account) -> dict[str, str | None]:
    rows = LedgerEntry.objects.filter(account=account, kind=LedgerEntry.Kind.FEE).values_list("currency")
    return {currency: _text(amount) for currency, amount in rows.annotate(sum=Sum("amount")).order_by("currency")}


def _unvalued(positions: Iterable[Position]) -> dict[str, str | None]:
    sums: dict[str, Decimal] = {}
    for row in positions:
        for coin, amount in row.fees_unvalued.items():
            sums[coin] = total([sums.get(coin, ZERO), Decimal(amount)])
    return {coin: _text(amount) for coin, amount in sorted(sums.items())}


def _text(value: Decimal | None) -> str | None:
    return None if value is None else numbers.plain(value)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else times.iso(times.to_ms(moment))
