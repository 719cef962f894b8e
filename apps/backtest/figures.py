"""A simulation's figures as they are stored and printed: plain values by name. Money is exact text. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from apps.backtest.simulating import Simulated
from apps.engine.performance import Drawdown, Performance
from apps.engine.results import Result


def figures_of(done: Simulated) -> dict[str, Any]:
    """`counts`, `performance`, `denied` by reason, and the signals `refused` over UNPROVEN minutes by why those are."""
    return {
        "counts": counts_of(done.result),
        "performance": performance_of(done.performance),
        "denied": denied_of(done.result),
        "refused": refused_of(done.result),
    }


def counts_of(result: Result) -> dict[str, int]:
    """The road in its order."""
    approved = sum(decision.ruled.approved for decision in result.decisions)
    return {
        "trades": result.trades,
        "signals": len(result.signals),
        "refused_signals": len(result.refusals),
        "approved": approved,
        "denied": len(result.decisions) - approved,
        "fills": len(result.fills),
        "expired": len(result.ends) - len(result.fills),
        "round_trips": len(result.round_trips),
        "open_positions": result.open_positions,
        "open_orders": result.open_orders,
    }


def denied_of(result: Result) -> dict[str, int]:
    """How many decisions were denied, by the reason code of the first check that failed."""
    denied = (decision.ruled.assessment.reasons for decision in result.decisions if not decision.ruled.approved)
    return dict(Counter(reasons[0].value if reasons else "UNKNOWN" for reasons in denied).most_common())


def refused_of(result: Result) -> dict[str, int]:
    """How many signals were not raised because their window holds UNPROVEN minutes, by why the first of them is."""
    return dict(Counter(refusal.reason for refusal in result.refusals).most_common())


def failures_of(result: Result) -> list[str]:
    """Who raised, on what, in words."""
    return [
        f"version {gone.judge_id} raised {gone.words!r} on the trade of {gone.symbol} at {_iso(gone.ts_event)}"
        for gone in result.failed
    ]


def performance_of(performance: Performance) -> dict[str, Any]:
    """Every figure; what is unknown is None, never zero."""
    figures = {
        name: format(value, "f") if isinstance(value, Decimal) else value
        for name, value in asdict(performance).items()
        if name != "max_drawdown"
    }
    return {**figures, "max_drawdown": None if performance.max_drawdown is None else performance.max_drawdown.share} | (
        _drawdown(performance.max_drawdown)
    )


def _drawdown(worst: Drawdown | None) -> dict[str, Any]:
    if worst is None:
        return {"max_drawdown_amount": None, "max_drawdown_minutes": None}
    return {"max_drawdown_amount": format(worst.amount, "f"), "max_drawdown_minutes": worst.trough - worst.peak}


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
