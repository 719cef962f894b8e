"""One reconciliation: look, look again at what is new, keep what lasts, correct what is small, stop for the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from apps.engine import timeouts
from apps.engine.money import to_money
from apps.engine.reconciling import Difference, Kind
from apps.execution.reconciliation_models import ReconcileDifference, ReconcileRun
from apps.execution.selectors import venue_of
from apps.execution.services.reconciling.books import WORDS_MAX, Look, look
from apps.execution.services.reconciling.correcting import Bounds, DifferenceRefused, correct
from apps.execution.venues.base import Venue, VenueUnclear
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.risk.models import TradingState, TripCause
from apps.risk.selectors import current_limits
from apps.risk.services import trips
from apps.risk.services.path import note_reconciliation

log = logging.getLogger(__name__)

Outcome = ReconcileRun.Outcome
Scope = ReconcileRun.Scope
State = ReconcileDifference.State
BY_ITSELF: Final = "system"
KEEP_DAYS: Final = 7
Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A look, and since when (wall ms) each of its differences is seen, by key."""

    look: Look
    since: dict[str, int]
    at_ms: int

    def lasting(self) -> list[Difference]:
        limit = self.at_ms - timeouts.RECONCILE_IN_FLIGHT_MS
        return [one for one in self.look.found if self.since[one.key] <= limit]

    def suspects(self) -> dict[str, Any]:
        return {one.key: [self.since[one.key], one.ours, one.venue] for one in self.look.found}


def reconcile(
    *,
    account_id: int,
    scope: str,
    clock: Clock,
    bounds: Bounds | None = None,
    venue: Venue | None = None,
    wait: Callable[[float], None] | None = None,
) -> ReconcileRun:
    """Compare our books with the venue's (the session's unless given), and do what follows from it.

    Up to `bounds` (those of the account's limits unless given) what differs is corrected without a person.
    `clock` tells wall ms. What is seen for the first time is no difference yet: the next run looks again, and so does
    this one if it may `wait` (seconds).
    """
    account = Account.objects.select_related("session__epoch").get(pk=account_id)
    target = venue or venue_of(account.session)
    started = clock()
    before = _suspects_of_the_last(account, scope)
    try:
        seen = _look(account, target, scope, clock(), before)
        if wait is not None and len(seen.lasting()) < len(seen.look.found):
            wait((timeouts.RECONCILE_IN_FLIGHT_MS + 100) / 1000)
            seen = _look(account, target, scope, clock(), seen.suspects())
    except VenueUnclear as error:
        log.warning("reconciliation of account %d: no clear answer from %s: %s", account_id, target.name, error)
        return _unclear(account, scope, started, clock(), before, str(error))
    run = _store(account, scope, started, seen)
    corrected = _correct_small(account, target, bounds or Bounds.of(current_limits(account_id)))
    return _conclude(run, seen, corrected, clock())


def _look(account: Account, venue: Venue, scope: str, at_ms: int, before: dict[str, Any]) -> _Seen:
    found = look(account=account, venue=venue, scope=scope, now=_moment(at_ms))
    since = {}
    for one in found.found:
        known = before.get(one.key)
        since[one.key] = known[0] if known and known[1:] == [one.ours, one.venue] else at_ms
    return _Seen(found, since, at_ms)


def _suspects_of_the_last(account: Account, scope: str) -> dict[str, Any]:
    last = ReconcileRun.objects.filter(account=account, scope=scope).order_by("-id").first()
    return {} if last is None else dict(last.suspects)


def _unclear(
    account: Account, scope: str, started: int, ended: int, suspects: dict[str, Any], words: str
) -> ReconcileRun:
    return ReconcileRun.objects.create(
        account=account,
        scope=scope,
        started_at=_moment(started),
        finished_at=_moment(ended),
        outcome=Outcome.UNCLEAR,
        suspects=suspects,
        differences=_open(account).count(),
        detail=words[:200],
    )


def _store(account: Account, scope: str, started: int, seen: _Seen) -> ReconcileRun:
    """The run, a row for each difference that lasts, and an end for each that does not any more."""

    def write() -> ReconcileRun:
        run = ReconcileRun.objects.create(
            account=account,
            scope=scope,
            started_at=_moment(started),
            finished_at=_moment(seen.at_ms),
            outcome=Outcome.CLEAN,
            compared=seen.look.compared,
            suspects=seen.suspects(),
        )
        for one in seen.lasting():
            _note(run, one, seen.since[one.key])
        present = {one.key for one in seen.look.found}
        for row in _open(account):
            if row.key not in present and _was_examined(row, seen.look):
                _resolve(row, seen.at_ms)
        _forget_old(account, seen.at_ms)
        return run

    return retry_tx(write)


