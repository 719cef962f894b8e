"""What trips or clears with time and prices and not with an order: looked at by the steward, once a second at most.

Each cause is found to hold (a `Finding`), to be gone, or to be unknown: what is unknown neither trips nor clears. The
looks are plain reads without a lock; only what has to change takes the account's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.db.models.functions import Now

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert, settle
from apps.bus.feed import FeedAge
from apps.engine import timeouts
from apps.engine.desk.book import Book, MarkSet
from apps.engine.model import MINUTE_MS
from apps.engine.money import ZERO, exact, total
from apps.engine.risk.days import trading_day
from apps.engine.risk.path import LEASE_AGE_MAX_MS
from apps.engine.risk.values import EquityRecord, Limits, OrderPath, fraction_of
from apps.engine.risk.words import cents_down, cents_up, percent_up, plain, seconds_up
from apps.market.selectors import closed_minute
from apps.portfolio.models import Account
from apps.portfolio.selectors import closes_at, read_book
from apps.risk.models import BreakerTrip, RiskDecision, RiskState, Scope, TradingState, TripCause
from apps.risk.scopes import STRICTNESS, open_trips
from apps.risk.selectors import current_limits, limits_of, record_of
from apps.risk.services.states import SYSTEM
from apps.risk.services.trips import cause_gone, clear_trips, trip_account
from apps.risk.services.ways_back import DAY, clears_itself
from apps.signals.models import Signal

EXPOSURE_ALERT: Final = Decimal("0.9")
EXPOSURE_CALM: Final = Decimal("0.85")
"""Of the limit: where the warning is raised, and below which it is settled, so that it does not flicker between."""
ERROR_RATE_MAX: Final = Decimal("0.10")
ERROR_RATE_ORDERS_MIN: Final = 10
ERROR_RATE_WINDOW: Final = timedelta(minutes=10)
"""Wall time: a venue that refuses or does not answer does so now, at whatever speed the market is replayed."""
STALE_LASTS_MS: Final = 10_000
BEGINNING_MS: Final = 60_000
"""How long (wall) after its own start the watchdog believes that others are still starting."""
LASTS: Final = timedelta(seconds=60)
ESCALATING: Final = frozenset({TripCause.HEARTBEAT, TripCause.VERSION, TripCause.LEASE, TripCause.RECON})
DECISIONS_SEEN: Final = 200


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the orders sent within `ERROR_RATE_WINDOW`: how many, and how many were rejected or lost."""

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


@dataclass
class Watchdog:
    """What it remembers is of the wall clock only; after a restart it waits as after the first start."""

    began_ms: int | None = None
    stale_since_ms: int | None = None
    was_fresh: bool = False
    warned: set[int] = field(default_factory=set)
    amiss: set[TripCause] = field(default_factory=set)

    def watch(
        self,
        accounts: Sequence[Account],
        *,
        now_ms: int,
        feed: FeedAge,
        path: OrderPath,
        outcomes: Callable[[Account], Outcomes],
    ) -> None:
        """Look once at everything, for the accounts of one session. `feed` is the youngest of the session's symbols,
        `now_ms` the wall clock. The accounts come with their sessions."""
        self.began_ms = now_ms if self.began_ms is None else self.began_ms
        world: Found = self._feed(feed, now_ms) | self._path(path, now_ms)
        for account in accounts:
            state = RiskState.objects.filter(account=account).first()
            if state is None:
                continue  # HALTED already for everybody who looks
            limits = limits_of(current_limits(account.pk))
            mine = _failing(outcomes(account)) | _frequency(account, limits)
            worth, today = self._worth(account, state, limits)
            trips = open_trips(account.pk, Scope.ACCOUNT)
            act(account, world | mine | worth, trips, today)
            escalate(account, trips)

    # --- what is looked at ----------------------------------------------------------------------------------------

    def _feed(self, feed: FeedAge, now_ms: int) -> Found:
        """STALE_FEED: no symbol's feed has been fresh for `STALE_LASTS_MS`."""
        if feed.age_ms is not None and feed.age_ms <= STALE_LASTS_MS:
            self.was_fresh, self.stale_since_ms = True, None
            return {TripCause.STALE_FEED: None}
        self.stale_since_ms = now_ms if self.stale_since_ms is None else self.stale_since_ms
        age_ms = max(now_ms - self.stale_since_ms, feed.age_ms or 0)
        if age_ms < STALE_LASTS_MS or (not self.was_fresh and self._is_beginning(now_ms)):
            return {}
        words = feed.words or f"the last sign of life was {seconds_up(age_ms)} ago"
        evidence = {"age_ms": str(age_ms), "limit_ms": str(STALE_LASTS_MS), "words": feed.words}
        return {TripCause.STALE_FEED: Finding(TradingState.REDUCING, evidence, f"no feed of any symbol: {words}")}

    def _path(self, path: OrderPath, now_ms: int) -> Found:
        """LEASE, VERSION and HEARTBEAT: known to be wrong at two looks, and not only because all are just starting."""
        figures = {
            TripCause.LEASE: (path.lease_age_ms, LEASE_AGE_MAX_MS, path.lease_words or "the lease is not renewed"),
            TripCause.VERSION: (path.strangers, 0, f"code of another version: {path.version_words}"),
            TripCause.HEARTBEAT: (
                path.heartbeat_age_ms, timeouts.HEARTBEAT_AGE_MAX_MS, f"{path.heartbeat_words} is silent",
            ),
        }  # fmt: skip
        found: Found = {}
        amiss = set()
        for cause, (value, limit, words) in figures.items():
            if value is None:
                continue
            if value <= limit:
                found[cause] = None
                continue
            amiss.add(cause)
            if cause in self.amiss and not self._is_beginning(now_ms):
                evidence = {"value": str(value), "limit": str(limit), "words": words}
                found[cause] = Finding(TradingState.REDUCING, evidence, f"{words} ({value}, limit {limit})")
        self.amiss = amiss
        return found

    def _worth(self, account: Account, state: RiskState, limits: Limits) -> tuple[Found, str]:
        """DAILY_LOSS, DRAWDOWN and EXPOSURE at the closes of the last minute that all shards have closed, and the
        trading day of that (ISO, empty if unknown)."""
        minute = closed_minute(epoch_id=account.session.epoch_id)
        if minute is None:
            return {}, ""
        book = read_book(account.pk)
        marks = MarkSet(minute, closes_at(epoch_id=account.session.epoch_id, minute=minute))
        prices = marks.narrowed(book.symbols, MarkSet.from_json(state.marks)).prices
        worth = worth_of(account.cash, book, prices)
        if worth is None:
            return {}, ""
        day = trading_day((minute + 1) * MINUTE_MS, limits.trading_day_zone).day
        record = record_of(state).moved_on(day, worth.equity)
        self._warn(account, worth, limits)
        return judge_worth(worth, record, limits), day.isoformat()

    def _warn(self, account: Account, worth: Worth, limits: Limits) -> None:
        used, subject = worth.used(limits), f"exposure of {account}"
        if used >= EXPOSURE_ALERT and account.pk not in self.warned:
            self.warned.add(account.pk)
            words = f"exposure is {cents_up(worth.exposure)}, {percent_up(used)} of its limit"
            raise_alert(
                kind=Alert.Kind.EXPOSURE_NEAR_LIMIT, severity=Alert.Severity.WARNING, subject=subject, words=words,
                session_id=account.session_id,
            )  # fmt: skip
        elif used < EXPOSURE_CALM and account.pk in self.warned:
            self.warned.discard(account.pk)
            settle(kind=Alert.Kind.EXPOSURE_NEAR_LIMIT, subject=subject, by=SYSTEM, reason="exposure has fallen")

    def _is_beginning(self, now_ms: int) -> bool:
        return self.began_ms is None or now_ms - self.began_ms < BEGINNING_MS


