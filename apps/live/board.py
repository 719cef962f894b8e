"""What the live page shows: read in few queries and rendered on the server, for the first page and each update."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import OuterRef, Subquery
from django.template.loader import render_to_string

from apps.engine import timeouts
from apps.live import feed
from apps.live.sources import State, read_funnel, read_why
from apps.live.words import exit_words
from apps.market.models import Bar
from apps.portfolio.models import Account, EquityPoint, Position, TradingSession
from apps.risk.models import RiskDecision, RiskLimits
from apps.signals.models import Signal
from apps.staff import numbers, times

DECISIONS_SHOWN = 10
POSITIONS_SHOWN = 20
EQUITY_POINTS_SHOWN = 240
SPARK_WIDTH, SPARK_HEIGHT = 240, 40
SECTIONS = ("feed", "funnel", "positions", "equity", "decisions")
STAGES = (
    ("received", "market_ingestrun"),
    ("decoded", "market_ingestrun"),
    ("published", "market_ingestrun"),
    ("processed", "market_shardcursor"),
    ("bars", "market_bar"),
    ("evaluated", "market_shardcursor"),
    ("refused", "signals_signalrefusal"),
    ("signals", "signals_signal"),
    ("approved", "risk_riskdecision"),
    ("denied", "risk_riskdecision"),
    ("orders", "execution_order"),
    ("trades", "execution_trade"),
)


@dataclass(frozen=True, slots=True)
class Board:
    """The template context of every section, by section."""

    now_ms: int
    contexts: dict[str, dict[str, Any]]


def read(state: State, now_ms: int) -> Board:
    session, account = state.session, state.account
    open_positions = _positions(session, account) if account is not None else []
    contexts = {
        "feed": feed.summary(state, now_ms),
        "funnel": {"stages": _stages(read_funnel(state, now_ms)), "why": read_why(state, now_ms)},
        "positions": {"positions": [_position_row(row, now_ms) for row in open_positions[:POSITIONS_SHOWN]],
                      "more": max(len(open_positions) - POSITIONS_SHOWN, 0)},
        "equity": _equity(account, open_positions),
        "decisions": {"rows": _decisions(session, now_ms)},
    }  # fmt: skip
    common = {"session": session, "now_ms": now_ms, "channels_max": timeouts.EXCHANGE_SUBSCRIPTIONS_MAX}
    return Board(now_ms, {name: {**common, **context} for name, context in contexts.items()})


def render(board: Board) -> dict[str, str]:
    """The HTML of every section, by section."""
    return {name: render_to_string(f"live/sections/{name}.html", board.contexts[name]) for name in SECTIONS}


def _stages(counts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "model": model, "count": numbers.count(counts.get(name)), "raw": counts.get(name)}
        for name, model in STAGES
    ]


def _positions(session: TradingSession, account: Account) -> list[Any]:
    """Open positions, newest first, each with the close and minute of the newest bar of its instrument."""
    bars = Bar.objects.filter(epoch_id=session.epoch_id, instrument_id=OuterRef("instrument_id")).order_by("-minute")
    held = Position.objects.filter(account=account, status=Position.Status.OPEN).select_related("instrument")
    return list(
        held.annotate(
            mark=Subquery(bars.values("close")[:1]), mark_minute=Subquery(bars.values("minute")[:1])
        ).order_by("-id")
    )


def _position_row(row: Any, now_ms: int) -> dict[str, Any]:
    decimals = row.instrument.price_decimals
    result = None if row.mark is None else (row.mark - row.entry_price) * row.quantity
    share = None if row.mark is None or not row.entry_price else row.mark / row.entry_price - 1
    return {
        "pk": row.pk,
        "symbol": row.instrument.symbol,
        "quantity": numbers.exact(row.quantity, decimals=row.instrument.quantity_decimals),
        "entry": numbers.exact(row.entry_price, decimals=decimals),
        "mark": numbers.exact(row.mark, decimals=decimals),
        "marked": None if row.mark_minute is None else times.clock((row.mark_minute + 1) * times.MINUTE_MS, now_ms),
        "result": numbers.rounded(result, 2, signed=True),
        "share": numbers.percent(share, 2, signed=True),
        "direction": None if result is None or not result else ("up" if result > 0 else "down"),
        "stop": numbers.exact(row.stop_price, decimals=decimals),
        "target": numbers.exact(row.target_price, decimals=decimals) if row.target_price else numbers.UNKNOWN,
        "due": times.clock(row.due_ts, now_ms),
        "raw": numbers.plain(row.quantity),
    }


def _equity(account: Account | None, held: Iterable[Any]) -> dict[str, Any]:
    if account is None:
        return {"account": None}
    value = sum((row.quantity * (row.entry_price if row.mark is None else row.mark) for row in held), Decimal(0))
    equity = account.cash + value
    points = list(
        EquityPoint.objects.filter(account=account)
        .order_by("-minute")
        .values_list("equity", flat=True)[:EQUITY_POINTS_SHOWN]
    )
    limits = RiskLimits.objects.filter(account=account).order_by("-version").first()
    risk = getattr(account, "risk_state", None)
    limit = None if limits is None else limits.exposure_max * equity
    exposure = None if risk is None else risk.exposure
    return {
        "account": account,
        "currency": account.currency,
        "equity": numbers.rounded(equity, 2),
        "equity_raw": numbers.plain(equity),
        "result": numbers.rounded(equity - account.initial, 2, signed=True),
        "share": numbers.percent(equity / account.initial - 1 if account.initial else None, 2, signed=True),
        "cash": numbers.rounded(account.cash, 2),
        "exposure": numbers.rounded(exposure, 2),
        "limit": numbers.rounded(limit, 2),
        "use": numbers.percent(exposure / limit if exposure is not None and limit else None, 0),
        "use_meter": _meter(exposure, limit),
        "spark": spark(points[::-1]),
        "points": len(points),
    }


def _meter(value: Decimal | None, limit: Decimal | None) -> int | None:
    """Thousandths of the limit, for a <meter> up to 1000; more than the limit is a full meter."""
    return None if value is None or not limit else min(int(value / limit * 1000), 1000)


def spark(values: list[Decimal]) -> str:
    """The points of an SVG polyline that fills the spark's box; empty for fewer than two values."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = high - low
    step = Decimal(SPARK_WIDTH) / (len(values) - 1)
    heights = (
        Decimal(SPARK_HEIGHT) / 2 if not span else SPARK_HEIGHT - (value - low) / span * SPARK_HEIGHT
        for value in values
    )
    return " ".join(f"{index * step:.1f},{height:.1f}" for index, height in enumerate(heights))


