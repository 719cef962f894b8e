"""Running all checks and putting their verdicts into one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from apps.engine.risk import amounts, gates, losses, path, rates
from apps.engine.risk.values import Intent, Limits, Outcome, Reason, Verdict, View
from apps.engine.risk.words import CHECK_NAMES, number, percent_left

Check = Callable[[Intent, View, Limits], Verdict]

CHECKS: Final[tuple[tuple[Reason, Check], ...]] = (
    (Reason.SYMBOL, gates.symbol),
    (Reason.HALTED, gates.halted),
    (Reason.REDUCING, gates.reducing),
    (Reason.LEASE, path.lease),
    (Reason.VERSION, path.version),
    (Reason.HEARTBEAT, path.heartbeat),
    (Reason.RECON, path.recon),
    (Reason.STALE_FEED, gates.stale_feed),
    (Reason.STALE_SIGNAL, gates.stale_signal),
    (Reason.DATA_GAP, gates.data_gap),
    (Reason.BAD_TICK, amounts.bad_tick),
    (Reason.PRICE_COLLAR, amounts.price_collar),
    (Reason.FAT_FINGER, amounts.fat_finger),
    (Reason.MIN_NOTIONAL, amounts.min_notional),
    (Reason.POSITION_LIMIT, amounts.position_limit),
    (Reason.OPEN_ORDERS, rates.open_orders),
    (Reason.SELF_TRADE, rates.self_trade),
    (Reason.EXPOSURE, amounts.exposure),
    (Reason.CASH, amounts.cash),
    (Reason.LOSS_LIMIT, losses.loss_limit),
    (Reason.DRAWDOWN, losses.drawdown),
    (Reason.THROTTLE, rates.throttle),
    (Reason.REPEAT, rates.repeat),
    (Reason.DUPLICATE, rates.duplicate),
)


class Ruling(StrEnum):
    APPROVED = "approved"
    DENIED = "denied"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Assessment:
    ruling: Ruling
    verdicts: tuple[Verdict, ...]
    sentence: str

    @property
    def reasons(self) -> list[Reason]:
        return [verdict.reason for verdict in self.verdicts if verdict.outcome is Outcome.FAILED]

    @property
    def trips(self) -> list[Verdict]:
        """The verdicts that must change the trading state."""
        return [verdict for verdict in self.verdicts if verdict.trip is not None]

    @property
    def alerts(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.alert]


def assess(intent: Intent, view: View, limits: Limits) -> Assessment:
    """Every check runs, whatever the ones before it said. One that failed denies; one that is held waits."""
    verdicts = tuple(check(intent, view, limits) for _, check in CHECKS)
    failed = [verdict for verdict in verdicts if verdict.outcome is Outcome.FAILED]
    if failed:
        return Assessment(Ruling.DENIED, verdicts, denial(failed))
    held = [verdict for verdict in verdicts if verdict.outcome is Outcome.HELD]
    if held:
        return Assessment(Ruling.HELD, verdicts, f"Held: {held[0].note}.")
    return Assessment(Ruling.APPROVED, verdicts, approval(intent, verdicts))


def denial(failed: list[Verdict]) -> str:
    """The first failed check in full, the others by name."""
    first = failed[0]
    opening = "Not sent" if first.reason is Reason.MIN_NOTIONAL else "Denied"
    others = ", ".join(CHECK_NAMES[verdict.reason] for verdict in failed[1:])
    return f"{opening}: {first.note}." + (f" Also failed: {others}." if others else "")


def approval(intent: Intent, verdicts: tuple[Verdict, ...]) -> str:
    """What was approved, and the check that came closest to denying it."""
    order = f"{intent.side} {number(intent.quantity)} {intent.symbol} at {number(intent.limit_price)} or better"
    measured = [(verdict.left, verdict.reason) for verdict in verdicts if verdict.left is not None]
    if intent.reducing or not measured:
        return f"Approved: {order}. An order that reduces is not limited in size."
    left, reason = min(measured, key=lambda pair: pair[0])
    return f"Approved: {order}. Closest: {CHECK_NAMES[reason]}, {percent_left(left)} left."
