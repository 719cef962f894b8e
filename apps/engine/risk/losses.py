"""Checks of what was lost: since the trading day began, and since the account was worth most."""

from __future__ import annotations

from decimal import Decimal

from apps.engine.money import ZERO, exact
from apps.engine.risk.values import (
    Intent,
    Limits,
    Outcome,
    Reason,
    TradingState,
    Verdict,
    View,
    fraction_of,
    share_left,
)
from apps.engine.risk.words import cents_down, cents_up, percent_up


def loss_limit(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: the day's loss is below the limit; at it the state is REDUCING, at the next HALTED. Reducing: passes."""
    return _lost(
        Reason.LOSS_LIMIT, intent, view, since=view.day_start_equity, what=("the day's loss", "the day began with"),
        reducing=limits.day_loss_reducing, halted=limits.day_loss_halted,
    )  # fmt: skip


def drawdown(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: less than the limit below the highest equity; states as for the day's loss. Reducing: passes."""
    return _lost(
        Reason.DRAWDOWN, intent, view, since=view.peak_equity, what=("the drawdown", "it was worth most"),
        reducing=limits.drawdown_reducing, halted=limits.drawdown_halted,
    )  # fmt: skip


@exact
def _lost(
    reason: Reason,
    intent: Intent,
    view: View,
    *,
    since: Decimal | None,
    what: tuple[str, str],
    reducing: Decimal,
    halted: Decimal,
) -> Verdict:
    """What is lost of `since`, in money. Reaching a limit breaks it."""
    name, began = what
    if since is None or since <= 0 or view.unvalued:
        why = f"no price of {', '.join(view.unvalued)} is known" if view.unvalued else f"not known what {began}"
        outcome = Outcome.PASSED if intent.reducing else Outcome.FAILED
        return Verdict(reason, outcome, None, None, f"{name} is unknown: {why}", alert=intent.reducing)
    loss, limit = max(since - view.equity, ZERO), fraction_of(reducing, since)
    if loss < limit:
        left = None if intent.reducing else share_left(loss, limit)
        return Verdict(reason, Outcome.PASSED, loss, limit, left=left)
    trip = TradingState.HALTED if loss >= fraction_of(halted, since) else TradingState.REDUCING
    note = (
        f"{name} is {cents_up(loss)} of {cents_down(limit)} {view.currency}, "
        f"{percent_up(reducing)} of the {cents_down(since)} that {began}"
    )
    outcome = Outcome.PASSED if intent.reducing else Outcome.FAILED
    return Verdict(reason, outcome, loss, limit, note, alert=intent.reducing, trip=trip)
