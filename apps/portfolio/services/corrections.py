"""What was wrong in the ledger is put right by further legs: with a reason, who, and who else approved it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from django.db import transaction
from django.db.models import Max

from apps.engine.money import MONEY_STEP, ZERO, to_money, total
from apps.engine.portfolio import Leg, LegKind, cash_change
from apps.market.selectors import reached_ms
from apps.portfolio.models import PERSON_MAX, REASON_MAX, Account, Correction, LedgerEntry
from apps.portfolio.services.ledger import post

AMOUNT_MAX: Final = Decimal(10) ** 21
LEGS_MAX: Final = 50


class CorrectionRefused(ValueError):
    """Legs that cannot be posted; one line for whoever asked. Nothing was moved."""


def post_correction(
    *, account: Account, legs: Sequence[Leg], reason: str, by: str, approved_by: str, reverses: str = ""
) -> Correction:
    """Append a correction: legs that sum to zero in each currency, as `correction:<number>`.

    The caller holds the account's lock and saves the account. `approved_by` is somebody else than `by`, or the rule
    that allowed it. Raises `CorrectionRefused`.
    """
    if not transaction.get_connection().in_atomic_block:
        raise CorrectionRefused("a correction is part of the transaction that holds the account's lock")
    _refuse_words(reason, by, approved_by)
    _refuse_legs(legs)
    after = total([account.cash, cash_change(legs)])
    if after < 0 and after < account.cash:
        raise CorrectionRefused(
            f"cash would be {after.normalize():f} {account.currency}: it cannot be less than nothing"
        )
    if any(leg.kind is LegKind.CASH and leg.currency != account.currency for leg in legs):
        raise CorrectionRefused(f"cash is {account.currency} here: what is owned of another currency is an asset")
    known = Correction.objects.filter(account=account).aggregate(newest=Max("number"))["newest"] or 0
    account.sequence += 1
    row = Correction.objects.create(
        account=account,
        number=known + 1,
        reverses=reverses,
        reason=" ".join(reason.split()),
        made_by=by.strip(),
        approved_by=approved_by.strip(),
        sequence=account.sequence,
        ts_event=_reached(account),
    )
    post(account=account, reference=row.reference, legs=legs, ts_event=row.ts_event)
    return row


def reversal_legs(account: Account, reference: str) -> list[Leg]:
    """The legs that take a reference back. Raises `CorrectionRefused` for one that is unknown or was taken back."""
    rows = LedgerEntry.objects.filter(account=account, reference=reference).order_by("leg")
    legs = [Leg(LegKind(kind), currency, -amount) for kind, currency, amount in rows.values_list(*_LEG)]
    if not legs:
        raise CorrectionRefused(f"the ledger of {account} has no {reference}")
    done = Correction.objects.filter(account=account, reverses=reference).first()
    if done is not None:
        raise CorrectionRefused(f"{reference} was taken back already, by {done.reference}")
    return legs


_LEG: Final = ("kind", "currency", "amount")


def _refuse_words(reason: str, by: str, approved_by: str) -> None:
    for name, text, longest in (("reason", reason, REASON_MAX), ("by", by, PERSON_MAX)):
        if not 1 <= len(" ".join(text.split())) <= longest:
            raise CorrectionRefused(f"{name} must have 1 to {longest} characters")
    if not 1 <= len(approved_by.strip()) <= PERSON_MAX:
        raise CorrectionRefused("a correction needs the approval of a second person: say who")
    if approved_by.strip().casefold() == by.strip().casefold():
        raise CorrectionRefused(f"{by.strip()} cannot approve a correction of their own")


def _refuse_legs(legs: Sequence[Leg]) -> None:
    if not 2 <= len(legs) <= LEGS_MAX:
        raise CorrectionRefused(f"a correction has 2 to {LEGS_MAX} legs, not {len(legs)}")
    sums: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for leg in legs:
        if not leg.amount.is_finite() or not leg.amount or abs(leg.amount) >= AMOUNT_MAX:
            raise CorrectionRefused(f"{leg.amount} {leg.currency} is no amount to move")
        if leg.amount != to_money(leg.amount):
            raise CorrectionRefused(f"{leg.amount:f} {leg.currency} is finer than {MONEY_STEP:f}")
        sums[leg.currency] = total([sums[leg.currency], leg.amount])
    for currency, left in sorted(sums.items()):
        if left:
            raise CorrectionRefused(f"the legs in {currency} add up to {left.normalize():f}, not to nothing")


def _reached(account: Account) -> int:
    """The event time that the account's feed has reached; before it has, that of the newest entry in the ledger."""
    reached = reached_ms(epoch_id=account.session.epoch_id)
    if reached is not None:
        return reached
    newest: int | None = LedgerEntry.objects.filter(account=account).aggregate(newest=Max("ts_event"))["newest"]
    return newest or 0
