"""Selling every open position because a person says so: exits raised here, decided and sent on the normal road.

An exit is one per position and attempt, whoever raises it, so pressing twice sells nothing twice, and a stop that is
hit at the same moment is the same exit. What was sold in vain may be asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import IntegrityError, transaction

from apps.bus.streams import shard_of
from apps.market.models import ShardCursor
from apps.market.selectors import closed_minute
from apps.outbox.services import record
from apps.outbox.transactions import retry_tx
from apps.portfolio.models import Account, Position, Reservation
from apps.portfolio.selectors import closes_at
from apps.portfolio.services import exit_failed, lock_account, save_account
from apps.risk.models import RiskDecision, RiskStateChange, Scope, TradingState
from apps.risk.services.gate import senders_are_through
from apps.risk.services.states import StateRefused, account_state, change_by_person, check_running, positions_of
from apps.signals.models import Signal
from apps.signals.services.raising import exit_key, flatten_row

EXITS_STOPPED = "trading is halted, which stops exits too: reduce first (manage.py risk reduce), then flatten"


@dataclass(frozen=True, slots=True)
class Flattened:
    """`change` is the step to REDUCING, None if nothing could be opened before either. `on_the_way`: sold already."""

    change: RiskStateChange | None
    raised: list[Signal]
    on_the_way: int


def flatten(*, account_id: int, set_by: str, reason: str, now_ms: int) -> Flattened:
    """Open nothing any more, and raise an exit for every open position that is not being sold. `now_ms`: wall clock.

    Raises `StateRefused` while the account is halted, and after its session has ended. A strategy or a symbol that is
    halted denies its exits, which are raised again when it is not.
    """

    def raise_exits() -> Flattened:
        account = lock_account(account_id)
        check_running(account)
        state = account_state(account)
        if state.trading_state == TradingState.HALTED:
            raise StateRefused(EXITS_STOPPED)
        change = None
        if state.trading_state == TradingState.ACTIVE:
            change = change_by_person(
                account=account,
                to_state=TradingState.REDUCING,
                set_by=set_by,
                reason=f"flatten: {reason}",
                scope=Scope.ACCOUNT,
                subject="",
            ).change
        positions = positions_of(account)
        raised = _raise(account, positions, now_ms)
        save_account(account)
        return Flattened(change, raised, len(positions) - len(raised))

    done = retry_tx(raise_exits)
    if done.change is not None:
        senders_are_through(account_id)
    return done


def _raise(account: Account, positions: list[Position], now_ms: int) -> list[Signal]:
    if not positions:
        return []
    epoch_id = account.session.epoch_id
    minute = closed_minute(epoch_id=epoch_id)
    closes = {} if minute is None else closes_at(epoch_id=epoch_id, minute=minute)
    cursors = {row.shard: row for row in ShardCursor.objects.filter(epoch_id=epoch_id)}
    raised = []
    for position in positions:
        if not _may_be_sold(account, position):
            continue
        symbol = position.instrument.symbol
        cursor = cursors.get(shard_of(symbol, account.session.epoch.shard_count))
        reached = (cursor.watermark_ms if cursor else None) or 0
        position.account = account
        row = flatten_row(
            position,
            price=closes.get(symbol, position.entry_price),
            ts_event=max(reached, position.opened_ts, position.retry_ts),
            entry_id=cursor.seen_through if cursor else position.trigger_entry,
            ts_init=now_ms,
        )
        if _store(row):
            raised.append(row)
            record("SignalRaised", signal_id=row.pk)
    if raised:
        account.portfolio_epoch += 1
    return raised


def _may_be_sold(account: Account, position: Position) -> bool:
    """Whether no exit is under way. One that was denied is: its attempt is over, and the next one is ours."""
    if Reservation.objects.filter(account=account, active=True, reducing=True, position=position).exists():
        return False
    key = exit_key(position.pk, position.exit_attempts)
    raised = Signal.objects.filter(session=account.session, book=account.book, trigger_key=key)
    if not raised.exists():
        return True
    if not RiskDecision.objects.filter(signal__in=raised, verdict=RiskDecision.Verdict.DENIED).exists():
        return False
    exit_failed(account=account, position=position, not_before_ms=position.retry_ts)
    return True


def _store(row: Signal) -> bool:
    """False if the drain raised this very exit meanwhile."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return False
    return True
