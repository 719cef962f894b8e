"""What a session really decided, as a comparison reads it. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from apps.backtest.comparing import APPROVED, DENIED, REFUSED, Decided, Outcome, shared_key
from apps.backtest.recorded import Told
from apps.engine.desk.book import MarkSet
from apps.engine.risk.values import TradingState
from apps.execution.models import Order, OrderStatus
from apps.portfolio.models import MAIN_BOOK, Account, Position
from apps.risk.models import OrderIntent, RiskDecision
from apps.risk.selectors import limits_of
from apps.signals.models import Signal, SignalRefusal


def decided_between(account: Account, first_ms: int, end_ms: int) -> list[Decided]:
    """Every decision with an event time of [first_ms, end_ms), and the signals that were refused over holes."""
    decisions = (
        RiskDecision.objects.filter(account=account, book=account.book, ts_event__gte=first_ms, ts_event__lt=end_ms)
        .select_related("signal__instrument", "signal__position")
        .order_by("sequence")
    )
    rows = list(decisions)
    entries = _entry_keys({row.signal.position.opened_by for row in rows if row.signal.position})
    intents = {row.decision_id: row for row in OrderIntent.objects.filter(decision__in=rows)}
    placed = Order.objects.filter(intent__decision__in=rows).select_related("intent").prefetch_related("trades")
    orders = {row.intent.decision_id: row for row in placed}
    found = [_decided(row, entries, intents.get(row.pk), orders.get(row.pk)) for row in rows]
    return found + _refused(account, first_ms, end_ms)


def told_until(account: Account, end_ms: int) -> dict[str, Told]:
    """What every decision before `end_ms` was told, by the trigger key that a simulation gives it."""
    rows = list(
        RiskDecision.objects.filter(account=account, book=account.book, ts_event__lt=end_ms)
        .select_related("signal__position", "limits")
        .order_by("sequence")
    )
    entries = _entry_keys({row.signal.position.opened_by for row in rows if row.signal.position})
    placed = (
        Order.objects.filter(intent__decision__in=rows).select_related("intent").prefetch_related("trades", "events")
    )
    orders = {row.intent.decision_id: row for row in placed}
    return {
        _simulated_key(row.signal, entries): Told(
            ts_event=row.ts_event,
            feed_age_ms=row.feed_age_ms,
            signal_age_ms=row.signal_age_ms,
            marks=MarkSet.from_json(row.marks),
            limits=limits_of(row.limits),
            trading_state=TradingState(row.trading_state),
            sequence=row.sequence,
            ended=_ended(orders.get(row.pk)),
            expired=row.pk in orders and orders[row.pk].status == OrderStatus.EXPIRED,
            inputs=row.inputs,
        )
        for row in rows
    }


def _ended(order: Order | None) -> int | None:
    """The account's number of an order's last fill, or of the event that freed what it had promised."""
    if order is None:
        return None
    numbers = [trade.sequence for trade in order.trades.all()]
    numbers += [event.sequence for event in order.events.all() if event.sequence is not None]
    return max(numbers, default=None)


def _simulated_key(signal: Signal, entries: dict[str, str]) -> str:
    if signal.position is None:
        return signal.trigger_key
    return f"x:{entries.get(signal.position.opened_by, '')}:{signal.trigger_key.rpartition(':')[2]}"


def _entry_keys(opened_by: set[str]) -> dict[str, str]:
    """The trigger key of the entry that each position was opened by, by its client order id."""
    rows = OrderIntent.objects.filter(client_order_id__in=opened_by)
    return dict(rows.values_list("client_order_id", "decision__signal__trigger_key"))


def _decided(row: RiskDecision, entries: dict[str, str], intent: OrderIntent | None, order: Order | None) -> Decided:
    signal = row.signal
    approved = row.verdict == RiskDecision.Verdict.APPROVED
    return Decided(
        key=_key(signal, entries),
        ts_event=row.ts_event,
        symbol=signal.instrument.symbol,
        kind=signal.kind,
        verdict=APPROVED if approved else DENIED,
        reasons=tuple(row.reasons),
        quantity=intent.quantity if intent else None,
        limit_price=intent.limit_price if intent else None,
        outcome=_outcome(order) if approved else "",
    )


def _key(signal: Signal, entries: dict[str, str]) -> str:
    """An exit is named by the entry of its position, for a simulation gives its positions other numbers."""
    if signal.position is None:
        return shared_key(signal.trigger_key)
    entry = entries.get(signal.position.opened_by, f"position {signal.position_id}")
    return f"x:{shared_key(entry)}:{signal.trigger_key.rpartition(':')[2]}"


def _outcome(order: Order | None) -> str:
    if order is None:
        return "never sent"
    fills = sorted(order.trades.all(), key=lambda trade: trade.ts_event)
    if fills:
        return "; ".join(fill_in_words(row.quantity, row.price, row.fee) for row in fills)
    return "expired" if order.status == OrderStatus.EXPIRED else str(order.status).lower()


def fill_in_words(quantity: Decimal, price: Decimal, fee: Decimal) -> str:
    """The same words for a stored and a simulated fill: exact, without zeros at the end."""
    told = (f"{value.normalize():f}" if value else "0" for value in (quantity, price, fee))
    return "{} at {}, fee {}".format(*told)


def _refused(account: Account, first_ms: int, end_ms: int) -> list[Decided]:
    rows: Iterable[SignalRefusal] = SignalRefusal.objects.filter(
        session=account.session_id, book=account.book, ts_event__gte=first_ms, ts_event__lt=end_ms
    ).select_related("instrument")
    return [
        Decided(shared_key(row.trigger_key), row.ts_event, row.instrument.symbol, "entry", REFUSED, (row.reason,))
        for row in rows
    ]


def result_between(account: Account, first_ms: int, end_ms: int) -> Outcome:
    """What the round trips brought that were closed at these event times."""
    closed = Position.objects.filter(
        account=account, status=Position.Status.CLOSED, closed_ts__gte=first_ms, closed_ts__lt=end_ms
    )
    return Outcome.of((realized - fees, fees) for realized, fees in closed.values_list("realized", "fees"))


def account_on(first_ms: int, end_ms: int, session_id: int | None) -> Account | None:
    """The main account of the session that was asked for; else of the newest session with a decision at that time."""
    accounts = Account.objects.filter(book=MAIN_BOOK).select_related("session__epoch")
    if session_id is not None:
        return accounts.filter(session=session_id).first()
    decided = RiskDecision.objects.filter(ts_event__gte=first_ms, ts_event__lt=end_ms, book=MAIN_BOOK)
    newest = decided.order_by("-account__session", "-id").values_list("account_id", flat=True).first()
    return None if newest is None else accounts.filter(pk=newest).first()