def _forget_old(account: Account, at_ms: int) -> None:
    """One row every 10 s adds up: runs that showed no difference are kept for a week."""
    before = _moment(at_ms) - timedelta(days=KEEP_DAYS)
    old = ReconcileRun.objects.filter(account=account, started_at__lt=before, found__isnull=True)
    old.exclude(outcome=Outcome.DIFFERENT).delete()


def _open(account: Account) -> Any:
    return ReconcileDifference.objects.filter(account=account, state=State.OPEN).order_by("id")


def _note(run: ReconcileRun, one: Difference, since_ms: int) -> None:
    values = {
        "client_order_id": one.client_order_id[:64],
        "ours": one.ours[:WORDS_MAX],
        "venue": one.venue[:WORDS_MAX],
        "correction": one.correction.value,
        "amount": to_money(one.amount),
        "size": _storable(one.size),
        "detail": one.detail[:200],
    }
    row, is_new = ReconcileDifference.objects.get_or_create(
        account=run.account,
        kind=one.kind.value,
        subject=one.subject[:80],
        state=State.OPEN,
        defaults={**values, "run": run, "found_at": _moment(since_ms)},
    )
    if is_new:
        log.warning("reconciliation: %s: ours %s, venue %s", row, row.ours, row.venue)
    elif (row.ours, row.venue) != (values["ours"], values["venue"]):
        ReconcileDifference.objects.filter(pk=row.pk).update(**values)


def _storable(size: Decimal) -> Decimal | None:
    return to_money(size) if size.is_finite() else None


def _was_examined(row: ReconcileDifference, seen: Look) -> bool:
    """Whether this look would have found it: an order under way hides it, and so does a balance not compared."""
    if row.kind == Kind.BALANCE:
        return seen.balances
    return row.client_order_id not in seen.left_out


def _resolve(row: ReconcileDifference, at_ms: int) -> None:
    row.state, row.decided_at, row.decided_by = State.RESOLVED, _moment(at_ms), BY_ITSELF
    row.reason = "no longer differs"
    row.save(update_fields=["state", "decided_at", "decided_by", "reason"])


def _correct_small(account: Account, venue: Venue, bounds: Bounds) -> int:
    """Correct what needs no person. What the venue does not answer to stays open."""
    done = 0
    for row in _open(account).select_related("account"):
        if not bounds.allow(row):
            continue
        try:
            correct(row, venue)
        except (DifferenceRefused, VenueUnclear) as error:
            log.warning("reconciliation: %s could not be corrected: %s", row, error)
            ReconcileDifference.objects.filter(pk=row.pk).update(detail=str(error)[:200])
            continue
        row.state, row.decided_by = State.APPLIED, BY_ITSELF
        row.reason = f"within the bound: {row.correction}"
        row.decided_at = _moment(int(row.run.finished_at.timestamp() * 1000))
        row.save(update_fields=["state", "decided_at", "decided_by", "reason"])
        done += 1
    return done


def _conclude(run: ReconcileRun, seen: _Seen, corrected: int, at_ms: int) -> ReconcileRun:
    """What the run came to, and the trading state that follows."""
    left = list(_open(run.account))
    run.differences, run.corrected, run.finished_at = len(left), corrected, _moment(at_ms)
    if left or corrected:
        run.outcome = Outcome.DIFFERENT
    elif not run.compared_in_all:
        run.outcome, run.detail = Outcome.EMPTY, "compared 0: nothing was open, so nothing is shown"
    run.save(update_fields=["differences", "corrected", "finished_at", "outcome", "detail"])
    note_reconciliation(account_id=run.account_id, differences=len(left), words=str(left[0]) if left else "")
    if left:
        _stop(run, left, at_ms)
    elif run.outcome == Outcome.CLEAN and not seen.look.found:
        words = f"reconciliation {run.pk} compared {run.compared_in_all} and found no difference"
        trips.cause_gone(account_id=run.account_id, cause=TripCause.RECON, words=words)
    return run


def _stop(run: ReconcileRun, left: list[ReconcileDifference], at_ms: int) -> None:
    """REDUCING at once, so that positions stay protected; HALTED once it has lasted."""
    oldest = min(row.found_at for row in left)
    lasted = _moment(at_ms) - oldest >= timedelta(seconds=timeouts.RECONCILE_HALT_SECONDS)
    first = left[0]
    reason = f"{len(left)} reconciliation differences, first: {first}: ours {first.ours}, venue {first.venue}"
    evidence = {"run": str(run.pk), "differences": ", ".join(str(row.pk) for row in left[:20])}
    trips.trip_account(
        account_id=run.account_id,
        cause=TripCause.RECON,
        evidence={**evidence, "since": oldest.isoformat()},
        reason=reason[:200],
        to_state=TradingState.HALTED if lasted else TradingState.REDUCING,
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
