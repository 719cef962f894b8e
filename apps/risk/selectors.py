"""Reads of limits, decisions and marks."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from django.db.models import Count, QuerySet

from apps.engine.desk.book import Earlier, MarkSet, NearOrder, earlier, reach_of
from apps.engine.desk.deciding import Terms, Trigger, price_acted_on
from apps.engine.model import MINUTE_MS
from apps.engine.portfolio import Side
from apps.engine.risk.days import trading_day
from apps.engine.risk.values import EquityRecord, Intent, Limits, Sizing
from apps.engine.tiers import Rules, Standing, Tier
from apps.market.models import Bar, Instrument
from apps.market.selectors import closed_minute
from apps.outbox.reads import Read
from apps.portfolio.models import MAIN_BOOK, EquityPoint, Position, TradingSession
from apps.portfolio.selectors import closes_at
from apps.risk.models import OrderIntent, RiskLimits, RiskState, TierChange
from apps.signals.models import SessionStrategy, Signal
from apps.signals.services.schedules import versions_of


def marks_for(*, epoch_id: int, ts_event: int, symbol: str, price: Decimal) -> MarkSet:
    """Closes of the last minute that all shards had closed before the trigger's minute; `symbol` at its own price."""
    closed = closed_minute(epoch_id=epoch_id)
    if closed is None:
        return MarkSet(None, {symbol: price})
    minute = min(closed, ts_event // MINUTE_MS - 1)
    return MarkSet(minute, {**closes_at(epoch_id=epoch_id, minute=minute), symbol: price})


def bars_before(
    *, epoch_id: int, instrument_id: int, ts_event: int, count: int
) -> list[tuple[Decimal, Decimal, Decimal]]:
    """(high, low, close) of the `count` minutes before the one of an event time, oldest first; fewer if not all are
    known. One query."""
    minute = ts_event // MINUTE_MS
    bars = Bar.objects.filter(
        epoch_id=epoch_id, instrument_id=instrument_id, minute__lt=minute, minute__gte=minute - count
    )  # fmt: skip
    return list(bars.order_by("minute").values_list("high", "low", "close"))


_LIMITS = Read(lambda account: RiskLimits.objects.filter(account_id=account).order_by("-version")[:1], int)


def current_limits(account_id: int) -> RiskLimits:
    """The newest version. Raises `RiskLimits.DoesNotExist` for an account without limits."""
    newest = _LIMITS.first(account_id)
    if newest is None:
        raise RiskLimits.DoesNotExist(f"account {account_id} has no limits")
    return newest


def limits_of(row: RiskLimits) -> Limits:
    values = {field.name: getattr(row, field.name) for field in fields(Limits)}
    return Limits(**{**values, "sizing": Sizing(row.sizing)})


def record_of(state: RiskState) -> EquityRecord:
    """What the account's worth is compared with, as it was stored."""
    return EquityRecord(state.day, state.day_start_equity, state.peak_equity, state.last_equity)


def _of_the_day(account_id: int, first_ms: int, end_ms: int) -> QuerySet[OrderIntent, int]:
    """How many opening orders; no row if none."""
    orders = OrderIntent.objects.filter(
        account_id=account_id, reducing=False, ts_event__gte=first_ms, ts_event__lt=end_ms
    )  # fmt: skip
    return orders.order_by().values("account_id").annotate(orders=Count("pk")).values_list("orders", flat=True)


def _near(account_id: int, after_ms: int, before_ms: int) -> QuerySet[OrderIntent, tuple[Any, ...]]:
    orders = OrderIntent.objects.filter(account_id=account_id, ts_event__gt=after_ms, ts_event__lt=before_ms)
    return orders.values_list("ts_event", "reducing", "instrument__symbol", "side", "quantity")


_OF_THE_DAY, _NEAR = Read(_of_the_day, int, int, int), Read(_near, int, int, int)


def earlier_orders(*, account_id: int, ts_event: int, intent: Intent, limits: Limits) -> Earlier:
    """Counts for throttle, repetition and duplicate. Two plain queries: one conditional aggregate costs more."""
    reach, day = reach_of(limits), trading_day(ts_event, limits.trading_day_zone)
    of_the_day = _OF_THE_DAY.first(account_id, day.first_ms, day.end_ms) or 0
    rows = _NEAR.rows(account_id, ts_event - reach, ts_event + reach)
    return earlier(
        [NearOrder(ts, reducing, symbol, Side(side), quantity) for ts, reducing, symbol, side, quantity in rows],
        of_the_day=of_the_day,
        ts_event=ts_event,
        intent=intent,
        limits=limits,
    )


def terms_of(instrument: Instrument) -> Terms:
    """An instrument as decisions and simulations know it."""
    return Terms(
        symbol=instrument.symbol,
        base_asset=instrument.base_asset,
        quote_asset=instrument.quote_asset,
        price_decimals=instrument.price_decimals,
        quantity_decimals=instrument.quantity_decimals,
        quantity_min=instrument.quantity_min,
        notional_min=instrument.notional_min,
        notional_max=instrument.notional_max,
        taker_fee=instrument.taker_fee,
        tradable=instrument.tradable,
    )


def trigger_of(signal: Signal) -> Trigger:
    """A stored signal as a decision needs it."""
    is_exit = signal.kind == Signal.Kind.EXIT
    return Trigger(
        symbol=signal.instrument.symbol,
        ts_event=signal.ts_event,
        price=price_acted_on(signal.price, signal.confirmed_price, is_exit=is_exit),
        bid=signal.bid,
        ask=signal.ask,
        median=signal.median_price,
        unproven_minutes=signal.unproven_minutes,
        unproven_reason=signal.unproven_reason,
        is_exit=is_exit,
        position_id=signal.position_id,
        confirmed=signal.confirmed_price,
        printed=signal.price,
    )


def with_closes(record: EquityRecord, account_id: int, first_minute: int) -> EquityRecord:
    """A record that moved with decisions only, and what the account was worth at the closes of minutes since: without
    them what was gained and lost again between two decisions would be no loss. `first_minute` is the day's.
    """
    points = EquityPoint.objects.filter(account_id=account_id).order_by("-minute")
    peak = points.values_list("peak", flat=True).first()
    evening = points.filter(minute__lt=first_minute).values_list("equity", flat=True).first()
    return replace(record, peak=_higher(record.peak, peak), day_start=_higher(record.day_start, evening))


def _higher(known: Decimal | None, other: Decimal | None) -> Decimal | None:
    return max((one for one in (known, other) if one is not None), default=None)


# --- tiers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Closed:
    """Closed round trips of one strategy: how many in all, whether each of the newest won more than its fees (newest
    last), and the event time of the newest close (0: none yet)."""

    count: int
    won: list[bool]
    newest_ms: int


def closed_round_trips(*, account_id: int, binding: SessionStrategy) -> Closed:
    """The account's closed round trips in whatever version of the binding's strategy, as far as a tier looks back."""
    rows = Position.objects.filter(
        account_id=account_id, strategy_version_id__in=versions_of(binding), status=Position.Status.CLOSED
    )
    newest = list(rows.order_by("-closed_ts", "-id").values_list("realized", "fees", "closed_ts")[: Rules().window])
    won = [realized > fees for realized, fees, _ in reversed(newest)]
    return Closed(rows.count(), won, (newest[0][2] or 0) if newest else 0)


def standing_of(binding: SessionStrategy) -> Standing:
    """The binding's tier and its last move; before the first one, the tier that its session began with."""
    newest = TierChange.objects.filter(binding=binding).order_by("-id").first()
    if newest is None:
        return Standing(Tier(binding.session.tier))
    return Standing(Tier(newest.to_tier), newest.ts_event)


def tier_in_force(session: TradingSession) -> str:
    """The tier of the session's first strategy that has moved at all, else the one it began with. One query."""
    moves = TierChange.objects.filter(binding__session=session, binding__book=MAIN_BOOK)
    newest = moves.order_by("binding", "-id").values_list("to_tier", flat=True).first()
    return newest or session.tier
