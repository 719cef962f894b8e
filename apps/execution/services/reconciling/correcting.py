"""Making both books agree: by the services that book everything else, and by a person where that is not enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from apps.engine.money import ZERO
from apps.engine.portfolio import Leg, LegKind
from apps.engine.reconciling import Correction
from apps.execution.models import Order
from apps.execution.reconciliation_models import ReconcileDifference, ReconcileRun
from apps.execution.selectors import venue_of
from apps.execution.services.asking import sync_order
from apps.execution.services.reconciling.books import look
from apps.execution.services.syncing import apply_report
from apps.execution.venues.base import Report, Venue, VenueStatus, VenueUnclear
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account
from apps.portfolio.services import CorrectionRefused, lock_account, post_correction, save_account
from apps.risk.models import RiskLimits

log = logging.getLogger(__name__)

State = ReconcileDifference.State
NAME_MAX: Final = 150
REASON_MAX: Final = 200
WATCHER: Final = "reconciliation"
RULE: Final = "rule: within the bound"


class DifferenceRefused(ValueError):
    """A decision on a difference that cannot be taken; one line for whoever asked."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Up to which size, in the account's currency, corrections are made without a person.

    `book`: asking the venue and booking its answer, ending an order here, cancelling one of ours there.
    `balance`: a correcting entry in the ledger.
    """

    book: Decimal
    balance: Decimal

    @classmethod
    def of(cls, limits: RiskLimits) -> Bounds:
        return cls(limits.reconcile_book_max, limits.reconcile_balance_max)

    def allow(self, row: ReconcileDifference) -> bool:
        """An order that nobody here knows is somebody's: only a person cancels it."""
        bounds = {
            Correction.ASK: self.book,
            Correction.END_HERE: self.book,
            Correction.CANCEL_AT_VENUE: ZERO if row.kind == "ORDER_UNKNOWN_TO_US" else self.book,
            Correction.LEDGER: self.balance,
        }
        bound = bounds.get(Correction(row.correction))
        return bound is not None and row.size is not None and bound > ZERO and row.size <= bound


def correct(row: ReconcileDifference, venue: Venue) -> None:
    """Do what the row proposes, through the normal services. Raises `DifferenceRefused` or `VenueUnclear`."""
    work = _WORK.get(Correction(row.correction))
    if work is None:
        raise DifferenceRefused(f"{row}: nothing can be booked from what is known; dismiss it with a reason")
    work(row, venue)
    log.warning("reconciliation: %s corrected (%s): ours %s, venue %s", row, row.correction, row.ours, row.venue)


def _order_of(row: ReconcileDifference) -> Order:
    order = Order.objects.filter(account=row.account, client_order_id=row.client_order_id).first()
    if order is None:
        raise DifferenceRefused(f"{row}: no order of this account is called {row.client_order_id}")
    return order


def _ask(row: ReconcileDifference, venue: Venue) -> None:
    sync_order(order_id=_order_of(row).pk, venue=venue)


def _end_here(row: ReconcileDifference, venue: Venue) -> None:
    order = _order_of(row)
    words = f"reconciliation: {venue.name} does not know it"
    report = Report(order.client_order_id, order.venue_order_id, VenueStatus.EXPIRED, words)
    apply_report(order_id=order.pk, report=report, fills=[])


def _cancel(row: ReconcileDifference, venue: Venue) -> None:
    venue.cancel(row.client_order_id)


def _ledger(row: ReconcileDifference, _venue: Venue) -> None:
    def write() -> None:
        account = lock_account(row.account_id)
        kind = LegKind.CASH if row.subject == account.currency else LegKind.ASSET
        legs = (Leg(kind, row.subject, row.amount), Leg(LegKind.VENUE, row.subject, -row.amount))
        words = f"difference {row.pk}: {row.ours} {row.subject} here, {row.venue} at the venue"
        post_correction(
            account=account, legs=legs, reason=words[:REASON_MAX], by=WATCHER, approved_by=row.decided_by or RULE
        )  # fmt: skip
        save_account(account)

    try:
        retry_tx(write)
    except CorrectionRefused as refused:
        raise DifferenceRefused(f"{row}: {refused}") from refused