# --- judging ----------------------------------------------------------------------------------------------------------


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
def _failing(outcomes: Outcomes) -> Found:
    """ERROR_RATE: of the orders sent lately, more than a tenth were rejected or got no clear answer."""
    if outcomes.sent < ERROR_RATE_ORDERS_MIN or outcomes.failed <= ERROR_RATE_MAX * outcomes.sent:
        return {TripCause.ERROR_RATE: None}
    evidence = {"sent": str(outcomes.sent), "failed": str(outcomes.failed), "limit": plain(ERROR_RATE_MAX)}
    reason = f"{outcomes.failed} of {outcomes.sent} orders were rejected or lost within ten minutes"
    return {TripCause.ERROR_RATE: Finding(TradingState.REDUCING, evidence, reason)}


def _frequency(account: Account, limits: Limits) -> Found:
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


# --- acting -----------------------------------------------------------------------------------------------------------


def act(account: Account, found: Found, trips: Sequence[BreakerTrip], today: str) -> None:
    """Trip what holds and is not held yet, and let go what is gone. `trips` are the open ones of the account.

    A day's loss that became smaller on its day may be resumed by a person; by itself it is over with the day (`today`).
    """
    for cause, finding in found.items():
        mine = [row for row in trips if row.cause == cause]
        if finding is None:
            of_today = cause == TripCause.DAILY_LOSS and any(row.evidence.get(DAY, "") >= today for row in mine)
            if any(row.gone_at is None or (clears_itself(row) and not of_today) for row in mine):
                cause_gone(account_id=account.pk, cause=cause, words=f"{cause} is gone", keep=of_today)
        elif not any(row.gone_at is None and STRICTNESS[row.to_state] >= STRICTNESS[finding.to_state] for row in mine):
            trip_account(
                account_id=account.pk, cause=cause, evidence=finding.evidence, reason=finding.reason,
                to_state=finding.to_state,
            )  # fmt: skip


def exposure_fell(account: Account, state: RiskState) -> None:
    """After a fill, under the account's lock: what was REDUCING for exposure alone opens again at once, not a look
    later. The caller saves the account."""
    if not any(row.cause == TripCause.EXPOSURE for row in open_trips(account.pk, Scope.ACCOUNT)):
        return
    worth = worth_of(account.cash, read_book(account.pk), MarkSet.from_json(state.marks).prices)
    if worth is not None and worth.used(limits_of(current_limits(account.pk))) <= 1:
        clear_trips(account=account, state=state, cause=TripCause.EXPOSURE, words="exposure has fallen with a fill")


def escalate(account: Account, trips: Sequence[BreakerTrip]) -> None:
    """What takes away the trust in the order path and lasts for a minute: HALTED."""
    old = BreakerTrip.objects.filter(
        pk__in=[row.pk for row in trips if row.cause in ESCALATING and row.to_state != TradingState.HALTED],
        gone_at=None,
        created_at__lt=Now() - LASTS,
    )
    for row in old:
        trip_account(
            account_id=account.pk, cause=TripCause(row.cause), evidence=row.evidence,
            reason=f"for a minute: {row.reason}", to_state=TradingState.HALTED,
        )  # fmt: skip