def _decisions(session: TradingSession | None, now_ms: int) -> list[dict[str, Any]]:
    """The newest signals with the decision on each, whether it is taken yet or not."""
    if session is None:
        return []
    newest = Signal.objects.filter(session=session).select_related("instrument").prefetch_related("decisions")
    return [_decision_row(row, now_ms) for row in newest.order_by("-id")[:DECISIONS_SHOWN]]


def _decision_row(signal: Signal, now_ms: int) -> dict[str, Any]:
    decision: RiskDecision | None = next(iter(signal.decisions.all()), None)
    entry = signal.kind == Signal.Kind.ENTRY
    change = None if signal.change is None else Decimal(repr(signal.change))
    return {
        "at": times.short(signal.ts_event, now_ms),
        "iso": times.iso(signal.ts_event),
        "signal": signal.pk,
        "side": "BUY" if entry else "SELL",
        "symbol": signal.instrument.symbol,
        "price": numbers.exact(signal.price, decimals=signal.instrument.price_decimals),
        "why": f"{numbers.percent(change, signed=True)}" if entry else exit_words(signal.exit_reason),
        "decision": None if decision is None else decision.pk,
        "verdict": "not decided yet" if decision is None else decision.get_verdict_display().lower(),
        "denied": decision is not None and decision.verdict == RiskDecision.Verdict.DENIED,
        "sentence": "" if decision is None else decision.sentence,
    }
