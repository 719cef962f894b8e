"""Reads of sessions, accounts and what they hold."""

from __future__ import annotations

from decimal import Decimal

from django.db.models import F, OuterRef, Subquery

from apps.engine.desk.book import Book, Held, Promised
from apps.market.models import Bar, EpochInstrument
from apps.portfolio.models import MAIN_BOOK, Account, Position, Reservation, TradingSession


def current_session() -> TradingSession | None:
    """The session that runs now: the newest one that has not ended."""
    running = TradingSession.objects.filter(ended_at__isnull=True).select_related("epoch")
    return running.order_by("-epoch_id", "-id").first()


def main_account(session: TradingSession) -> Account | None:
    return Account.objects.filter(session=session, book=MAIN_BOOK).first()


def read_book(account_id: int) -> Book:
    """Open positions and active reservations of an account. Two queries."""
    positions = Position.objects.filter(account_id=account_id, status=Position.Status.OPEN).order_by("id")
    reservations = Reservation.objects.filter(account_id=account_id, active=True).order_by("id")
    return Book(
        [Held(*row) for row in positions.values_list("pk", "instrument__symbol", "quantity")],
        [
            Promised(*row)
            for row in reservations.values_list(
                "instrument__symbol", "reducing", "position_id", "currency", "amount", "notional"
            )
        ],
    )


def closes_at(*, epoch_id: int, minute: int) -> dict[str, Decimal]:
    """Close of `minute` per symbol of the epoch; of the last bar before where that minute has none. One query."""
    bars = Bar.objects.filter(epoch_id=epoch_id, instrument_id=OuterRef("instrument_id"), minute__lte=minute)
    rows = (
        EpochInstrument.objects.filter(epoch_id=epoch_id)
        .annotate(close=Subquery(bars.order_by("-minute").values("close")[:1]))
        .values_list(F("instrument__symbol"), "close")
    )
    return {symbol: close for symbol, close in rows if close is not None}
