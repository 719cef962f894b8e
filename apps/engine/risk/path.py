"""Checks of those that an order needs on its way: the lease, the workers' code, their heartbeats, the venue's books.

What is unknown opens nothing. What is known to be wrong makes the state REDUCING at once; a reducing order passes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from apps.engine import timeouts
from apps.engine.risk.values import Intent, Limits, Outcome, Reason, TradingState, Verdict, View
from apps.engine.risk.words import seconds, seconds_up

LEASE_AGE_MAX_MS: Final = timeouts.LEASE_TTL_SECONDS * 1000


def lease(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: an ingest holds the feed's lease. Reducing: passes, and alerts if nobody does."""
    age, limit = view.path.lease_age_ms, LEASE_AGE_MAX_MS
    if age is None:
        words = f"the lease of the feed is unknown: {view.path.lease_words}"
    else:
        words = f"the lease of the feed was renewed {seconds_up(age)} ago (limit {seconds(limit)})"
    return _at_most(Reason.LEASE, intent, age, limit, words)


def version(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: every running worker has the code that decides. Reducing: passes, and alerts."""
    count, words = view.path.strangers, view.path.version_words
    unknown = f"the code of the running workers is unknown: {words}"
    return _at_most(Reason.VERSION, intent, count, 0, unknown if count is None else f"code of another version: {words}")


def heartbeat(intent: Intent, view: View, limits: Limits) -> Verdict:
    """Opening: every component was heard of lately. Reducing: passes, and alerts."""
    age, limit, who = view.path.heartbeat_age_ms, limits.heartbeat_age_max_ms, view.path.heartbeat_words
    if age is None:
        words = f"the heartbeats are unknown: {who}"
    else:
        words = f"{who or 'a component'} was last heard of {seconds_up(age)} ago (limit {seconds(limit)})"
    return _at_most(Reason.HEARTBEAT, intent, age, limit, words)


def recon(intent: Intent, view: View, limits: Limits) -> Verdict:  # noqa: ARG001
    """Opening: the last reconciliation found what we have. Reducing: passes, and alerts."""
    count, found = view.path.differences, view.path.recon_words
    if count is None:
        words = f"it is unknown whether the venue has what we have: {found}"
    else:
        words = f"the last reconciliation left {count} difference{'' if count == 1 else 's'}" + (
            f": {found}" * bool(found)
        )
    return _at_most(Reason.RECON, intent, count, 0, words)


def _at_most(reason: Reason, intent: Intent, value: int | None, limit: int, words: str) -> Verdict:
    if value is not None and value <= limit:
        return Verdict(reason, Outcome.PASSED, Decimal(value), Decimal(limit))
    outcome = Outcome.PASSED if intent.reducing else Outcome.FAILED
    known = None if value is None else Decimal(value)
    trip = None if value is None else TradingState.REDUCING
    return Verdict(reason, outcome, known, Decimal(limit), words, alert=intent.reducing, trip=trip)
