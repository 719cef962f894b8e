"""Checks of who may trade and of how old and complete the inputs are."""

from __future__ import annotations

from decimal import Decimal

from apps.engine.risk.values import Intent, Limits, Outcome, Reason, TradingState, Verdict, View, share_left
from apps.engine.risk.words import seconds, seconds_up


def symbol(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: part of the session and open for trading. Reducing: what is held may always be closed."""
    if view.in_session and view.tradable:
        return Verdict(Reason.SYMBOL, Outcome.PASSED)
    where = "is not open for trading at the exchange" if view.in_session else "is not part of this session"
    outcome = Outcome.PASSED if intent.reducing else Outcome.FAILED
    return Verdict(Reason.SYMBOL, outcome, note=f"{intent.symbol} {where}", alert=intent.reducing)


def halted(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """HALTED denies everything, exits too."""
    if view.trading_state is TradingState.HALTED:
        return Verdict(Reason.HALTED, Outcome.FAILED, note=f"trading is halted {view.state_words}".strip())
    return Verdict(Reason.HALTED, Outcome.PASSED)


def reducing(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """REDUCING denies what opens and never what reduces."""
    if view.trading_state is TradingState.REDUCING and not intent.reducing:
        note = f"only reducing orders are allowed {view.state_words}".strip()
        return Verdict(Reason.REDUCING, Outcome.FAILED, note=note)
    return Verdict(Reason.REDUCING, Outcome.PASSED)


def _feed_is_fresh(view: View, limits: Limits) -> bool:
    return view.feed_age_ms is not None and view.feed_age_ms <= limits.feed_age_max_ms


def stale_feed(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: the connection that owns the symbol gave a sign of life lately. Reducing: held until it does."""
    limit = limits.feed_age_max_ms
    age = None if view.feed_age_ms is None else Decimal(view.feed_age_ms)
    if age is not None and _feed_is_fresh(view, limits):
        left = share_left(age, Decimal(limit))
        return Verdict(Reason.STALE_FEED, Outcome.PASSED, age, Decimal(limit), left=left)
    if view.feed_age_ms is None:
        note = f"the age of the feed is unknown: {view.feed_words} (limit {seconds(limit)})"
    else:
        note = f"the feed's last sign of life was {seconds_up(view.feed_age_ms)} old (limit {seconds(limit)})"
    outcome = Outcome.HELD if intent.reducing else Outcome.FAILED
    return Verdict(Reason.STALE_FEED, outcome, age, Decimal(limit), note, alert=intent.reducing)


def stale_signal(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: the signal reached risk in time. Reducing: late is better than never, but not on a stale feed."""
    age, limit = Decimal(view.signal_age_ms), Decimal(limits.signal_age_max_ms)
    if age <= limit:
        return Verdict(Reason.STALE_SIGNAL, Outcome.PASSED, age, limit, left=share_left(age, limit))
    words = f"{seconds_up(view.signal_age_ms)} old when it reached risk (limit {seconds(limits.signal_age_max_ms)})"
    if not intent.reducing:
        return Verdict(Reason.STALE_SIGNAL, Outcome.FAILED, age, limit, f"the signal was {words}")
    outcome = Outcome.PASSED if _feed_is_fresh(view, limits) else Outcome.HELD
    return Verdict(Reason.STALE_SIGNAL, outcome, age, limit, f"the exit was {words}", alert=True)


def data_gap(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: every minute of the signal's window is known. Reducing: not needed."""
    unproven = Decimal(view.unproven_minutes)
    if view.unproven_minutes == 0 or intent.reducing:
        return Verdict(Reason.DATA_GAP, Outcome.PASSED, unproven, Decimal(0))
    minutes = "minute" if view.unproven_minutes == 1 else "minutes"
    verb = "is" if view.unproven_minutes == 1 else "are"
    note = f"{view.unproven_minutes} {minutes} of the signal's window {verb} UNPROVEN ({view.unproven_reason})"
    return Verdict(Reason.DATA_GAP, Outcome.FAILED, unproven, Decimal(0), note)