_WORK: Final[dict[Correction, Callable[[ReconcileDifference, Venue], None]]] = {
    Correction.ASK: _ask,
    Correction.END_HERE: _end_here,
    Correction.CANCEL_AT_VENUE: _cancel,
    Correction.LEDGER: _ledger,
}


# --- what a person decides --------------------------------------------------------------------------------------------
def approve(
    *, difference_id: int, by: str, reason: str, now: datetime, venue: Venue | None = None
) -> ReconcileDifference:
    """Correct an open difference as a person approves, if at `now` (wall time) it is what that person saw.

    Raises `DifferenceRefused` or `VenueUnclear`.
    """
    row = _open(difference_id, by, reason)
    target = venue or venue_of(row.account.session)
    _still_there(row, target, now)
    if not _decide(row, State.APPROVED, by, reason, now):
        raise DifferenceRefused(f"difference {row.pk} was decided by somebody else just now")
    try:
        correct(row, target)
    except (DifferenceRefused, VenueUnclear):
        ReconcileDifference.objects.filter(pk=row.pk).update(
            state=State.OPEN, decided_at=None, decided_by="", reason=""
        )  # fmt: skip
        raise
    return row


def dismiss(*, difference_id: int, by: str, reason: str, now: datetime) -> ReconcileDifference:
    """A person says that this difference may stand as it is; if it changes it is a new one. `DifferenceRefused`."""
    row = _open(difference_id, by, reason)
    if not _decide(row, State.DISMISSED, by, reason, now):
        raise DifferenceRefused(f"difference {row.pk} was decided by somebody else just now")
    return row


def _open(difference_id: int, by: str, reason: str) -> ReconcileDifference:
    if not by.strip() or len(by) > NAME_MAX:
        raise DifferenceRefused(f"say who decides, in 1 to {NAME_MAX} characters")
    if not reason.strip() or len(reason) > REASON_MAX:
        raise DifferenceRefused(f"say why, in 1 to {REASON_MAX} characters")
    rows = ReconcileDifference.objects.select_related("account__session__epoch")
    row = rows.filter(pk=difference_id).first()
    if row is None:
        raise DifferenceRefused(f"there is no difference {difference_id}")
    if row.state != State.OPEN:
        raise DifferenceRefused(f"difference {row.pk} is not open: {row.get_state_display()}")
    return row


def _still_there(row: ReconcileDifference, venue: Venue, now: datetime) -> None:
    """What is approved must be what is there: looked at again, everything of it."""
    account = Account.objects.select_related("session__epoch").get(pk=row.account_id)
    looked = look(account=account, venue=venue, scope=ReconcileRun.Scope.ALL, now=now)
    if row.client_order_id in looked.left_out:
        raise DifferenceRefused(f"{row.client_order_id} has moved a moment ago: try again in a few seconds")
    seen = {one.key: one for one in looked.found}.get(row.key)
    if seen is None:
        raise DifferenceRefused(f"{row} is not there any more, or is hidden by another difference: nothing was done")
    if (seen.ours, seen.venue) != (row.ours, row.venue):
        raise DifferenceRefused(f"{row} has changed to ours {seen.ours}, venue {seen.venue}: look at it again")


def _decide(row: ReconcileDifference, state: State, by: str, reason: str, now: datetime) -> bool:
    """The decision, unless somebody else was faster."""
    row.state, row.decided_at, row.decided_by, row.reason = state, now, by, reason
    fields = {"state": state, "decided_at": now, "decided_by": by, "reason": reason}
    return bool(ReconcileDifference.objects.filter(pk=row.pk, state=State.OPEN).update(**fields))
