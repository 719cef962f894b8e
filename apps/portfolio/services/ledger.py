"""Accounts and their ledger. Whoever moves money locks the account first and saves it once at the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from apps.engine.money import ZERO, total
from apps.engine.portfolio import Leg, cash_change, deposit_legs
from apps.outbox.reads import Read
from apps.portfolio.models import MAIN_BOOK, Account, LedgerEntry, TradingSession
from apps.portfolio.selectors import DEPOSIT


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


_ACCOUNT = Read(
    lambda pk: Account.objects.select_for_update(of=("self",)).select_related("session__epoch").filter(pk=pk), int
)  # fmt: skip


def lock_account(account_id: int) -> Account:
    """The account, locked until the transaction ends. Everything that moves money begins here."""
    account = _ACCOUNT.first(account_id)
    if account is None:
        raise Account.DoesNotExist(f"account {account_id} does not exist")
    return account


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
