"""Fills become positions and money. The caller holds the account's lock and saves the account."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from apps.engine.money import ZERO
from apps.engine.portfolio import Fill, Holding, after_fill, legs_of, stop_and_target
from apps.market.models import Instrument
from apps.portfolio.models import Account, Position
from apps.portfolio.selectors import coin_price
from apps.portfolio.services.ledger import post


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
    if position.status == Position.Status.CLOSED:
        _open_again(position, fill.ts_event)
    _apply(position, fill)
    stop, target = stop_and_target(position.entry_price, plan.stop_loss_pct, plan.take_profit_pct)
    position.stop_price, position.target_price = stop, target if plan.take_profit_pct else ZERO
    _book(account, position, reference, fill)
    return position


def _open_again(position: Position, ts_event: int) -> None:
    """A fill of the entry came after the exit: what it brings is held, and its exit gets a key of its own."""
    position.status, position.closed_ts = Position.Status.OPEN, None
    position.exit_attempts += 1
    position.retry_ts = max(position.retry_ts, ts_event)
    position.due_ts = max(position.due_ts, ts_event)


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
    instrument = position.instrument
    base, quote = instrument.base_asset, instrument.quote_asset
    holding = after_fill(
        Holding(
            position.quantity,
            position.entry_quantity,
            position.entry_price,
            position.realized,
            position.fees,
            position.cost,
            tuple((coin, Decimal(amount)) for coin, amount in sorted(position.fees_unvalued.items())),
        ),
        fill,
        base=base,
        quote=quote,
        fee_price=_fee_price(position, fill),
    )
    position.quantity = holding.quantity
    position.entry_quantity = holding.entry_quantity
    position.entry_price = holding.entry_price
    position.realized = holding.realized
    position.fees = holding.fees
    position.cost = holding.cost
    position.fees_unvalued = {coin: f"{amount:f}" for coin, amount in holding.unvalued}


def _fee_price(position: Position, fill: Fill) -> Decimal | None:
    """What a third coin was worth when it was taken as a fee. No query for the usual ones."""
    instrument = position.instrument
    if fill.fee_currency in (instrument.base_asset, instrument.quote_asset) or not fill.fee:
        return None
    return coin_price(
        epoch_id=position.account.session.epoch_id,
        coin=fill.fee_currency,
        quote=instrument.quote_asset,
        before_ms=fill.ts_event,
    )


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
