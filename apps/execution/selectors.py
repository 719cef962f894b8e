"""Reads of orders, and which venue a session trades at."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from django.db.models import QuerySet, Sum

from apps.bus.streams import entry_order
from apps.engine.reconciling import Compared
from apps.execution.models import DatabaseIncarnation, ReconcileDifference, ReconcileRun, TradingStart, VenueOrder
from apps.execution.venues.base import Venue
from apps.execution.venues.exchange import venue_for
from apps.execution.venues.paper import PaperVenue
from apps.portfolio.models import Account, LedgerEntry, TradingSession
from apps.risk.models import RiskLimits

RUNS_SEEN: Final = 50
PAPER: Final = "paper"
EXCHANGE: Final = "exchange"
"""Kinds of venue, as `config["venue"]["kind"]` of a session has them."""


class NoVenue(LookupError):
    """A session whose mode, or the venue that it names, has none in this build."""


def venue_kind(session: TradingSession) -> str:
    """Which venue the session was begun with; sessions from before there were two trade on paper."""
    return str(session.config.get("venue", {}).get("kind", PAPER))


def venue_of(session: TradingSession) -> Venue:
    """The venue of a session with test money: our own books, or the local exchange. Raises `NoVenue`, or what the
    venue raises for settings, addresses and keys that it does not use."""
    if session.mode != TradingSession.Mode.PAPER:
        raise NoVenue(f"{session.mode} sessions have no venue")
    kind = venue_kind(session)
    if kind == PAPER:
        settings = session.config.get("paper", {})
        return PaperVenue(settings, owner=f"session:{session.pk}", deposits=lambda: deposits_of(session))
    if kind == EXCHANGE:
        return venue_for(session)
    raise NoVenue(f"no venue is called {kind[:40]!r} (known: {PAPER}, {EXCHANGE})")


def deposits_of(session: TradingSession) -> dict[str, Decimal]:
    """What was paid into the session's accounts, by currency."""
    legs = LedgerEntry.objects.filter(account__session=session, kind=LedgerEntry.Kind.CAPITAL)
    return {currency: -paid for currency, paid in legs.values_list("currency").annotate(sum=Sum("amount"))}


def oldest_needed_entry(*, epoch: int, shard: int) -> str | None:
    """The oldest trigger of an open paper order: the stream must not be trimmed past it. None if none is open."""
    open_orders = VenueOrder.objects.filter(epoch_id=epoch, shard=shard, status=VenueOrder.Status.OPEN)
    entries = open_orders.values_list("scan_from", flat=True)
    return min(entries, key=entry_order, default=None)


# --- reconciliation ---------------------------------------------------------------------------------------------------
def open_differences(account_id: int) -> QuerySet[ReconcileDifference]:
    """What waits for a person, oldest first."""
    rows = ReconcileDifference.objects.filter(account_id=account_id, state=ReconcileDifference.State.OPEN)
    return rows.order_by("id")


def last_run(account_id: int) -> ReconcileRun | None:
    """The newest comparison of any scope."""
    return ReconcileRun.objects.filter(account_id=account_id).order_by("-id").first()


def compared(account: Account, limits: RiskLimits) -> Compared:
    """When the account's books were last compared with the venue's, and the venue answered. The account comes with its
    session. Two queries; of each scope the newest `RUNS_SEEN` runs: while a venue is silent, none older is sought."""
    runs = ReconcileRun.objects.filter(account=account).order_by("-id").values_list("scope", "outcome", "finished_at")
    orders, full, everything = (runs.filter(scope=scope)[:RUNS_SEEN] for scope in ReconcileRun.Scope)
    answered = [row for row in orders.union(full, everything, all=True) if row[1] != ReconcileRun.Outcome.UNCLEAR]
    moments: dict[str, int] = {}
    for scope, _, finished_at in answered:
        moments[scope] = max(moments.get(scope, 0), int(finished_at.timestamp() * 1000))
    of_all = [ms for scope, ms in moments.items() if scope != ReconcileRun.Scope.ORDERS]
    return Compared(
        max(moments.values(), default=None), max(of_all, default=None),
        int(account.session.started_at.timestamp() * 1000),
        limits.reconcile_orders_age_max_ms, limits.reconcile_full_age_max_ms, open_differences(account.pk).count(),
    )  # fmt: skip


def last_start() -> TradingStart | None:
    return TradingStart.objects.order_by("-id").first()


def incarnation() -> str:
    """The token of this life of the database; empty before the first start."""
    return DatabaseIncarnation.objects.order_by("-id").values_list("token", flat=True).first() or ""
