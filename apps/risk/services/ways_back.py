"""The way back from each cause of a trip: who may take it, and how it is seen whether the cause persists.

A cause that somebody else watches (reconciliation, heartbeats, the lease) persists until the watcher says that it is
gone (`trips.cause_gone`). The others are looked at when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from apps.engine.risk.words import plain
from apps.portfolio.models import Account
from apps.portfolio.selectors import read_book
from apps.risk.models import BreakerTrip, RiskState, TradingState, TripCause
from apps.risk.services.exposure import difference

DAY: Final = "day"
"""In the evidence of a day's loss: the trading day, ISO."""

Look = Callable[[BreakerTrip, Account], str]
"""Why the cause still holds, in words; empty if it is gone. Called under the account's lock."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """`by_itself`: cleared by the watchdog (or the watcher) as soon as the cause is gone; if not, a person resumes.

    `reduce_anyway`: exits may be let through although the cause persists, because it puts no figure of ours in doubt.
    """

    look: Look
    by_itself: bool
    words: str
    reduce_anyway: bool = False


def still_holds(trip: BreakerTrip, account: Account, to_state: TradingState) -> str:
    """Why this trip must not give way to `to_state`; empty if it may."""
    way = WAYS_BACK[TripCause(trip.cause)]
    if to_state != TradingState.ACTIVE and way.reduce_anyway:
        return ""
    return way.look(trip, account)


def clears_itself(trip: BreakerTrip) -> bool:
    """Whether nobody is asked once the cause is gone. What a rule HALTED for money's sake waits for a person."""
    way = WAYS_BACK[TripCause(trip.cause)]
    return way.by_itself and not (way.reduce_anyway and trip.to_state == TradingState.HALTED)


def _watched(trip: BreakerTrip, _account: Account) -> str:
    return "" if trip.gone_at is not None else f"{trip.cause} persists: {trip.reason}"


def _loss(trip: BreakerTrip, account: Account) -> str:
    """Gone on the next trading day, or once the watchdog has seen less lost than the limits allow, as they are now."""
    day = RiskState.objects.filter(account=account).values_list("day", flat=True).first()
    if trip.cause == TripCause.DAILY_LOSS and day is not None and day.isoformat() > trip.evidence.get(DAY, "9999"):
        return ""
    return _watched(trip, account)


def _books_differ(_trip: BreakerTrip, account: Account) -> str:
    state = RiskState.objects.filter(account=account).first()
    off = difference(state, read_book(account.pk)) if state else None
    return f"stored exposure is still off by {plain(off)}" if off else ""


def _cash(_trip: BreakerTrip, account: Account) -> str:
    return f"cash is still {plain(account.cash)}" if account.cash < 0 else ""


def _nothing(_trip: BreakerTrip, _account: Account) -> str:
    return ""


WAYS_BACK: Final[dict[TripCause, WayBack]] = {
    TripCause.DAILY_LOSS: WayBack(
        _loss, True, "by itself on the next trading day; from HALTED a person resumes", reduce_anyway=True
    ),
    TripCause.DRAWDOWN: WayBack(_loss, False, "a person, once the drawdown is below its limit", reduce_anyway=True),
    TripCause.ERROR_RATE: WayBack(_watched, False, "a person, once the share has fallen", reduce_anyway=True),
    TripCause.ORDER_FREQUENCY: WayBack(_watched, False, "a person, once orders are as rare as allowed", True),
    TripCause.STALE_FEED: WayBack(_watched, True, "by itself once the feed is fresh again"),
    TripCause.RECON: WayBack(_watched, True, "by itself once a reconciliation finds no difference"),
    TripCause.EXPOSURE_DIFFERENCE: WayBack(_books_differ, False, "a person, once stored and recomputed agree"),
    TripCause.EXPOSURE: WayBack(_watched, True, "by itself once exposure is at most its limit"),
    TripCause.NEGATIVE_CASH: WayBack(_cash, False, "a person, once cash is not negative"),
    TripCause.UNKNOWN_FILL: WayBack(_watched, False, "a person, once the fill has been adopted or refused"),
    TripCause.REPEAT: WayBack(_nothing, False, "a person, at any time"),
    TripCause.HEARTBEAT: WayBack(_watched, True, "by itself once the component is heard again"),
    TripCause.VERSION: WayBack(_watched, True, "by itself once all processes are of one version"),
    TripCause.LEASE: WayBack(_watched, True, "by itself once the lease is held again"),
}
