"""Reads of sessions, accounts and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import F, OuterRef, Subquery

from apps.engine.money import total
from apps.engine.portfolio import worth
from apps.market.models import Bar, EpochInstrument
from apps.portfolio.models import MAIN_BOOK, Account, Position, Reservation, TradingSession


def current_session() -> TradingSession | None:
    """The session that runs now: the newest one that has not ended."""
    running = TradingSession.objects.filter(ended_at__isnull=True).select_related("epoch")
    return running.order_by("-epoch_id", "-id").first()


def main_account(session: TradingSession) -> Account | None:
    return Account.objects.filter(session=session, book=MAIN_BOOK).first()


@dataclass(frozen=True, slots=True)
class Book:
    """What an account holds and has promised, read once. Meaningful under the account's lock."""

    positions: list[Position]
    reservations: list[Reservation]  # active ones

    @property
    def symbols(self) -> set[str]:
        """Symbols whose price matters: held, or about to be."""
        opening = {row.instrument.symbol for row in self.reservations if not row.reducing}
        return opening | {row.instrument.symbol for row in self.positions}

    def worth(self, marks: Mapping[str, Decimal], symbol: str | None = None) -> tuple[Decimal, tuple[str, ...]]:
        """The value of the positions (of one symbol), and held symbols without a mark, which count nothing."""
        rows = [row for row in self.positions if symbol in (None, row.instrument.symbol)]
        return worth([(row.instrument.symbol, row.quantity) for row in rows], marks)

    def promised(self, symbol: str | None = None) -> Decimal:
        """What open orders may add to exposure."""
        rows = [row for row in self.reservations if symbol in (None, row.instrument.symbol)]
        return total([row.notional for row in rows])

    def exposure(self, marks: Mapping[str, Decimal], symbol: str | None = None) -> Decimal:
        """Gross: positions at their marks and open orders at their limits. What has no mark counts nothing."""
        return total([self.worth(marks, symbol)[0], self.promised(symbol)])

    def reserved(self, currency: str) -> Decimal:
        return total([row.amount for row in self.reservations if row.currency == currency])


def read_book(account_id: int) -> Book:
    """Open positions and active reservations of an account, with their instruments. Two queries."""
    positions = Position.objects.filter(account_id=account_id, status=Position.Status.OPEN)
    reservations = Reservation.objects.filter(account_id=account_id, active=True)
    return Book(
        list(positions.select_related("instrument").order_by("id")),
        list(reservations.select_related("instrument").order_by("id")),
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
