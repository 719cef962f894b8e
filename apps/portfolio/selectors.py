"""Reads of sessions, accounts and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

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


class Held(NamedTuple):
    """An open position, as far as a decision needs it."""

    position_id: int
    symbol: str
    quantity: Decimal


class Promised(NamedTuple):
    """An active reservation, as far as a decision needs it."""

    instrument_id: int
    symbol: str
    reducing: bool
    position_id: int | None
    currency: str
    amount: Decimal
    notional: Decimal


@dataclass(frozen=True, slots=True)
class Book:
    """What an account holds and has promised, read once. Meaningful under the account's lock."""

    positions: list[Held]
    reservations: list[Promised]

    @property
    def symbols(self) -> set[str]:
        """Symbols whose price matters: held, or about to be."""
        opening = {row.symbol for row in self.reservations if not row.reducing}
        return opening | {row.symbol for row in self.positions}

    def worth(self, marks: Mapping[str, Decimal], symbol: str | None = None) -> tuple[Decimal, tuple[str, ...]]:
        """The value of the positions (of one symbol), and held symbols without a mark, which count nothing."""
        return worth([(row.symbol, row.quantity) for row in self.positions if symbol in (None, row.symbol)], marks)

    def promised(self, symbol: str | None = None) -> Decimal:
        """What open orders may add to exposure."""
        return total([row.notional for row in self.reservations if symbol in (None, row.symbol)])

    def exposure(self, marks: Mapping[str, Decimal], symbol: str | None = None) -> Decimal:
        """Gross: positions at their marks and open orders at their limits. What has no mark counts nothing."""
        return total([self.worth(marks, symbol)[0], self.promised(symbol)])

    def entries_of(self, symbol: str) -> int:
        """Open positions in a symbol, and opening orders that may become one. Half filled, an order counts as both."""
        held = sum(row.symbol == symbol for row in self.positions)
        return held + sum(row.symbol == symbol and not row.reducing for row in self.reservations)

    def reserved(self, currency: str) -> Decimal:
        return total([row.amount for row in self.reservations if row.currency == currency])


def read_book(account_id: int) -> Book:
    """Open positions and active reservations of an account. Two queries."""
    positions = Position.objects.filter(account_id=account_id, status=Position.Status.OPEN).order_by("id")
    reservations = Reservation.objects.filter(account_id=account_id, active=True).order_by("id")
    return Book(
        [Held(*row) for row in positions.values_list("pk", "instrument__symbol", "quantity")],
        [
            Promised(*row)
            for row in reservations.values_list(
                "instrument_id", "instrument__symbol", "reducing", "position_id", "currency", "amount", "notional"
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
