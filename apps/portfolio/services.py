"""Writes of money. Every function that takes an account expects it locked by the caller, inside a transaction.

The caller saves the account once at the end (`save_account`): the row object carries cash, sequence and epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import F, Q, Sum

from apps.engine.money import ZERO, total
from apps.engine.portfolio import (
    Fill,
    Holding,
    Leg,
    Promise,
    after_fill,
    cash_change,
    deposit_legs,
    legs_of,
    stop_and_target,
    worth,
)
from apps.market.models import EpochInstrument, Instrument
from apps.portfolio.models import MAIN_BOOK, Account, EquityPoint, LedgerEntry, Position, Reservation, TradingSession

MINUTE_MS: Final = 60_000
DEPOSIT: Final = "deposit"


def open_account(*, session: TradingSession, currency: str, initial: Decimal, now: datetime) -> Account:
    """The session's main account with its deposit in the ledger; one that exists is returned as it is."""
    with transaction.atomic():
        account, is_new = Account.objects.get_or_create(
            session=session, book=MAIN_BOOK, defaults={"currency": currency, "initial": initial, "cash": ZERO}
        )
        if is_new:
            deposited_ms = int(now.timestamp() * 1000)
            post(account=account, reference=DEPOSIT, legs=deposit_legs(currency, initial), ts_event=deposited_ms)
            account.sequence += 1
            save_account(account)
        return account


def lock_account(account_id: int) -> Account:
    """The account, locked until the transaction ends. Everything that moves money begins here."""
    return Account.objects.select_for_update(of=("self",)).select_related("session__epoch").get(pk=account_id)


def save_account(account: Account) -> None:
    account.save(update_fields=["cash", "sequence", "portfolio_epoch"])


def post(*, account: Account, reference: str, legs: Sequence[Leg], ts_event: int) -> None:
    """Write the legs of one movement and move the account's cash with them. A reference is posted once."""
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            account=account,
            reference=reference,
            leg=number,
            kind=leg.kind.value,
            currency=leg.currency,
            amount=leg.amount,
            ts_event=ts_event,
        )
        for number, leg in enumerate(legs)
    )
    account.cash = total([account.cash, cash_change(legs)])


# --- reservations -----------------------------------------------------------------------------------------------------


def reserve(
    *,
    account: Account,
    instrument: Instrument,
    client_order_id: str,
    promise: Promise,
    ts_event: int,
    position_id: int | None,
) -> Reservation:
    """Promise money (opening) or a position's quantity (reducing, with its `position_id`) to an order."""
    return Reservation.objects.create(
        account=account,
        instrument=instrument,
        client_order_id=client_order_id,
        reducing=position_id is not None,
        position_id=position_id,
        currency=promise.currency,
        amount=promise.amount,
        notional=promise.notional,
        ts_event=ts_event,
    )


def promise_less(*, client_order_id: str, promise: Promise) -> None:
    """After a part of an order was filled: only what its rest may still cost stays promised."""
    Reservation.objects.filter(client_order_id=client_order_id, active=True).update(
        amount=promise.amount, notional=promise.notional
    )


def release(*, client_order_id: str) -> bool:
    """Give back what was promised to an order that has ended. False if that was done before."""
    return bool(
        Reservation.objects.filter(client_order_id=client_order_id, active=True).update(
            active=False, amount=ZERO, notional=ZERO
        )
    )


# --- positions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """How a position that an entry opens is to end. Percentages of its entry price (0: none); times in ms.

    `trailing_stop_pct` is of the highest price since the entry, 0: none.
    """

    strategy_version_id: int
    trigger_entry: str
    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    max_holding_ms: int
    trailing_stop_pct: Decimal = ZERO
    exit_on_signal: bool = True


def book_entry(
    *, account: Account, instrument: Instrument, client_order_id: str, reference: str, fill: Fill, plan: EntryPlan
) -> Position:
    """A buy: opens the order's position or adds to it, and moves the money."""
    position = Position.objects.filter(opened_by=client_order_id).first() or Position(
        account=account,
        instrument=instrument,
        opened_by=client_order_id,
        strategy_version_id=plan.strategy_version_id,
        quantity=ZERO,
        entry_quantity=ZERO,
        entry_price=ZERO,
        opened_ts=fill.ts_event,
        due_ts=fill.ts_event + plan.max_holding_ms,
        trigger_entry=plan.trigger_entry,
        trailing_stop_pct=plan.trailing_stop_pct,
        exit_on_signal=plan.exit_on_signal,
    )
    _apply(position, fill)
    stop, target = stop_and_target(position.entry_price, plan.stop_loss_pct, plan.take_profit_pct)
    position.stop_price, position.target_price = stop, target if plan.take_profit_pct else ZERO
    _book(account, position, reference, fill)
    return position


