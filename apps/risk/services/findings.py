"""What the watchdog judges: figures in, findings out. Only how often openings were asked for is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from apps.engine.desk.book import Book
from apps.engine.model import MINUTE_MS
from apps.engine.money import ZERO, exact, total
from apps.engine.reconciling import Compared
from apps.engine.risk.values import EquityRecord, Limits, fraction_of
from apps.engine.risk.words import cents_down, cents_up, percent_up, plain, seconds, seconds_up
from apps.portfolio.models import Account
from apps.risk.models import RiskDecision, RiskLimits, TradingState, TripCause
from apps.risk.services.ways_back import DAY
from apps.signals.models import Signal

DECISIONS_SEEN: Final = 200
SILENT: Final = "silent_ms"
"""In the evidence of a trip for reconciliation that stopped: for how long."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the orders sent within the limits' window: how many, and how many were rejected or lost."""

    sent: int
    failed: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause holds: how strict, on which figures, in which words."""

    to_state: TradingState
    evidence: dict[str, str]
    reason: str


Found = dict[TripCause, Finding | None]
"""None: the cause is gone. A cause that is not named: unknown."""


@dataclass(frozen=True, slots=True)
class Worth:
    """An account at the closes of one minute, in its currency. Exposure is gross, reservations included."""

    equity: Decimal
    exposure: Decimal

    @exact
    def used(self, limits: Limits) -> Decimal:
        """The share of the exposure limit that is used; without equity a position uses all of it and more."""
        limit = fraction_of(limits.exposure_max, self.equity)
        return self.exposure / limit if limit > 0 else Decimal(2) if self.exposure > 0 else ZERO


@exact
def worth_of(cash: Decimal, book: Book, prices: Mapping[str, Decimal]) -> Worth | None:
    """None if something that is held has no price: then nobody knows."""
    value, unvalued = book.worth(prices)
    return None if unvalued else Worth(total([cash, value]), total([value, book.promised()]))


@exact
def judge_worth(worth: Worth, record: EquityRecord, limits: Limits) -> Found:
    """DAILY_LOSS and DRAWDOWN (reaching a limit breaks it, as in the decision's checks); EXPOSURE above its limit."""
    used, limit = worth.used(limits), fraction_of(limits.exposure_max, worth.equity)
    over = Finding(
        TradingState.REDUCING,
        {"exposure": plain(worth.exposure), "limit": plain(limit)},
        f"exposure is {cents_up(worth.exposure)} of {cents_down(limit)} after prices moved",
    )
    day = "" if record.day is None else record.day.isoformat()
    return {
        TripCause.DAILY_LOSS: _lost(
            "the day's loss", worth, record.day_start, (limits.day_loss_reducing, limits.day_loss_halted), day
        ),
        TripCause.DRAWDOWN: _lost(
            "the drawdown", worth, record.peak, (limits.drawdown_reducing, limits.drawdown_halted), ""
        ),
        TripCause.EXPOSURE: over if used > 1 else None,
    }


def _lost(name: str, worth: Worth, since: Decimal | None, at: tuple[Decimal, Decimal], day: str) -> Finding | None:
    if since is None or since <= 0:
        return None
    loss = max(since - worth.equity, ZERO)
    reducing, halted = (fraction_of(fraction, since) for fraction in at)
    if loss < reducing:
        return None
    evidence = {"loss": plain(loss), "limit": plain(reducing), "since": plain(since), "equity": plain(worth.equity)}
    return Finding(
        TradingState.HALTED if loss >= halted else TradingState.REDUCING,
        {**evidence, DAY: day} if day else evidence,
        f"{name} is {cents_up(loss)} of {cents_down(since)} ({percent_up(loss / since)})",
    )


@exact
def failing(outcomes: Outcomes, limits: RiskLimits) -> Found:
    """ERROR_RATE: of the orders sent lately, more than the limit's share were rejected or got no clear answer."""
    share = limits.error_rate_max
    if outcomes.sent < limits.error_rate_orders_min or outcomes.failed <= share * outcomes.sent:
        return {TripCause.ERROR_RATE: None}
    evidence = {"sent": str(outcomes.sent), "failed": str(outcomes.failed), "limit": plain(share)}
    within = seconds(limits.error_rate_window_ms)
    reason = f"{outcomes.failed} of {outcomes.sent} orders were rejected or lost within {within}"
    return {TripCause.ERROR_RATE: Finding(TradingState.REDUCING, evidence, reason)}


def frequency(account: Account, limits: Limits) -> Found:
    """ORDER_FREQUENCY: somebody asks for more openings within a minute of event time than may be approved in one."""
    rows = RiskDecision.objects.filter(account=account).order_by("-id")
    asked = [
        ts
        for ts, verdict, reasons, kind in rows.values_list("ts_event", "verdict", "reasons", "signal__kind")[
            :DECISIONS_SEEN
        ]
        if kind == Signal.Kind.ENTRY and (verdict == RiskDecision.Verdict.APPROVED or "THROTTLE" in reasons)
    ]
    count = sum(ts > max(asked, default=0) - MINUTE_MS for ts in asked)
    if count <= limits.orders_per_minute_max:
        return {TripCause.ORDER_FREQUENCY: None}
    evidence = {"asked": str(count), "limit": str(limits.orders_per_minute_max)}
    reason = f"{count} openings were asked for within a minute (limit {limits.orders_per_minute_max})"
    return {TripCause.ORDER_FREQUENCY: Finding(TradingState.REDUCING, evidence, reason)}


def stopped(compared: Compared | None, now_ms: int) -> Found:
    """RECON: the venue was not compared with for longer than the limits say. None: an account that has no venue.

    It is never gone by being compared again: the way back is a run without a difference, which clears it itself.
    """
    late = None if compared is None else compared.late(now_ms)
    if late is None:
        return {}
    evidence = {SILENT: str(late.age_ms), "limit_ms": str(late.limit_ms), "compared": late.what}
    ago = f"{seconds_up(late.age_ms)} (limit {seconds(late.limit_ms)})"
    reason = f"{late.what} were not compared with the venue's for {ago}"
    return {TripCause.RECON: Finding(TradingState.REDUCING, evidence, reason)}
