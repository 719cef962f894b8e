"""What trips or clears with time and prices and not with an order: looked at by the steward, once a second at most.

Each cause is found to hold (a `Finding`), to be gone, or to be unknown: what is unknown neither trips nor clears. The
looks are plain reads without a lock; only what has to change takes the account's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Final

from django.db.models.functions import Now

from apps.alerts.models import Alert
from apps.alerts.services import raise_alert, settle
from apps.bus.feed import FeedAge
from apps.engine.desk.book import MarkSet
from apps.engine.model import MINUTE_MS
from apps.engine.reconciling import Compared
from apps.engine.risk.days import trading_day
from apps.engine.risk.path import LEASE_AGE_MAX_MS
from apps.engine.risk.values import Limits, OrderPath
from apps.engine.risk.words import cents_up, percent_up, seconds_up
from apps.market.selectors import closed_minute
from apps.portfolio.models import Account
from apps.portfolio.selectors import closes_at, read_book
from apps.risk.models import BreakerTrip, RiskLimits, RiskState, Scope, TradingState, TripCause
from apps.risk.scopes import STRICTNESS, open_trips
from apps.risk.selectors import current_limits, limits_of, record_of, with_closes
from apps.risk.services.findings import (
    SILENT,
    Finding,
    Found,
    Outcomes,
    Worth,
    failing,
    frequency,
    judge_worth,
    stopped,
    worth_of,
)
from apps.risk.services.states import SYSTEM
from apps.risk.services.trips import cause_gone, clear_trips, trip_account
from apps.risk.services.ways_back import DAY, clears_itself

EXPOSURE_ALERT: Final = Decimal("0.9")
EXPOSURE_CALM: Final = Decimal("0.85")
"""Of the limit: where the warning is raised, and below which it is settled, so that it does not flicker between."""
BEGINNING_MS: Final = 60_000
"""How long (wall) after its own start the watchdog believes that others are still starting."""
LASTS: Final = timedelta(seconds=60)
ESCALATING: Final = frozenset({TripCause.HEARTBEAT, TripCause.VERSION, TripCause.LEASE, TripCause.RECON})


@dataclass
class Watchdog:
    """What it remembers is of the wall clock only; after a restart it waits as after the first start."""

    began_ms: int | None = None
    unknown_since_ms: int | None = None
    was_fresh: bool = False
    warned: set[int] = field(default_factory=set)
    amiss: set[tuple[int, TripCause]] = field(default_factory=set)

    def watch(
        self,
        accounts: Sequence[Account],
        *,
        now_ms: int,
        feed: FeedAge,
        path: OrderPath,
        outcomes: Callable[[Account, RiskLimits], Outcomes],
        compared: Callable[[Account, RiskLimits], Compared | None],
    ) -> None:
        """Look once at everything, for the accounts of one session. `feed` is the youngest of the session's symbols,
        `now_ms` the wall clock. The accounts come with their sessions."""
        self.began_ms = now_ms if self.began_ms is None else self.began_ms
        for account in accounts:
            state = RiskState.objects.filter(account=account).first()
            if state is None:
                continue  # HALTED already for everybody who looks
            row = current_limits(account.pk)
            limits = limits_of(row)
            world = self._feed(feed, now_ms, row) | self._path(path, now_ms, row)
            recon = self._recon(compared(account, row), now_ms)
            mine = failing(outcomes(account, row), row) | frequency(account, limits)
            worth, today = self._worth(account, state, limits)
            trips = open_trips(account.pk, Scope.ACCOUNT)
            act(account, world | recon | mine | worth, trips, today)
            if TripCause.RECON not in recon:
                compared_again(account, state, trips)
            escalate(account, trips)

    # --- what is looked at ----------------------------------------------------------------------------------------

    def _feed(self, feed: FeedAge, now_ms: int, limits: RiskLimits) -> Found:
        """STALE_FEED: no symbol's feed gave a sign of life, or none whose age is known, for the limit."""
        limit = limits.feed_silence_max_ms
        if feed.age_ms is None:
            self.unknown_since_ms = now_ms if self.unknown_since_ms is None else self.unknown_since_ms
            age_ms = now_ms - self.unknown_since_ms
        else:
            self.unknown_since_ms, age_ms = None, feed.age_ms
            if age_ms <= limit:
                self.was_fresh = True
                return {TripCause.STALE_FEED: None}
        if age_ms < limit or (not self.was_fresh and self._is_beginning(now_ms)):
            return {}
        words = feed.words or f"the last sign of life was {seconds_up(age_ms)} ago"
        evidence = {"age_ms": str(age_ms), "limit_ms": str(limit), "words": feed.words}
        return {TripCause.STALE_FEED: Finding(TradingState.REDUCING, evidence, f"no feed of any symbol: {words}")}

    def _path(self, path: OrderPath, now_ms: int, limits: RiskLimits) -> Found:
        """LEASE, VERSION and HEARTBEAT: known to be wrong at two looks, and not only because all are just starting."""
        figures = {
            TripCause.LEASE: (path.lease_age_ms, LEASE_AGE_MAX_MS, path.lease_words or "the lease is not renewed"),
            TripCause.VERSION: (path.strangers, 0, f"code of another version: {path.version_words}"),
            TripCause.HEARTBEAT: (
                path.heartbeat_age_ms, limits.heartbeat_age_max_ms, f"{path.heartbeat_words} is silent",
            ),
        }  # fmt: skip
        found: Found = {}
        for cause, (value, limit, words) in figures.items():
            at_the_last_look = (limits.account_id, cause) in self.amiss
            self.amiss.discard((limits.account_id, cause))
            if value is None:
                continue
            if value <= limit:
                found[cause] = None
                continue
            self.amiss.add((limits.account_id, cause))
            if at_the_last_look and not self._is_beginning(now_ms):
                evidence = {"value": str(value), "limit": str(limit), "words": words}
                found[cause] = Finding(TradingState.REDUCING, evidence, f"{words} ({value}, limit {limit})")
        return found

    def _recon(self, compared: Compared | None, now_ms: int) -> Found:
        """RECON: nobody compares our books with the venue's any more."""
        return {} if self._is_beginning(now_ms) else stopped(compared, now_ms)

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
        today = trading_day((minute + 1) * MINUTE_MS, limits.trading_day_zone)
        record = record_of(state).moved_on(today.day, worth.equity)
        record = with_closes(record, account.pk, today.first_ms // MINUTE_MS)
        self._warn(account, worth, limits)
        return judge_worth(worth, record, limits), today.day.isoformat()

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


def compared_again(account: Account, state: RiskState, trips: Sequence[BreakerTrip]) -> None:
    """Reconciliation that had stopped goes on and knows of no difference: it does not halt any more, and a person may
    resume. By itself it is over with the first clean run: one that compared nothing has shown nothing."""
    mine = [row for row in trips if row.cause == TripCause.RECON]
    if any(SILENT not in row.evidence for row in mine) or all(row.gone_at is not None for row in mine):
        return
    if state.recon_differences == 0:
        words = "the venue is compared with again"
        cause_gone(account_id=account.pk, cause=TripCause.RECON, words=words, keep=True)


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