def book_exit(*, account: Account, position: Position, reference: str, fill: Fill) -> None:
    """A sale: reduces the position, closes it with the last of its quantity, and moves the money.

    Raises `PortfolioError` if the position does not hold what was sold.
    """
    _apply(position, fill)
    if not position.quantity:
        position.status = Position.Status.CLOSED
        position.closed_ts = fill.ts_event
    _book(account, position, reference, fill)


def _apply(position: Position, fill: Fill) -> None:
    holding = after_fill(
        Holding(position.quantity, position.entry_quantity, position.entry_price, position.realized, position.fees),
        fill,
    )
    position.quantity = holding.quantity
    position.entry_quantity = holding.entry_quantity
    position.entry_price = holding.entry_price
    position.realized = holding.realized
    position.fees = holding.fees


def _book(account: Account, position: Position, reference: str, fill: Fill) -> None:
    position.save()
    instrument = position.instrument
    legs = legs_of(fill, base=instrument.base_asset, quote=instrument.quote_asset)
    post(account=account, reference=reference, legs=legs, ts_event=fill.ts_event)
    account.portfolio_epoch += 1


def exit_failed(*, account: Account, position: Position, not_before_ms: int) -> None:
    """An exit ended without closing the position: the drain may raise the next one, under a key of its own.

    It is found at `not_before_ms` (event time) or later, so that it does not meet the same obstacle at once; this
    does not depend on when the failure became known.
    """
    position.exit_attempts += 1
    position.retry_ts = max(position.retry_ts, not_before_ms)
    position.due_ts = max(position.due_ts, not_before_ms)
    position.save(update_fields=["exit_attempts", "retry_ts", "due_ts"])
    account.portfolio_epoch += 1


# --- equity -----------------------------------------------------------------------------------------------------------


def record_equity(*, account: Account, minute: int, marks: Mapping[str, Decimal]) -> EquityPoint | None:
    """The account's worth at the close of an event minute, from the ledger as of then. Once per minute.

    None if something held then has no mark: a worth that leaves out a holding would be a wrong number.
    """
    known = EquityPoint.objects.filter(account=account, minute=minute).first()
    if known is not None:
        return known
    cash, holdings = _balances(account, (minute + 1) * MINUTE_MS)
    value, unvalued = worth(_by_symbol(account, holdings), marks)
    if unvalued:
        return None
    point, _ = EquityPoint.objects.get_or_create(
        account=account, minute=minute, defaults={"cash": cash, "equity": total([cash, value]), "exposure": value}
    )
    return point


def _balances(account: Account, before_ms: int) -> tuple[Decimal, dict[str, Decimal]]:
    """Cash, and quantity by asset, of everything that happened before an event time. The deposit came before all."""
    rows = (
        LedgerEntry.objects.filter(Q(ts_event__lt=before_ms) | Q(reference=DEPOSIT), account=account)
        .filter(kind__in=[LedgerEntry.Kind.CASH, LedgerEntry.Kind.ASSET])
        .values_list("kind", "currency")
        .annotate(sum=Sum("amount"))
    )
    cash, assets = ZERO, {}
    for kind, currency, amount in rows:
        if kind == LedgerEntry.Kind.CASH:
            cash = total([cash, amount])
        elif amount:
            assets[currency] = amount
    return cash, assets


def _by_symbol(account: Account, assets: Mapping[str, Decimal]) -> list[tuple[str, Decimal]]:
    if not assets:
        return []
    rows = EpochInstrument.objects.filter(epoch_id=account.session.epoch_id).values_list(
        F("instrument__base_asset"), F("instrument__symbol")
    )
    symbols = dict(rows)
    return [(symbols.get(asset, asset), quantity) for asset, quantity in assets.items()]
