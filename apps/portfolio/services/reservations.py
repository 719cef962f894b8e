"""What is promised to orders that have not ended. The caller holds the account's lock."""

from __future__ import annotations

from apps.engine.money import ZERO
from apps.engine.portfolio import Promise
from apps.market.models import Instrument
from apps.portfolio.models import Account, Reservation


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
