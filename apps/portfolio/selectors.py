"""Reads of sessions, accounts and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum

from apps.engine.desk.book import Book, Held, Promised
from apps.engine.money import ZERO, exact, notional, total
from apps.market.models import Bar, EpochInstrument
from apps.outbox.reads import Read
from apps.portfolio.models import (
    MAIN_BOOK,
    Account,
    EquityPoint,
    LedgerEntry,
    Position,
    Reservation,
    TradingSession,
)

MINUTE_MS: Final = 60_000
DEPOSIT: Final = "deposit"
OWNED: Final = (LedgerEntry.Kind.CASH, LedgerEntry.Kind.ASSET)
"""The kinds of leg that are ours; the others say where it came from or went."""


def current_session() -> TradingSession | None:
    """The session that runs now: the newest one that has not ended."""
    running = TradingSession.objects.filter(ended_at__isnull=True).select_related("epoch")
    return running.order_by("-epoch_id", "-id").first()


def main_account(session: TradingSession) -> Account | None:
    return Account.objects.filter(session=session, book=MAIN_BOOK).first()


def _positions(account_id: int) -> QuerySet[Position, tuple[Any, ...]]:
    rows = Position.objects.filter(account_id=account_id, status=Position.Status.OPEN).order_by("id")
    return rows.values_list("pk", "instrument__symbol", "quantity")


def _reservations(account_id: int) -> QuerySet[Reservation, tuple[Any, ...]]:
    rows = Reservation.objects.filter(account_id=account_id, active=True).order_by("id")
    return rows.values_list("instrument__symbol", "reducing", "position_id", "currency", "amount", "notional")


_POSITIONS, _RESERVATIONS = Read(_positions, int), Read(_reservations, int)


def read_book(account_id: int) -> Book:
    """Open positions and active reservations of an account. Two queries."""
    held, promised = _POSITIONS.rows(account_id), _RESERVATIONS.rows(account_id)
    return Book([Held(*row) for row in held], [Promised(*row) for row in promised])


def _closes(epoch_id: int, minute: int) -> QuerySet[EpochInstrument, tuple[Any, ...]]:
    bars = Bar.objects.filter(epoch_id=epoch_id, instrument_id=OuterRef("instrument_id"), minute__lte=minute)
    newest = Subquery(bars.order_by("-minute").values("close")[:1])
    symbols = EpochInstrument.objects.filter(epoch_id=epoch_id).annotate(close=newest)
    return symbols.values_list(F("instrument__symbol"), "close")


_CLOSES = Read(_closes, int, int)


def closes_at(*, epoch_id: int, minute: int) -> dict[str, Decimal]:
    """Close of `minute` per symbol of the epoch; of the last bar before where that minute has none. One query."""
    return {symbol: close for symbol, close in _CLOSES.rows(epoch_id, minute) if close is not None}


def coin_price(*, epoch_id: int, coin: str, quote: str, before_ms: int) -> Decimal | None:
    """What a coin cost in `quote` at the last minute that had closed before an event time. None if nothing says so."""
    bars = Bar.objects.filter(
        epoch_id=epoch_id,
        instrument__base_asset=coin,
        instrument__quote_asset=quote,
        minute__lt=before_ms // MINUTE_MS,
    )
    return bars.order_by("-minute").values_list("close", flat=True).first()


# --- balances ---------------------------------------------------------------------------------------------------------


def ledger_balances(account: Account, *, before_ms: int | None = None) -> dict[str, Decimal]:
    """What the account owns by currency, cash included; as of an event time if one is given. What is nothing is not in.

    The deposit came before everything: a replay's event time is older than the day on which it runs.
    """
    legs = LedgerEntry.objects.filter(account=account, kind__in=OWNED)
    if before_ms is not None:
        legs = legs.filter(Q(ts_event__lt=before_ms) | Q(reference=DEPOSIT))
    rows = legs.values_list("currency").annotate(sum=Sum("amount")).order_by("currency")
    return {currency: amount for currency, amount in rows if amount}


@dataclass(frozen=True, slots=True)
class CashDifference:
    """One currency in which the venue does not have what the ledger says. `difference` is the venue's less ours."""

    currency: str
    ledger: Decimal
    venue: Decimal

    @property
    @exact
    def difference(self) -> Decimal:
        return self.venue - self.ledger


def cash_differences(account: Account, balances: Mapping[str, Decimal]) -> list[CashDifference]:
    """Where a venue's balances (asset -> total, what is locked included) differ from the ledger's, by currency.

    A currency that only one side knows counts as 0 on the other.
    """
    ours = ledger_balances(account)
    pairs = [(one, ours.get(one, ZERO), balances.get(one, ZERO)) for one in sorted({*ours, *balances})]
    return [CashDifference(currency, ledger, venue) for currency, ledger, venue in pairs if ledger != venue]


# --- worth ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worth:
    """Cash, and what else the account owned, in its currency. `value` leaves out what had no price, and names it:

    `unmarked` are symbols of the session that are held and had no mark, `unvalued` other coins with their amounts.
    """

    cash: Decimal
    value: Decimal
    unmarked: tuple[str, ...]
    unvalued: dict[str, Decimal]

    @property
    def equity(self) -> Decimal:
        return total([self.cash, self.value])


def worth_at(*, account: Account, before_ms: int | None, marks: Mapping[str, Decimal]) -> Worth:
    """What the account was worth at an event time (None: with everything booked so far), at `marks` by symbol."""
    return worth_of(account, ledger_balances(account, before_ms=before_ms), marks)


def worth_of(account: Account, owned: Mapping[str, Decimal], marks: Mapping[str, Decimal]) -> Worth:
    """What these amounts by currency are worth to the account, at `marks` by symbol."""
    coins = {coin: amount for coin, amount in owned.items() if coin != account.currency}
    symbols = symbols_by_asset(account) if coins else {}
    value, unmarked, unvalued = ZERO, [], {}
    for coin, amount in coins.items():
        mark = marks.get(symbols.get(coin, ""))
        if mark is not None:
            value = total([value, notional(amount, mark)])
        elif coin in symbols:
            unmarked.append(symbols[coin])
        else:
            unvalued[coin] = amount
    return Worth(owned.get(account.currency, ZERO), value, tuple(unmarked), unvalued)


def symbols_by_asset(account: Account) -> dict[str, str]:
    """Base asset -> symbol of the session's instruments in the account's currency."""
    rows = EpochInstrument.objects.filter(
        epoch_id=account.session.epoch_id, instrument__quote_asset=account.currency
    ).values_list(F("instrument__base_asset"), F("instrument__symbol"))
    return dict(rows)


def equity_series(
    account: Account, *, first_minute: int | None = None, last_minute: int | None = None
) -> list[tuple[int, Decimal]]:
    """(minute, equity at its close), minutes rising; both ends included."""
    return list(_points(account, first_minute, last_minute).values_list("minute", "equity"))


def drawdown_series(
    account: Account, *, first_minute: int | None = None, last_minute: int | None = None
) -> list[tuple[int, Decimal, Decimal]]:
    """(minute, highest equity up to there, share of it that is gone), minutes rising; both ends included."""
    return list(_points(account, first_minute, last_minute).values_list("minute", "peak", "drawdown"))


def _points(account: Account, first: int | None, last: int | None) -> QuerySet[EquityPoint]:
    found = EquityPoint.objects.filter(account=account)
    if first is not None:
        found = found.filter(minute__gte=first)
    if last is not None:
        found = found.filter(minute__lte=last)
    return found.order_by("minute")
