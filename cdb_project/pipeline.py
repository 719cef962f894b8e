"""The road, drawn once: what happened -> which task it wakes, and on which queue that task runs.

Each line here is one arrow of the picture in the README. A message is a doorbell only: every task looks into
PostgreSQL and Redis for what there is to do, so a message that is lost, doubled or late changes nothing.
"""

from __future__ import annotations

from typing import Final

ROUTES: Final[dict[str, str]] = {
    "MarketDataPublished": "signals.drain_shard",
    "SignalRaised": "risk.assess_signal",
    "IntentApproved": "execution.submit_order",
    "OrderSubmitted": "execution.match_orders",
    "WatermarkAdvanced": "execution.match_orders",
    "ExecutionReported": "execution.apply_reports",
    "PositionClosed": "risk.review_tier",
    "BreakerTripped": "risk.review_tier",
    "BacktestRequested": "backtest.run_backtest",
    "StrategyFailed": "signals.disable_strategy",
}

TRADE_QUEUE: Final = "trade"
MISC_QUEUE: Final = "misc"
STUDY_QUEUE: Final = "study"  # whatever simulates: it may take long, and nothing that trades waits behind it

TASK_QUEUES: Final[dict[str, str]] = {
    "risk.assess_signal": TRADE_QUEUE,
    "execution.submit_order": TRADE_QUEUE,
    "execution.match_orders": MISC_QUEUE,  # any process may match paper orders; the one that decides must not wait
    "execution.apply_reports": TRADE_QUEUE,
    "execution.reconcile": MISC_QUEUE,
    "risk.review_tier": MISC_QUEUE,
    "signals.disable_strategy": MISC_QUEUE,
    "backtest.run_backtest": STUDY_QUEUE,
    "backtest.audit_parity": STUDY_QUEUE,
}


def shard_queue(shard: int) -> str:
    """The queue whose drain process keeps the state of this shard warm."""
    return f"shard.{shard}"


def drain_queues(process: int, processes: int, shard_count: int) -> list[str]:
    """The shard queues of drain process `process` of `processes`."""
    return [shard_queue(shard) for shard in range(shard_count) if shard % processes == process]
