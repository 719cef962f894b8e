"""Turning what the engine raised into Signal rows, once per trigger key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from apps.engine.desk.deciding import entry_key as trigger_key
from apps.engine.model import Quote, RaisedExit, RaisedSignal, Scale
from apps.market.models import Instrument
from apps.portfolio.models import Position
from apps.signals.models import SessionStrategy, Signal, SignalRefusal, StrategyCall

REFUSAL_FIELDS: Final = (
    "session_id", "strategy_version_id", "book", "instrument_id", "trigger_key", "ts_event", "trade_id", "price",
    "change", "rsi", "turnover", "unproven_minutes", "reason", "entry_id", "ts_init",
)  # fmt: skip


def entry_key(raised: RaisedSignal) -> str:
    """What an entry is: the version, the instrument and the very trade. Equal in live, replay and backtest."""
    return trigger_key(raised.version_id, raised.symbol, raised.ts_event, raised.trade_id)


def exit_key(position_id: int, attempt: int) -> str:
    """What an exit is: the position and how many of its exits have failed before."""
    return f"x:{position_id}:{attempt}"


def quote_fields(quote: Quote | None, scale: Scale) -> dict[str, Any]:
    if quote is None:
        return {}
    return {
        "bid": scale.price(quote.bid),
        "bid_quantity": scale.quantity(quote.bid_quantity),
        "ask": scale.price(quote.ask),
        "ask_quantity": scale.quantity(quote.ask_quantity),
        "quote_ts": quote.ts_event,
    }


def scale_of(instrument: Instrument) -> Scale:
    return Scale(instrument.price_decimals, instrument.quantity_decimals)


def entry_rows(raised: RaisedSignal, instrument: Instrument, bindings: list[SessionStrategy]) -> list[Signal]:
    """One row per session and book that began with the version, of the version in force. An exit gives none."""
    scale = scale_of(instrument)
    median = raised.median_price
    return [
        Signal(
            session=binding.session,
            strategy_version_id=raised.version_id,
            book=binding.book,
            instrument=instrument,
            kind=Signal.Kind.ENTRY,
            trigger_key=entry_key(raised),
            ts_event=raised.ts_event,
            trade_id=raised.trade_id,
            price=scale.price(raised.price),
            change=raised.change,
            rsi=raised.rsi,
            turnover=raised.turnover,
            median_price=None
            if median is None
            else median.scaleb(-instrument.price_decimals).quantize(Decimal("1e-12")),
            confirmed_price=None if raised.confirmed is None else scale.price(raised.confirmed),
            unproven_minutes=raised.unproven_minutes,
            unproven_reason=raised.unproven_reason[:100],
            entry_id=raised.entry_id,
            ts_init=raised.ts_init,
            **quote_fields(raised.quote, scale),
        )
        for binding in bindings
        if binding.version_id == raised.base_version_id and raised.kind == Signal.Kind.ENTRY
    ]


def refusal_of(row: Signal) -> SignalRefusal:
    values = {name: getattr(row, name) for name in REFUSAL_FIELDS if name != "reason"}
    return SignalRefusal(**values, reason=row.unproven_reason)


def refuse(rows: list[Signal]) -> None:
    """Store signals that are not raised because their window holds UNPROVEN minutes. Each once."""
    refusals = [refusal_of(row) for row in rows]
    SignalRefusal.objects.bulk_create(refusals, ignore_conflicts=True, batch_size=500)


def call_rows(
    epoch_id: int, instruments: Mapping[str, Instrument], signals: Iterable[RaisedSignal]
) -> list[StrategyCall]:
    """The exit signals among these as rows, unsaved."""
    return [
        StrategyCall(
            epoch_id=epoch_id,
            base_id=raised.base_version_id,
            strategy_version_id=raised.version_id,
            instrument=instruments[raised.symbol],
            ts_event=raised.ts_event,
            trade_id=raised.trade_id,
            price=scale_of(instruments[raised.symbol]).price(raised.price),
            entry_id=raised.entry_id,
            ts_init=raised.ts_init,
        )
        for raised in signals
        if raised.kind == Signal.Kind.EXIT
    ]


def store_calls(
    epoch_id: int, instruments: Mapping[str, Instrument], signals: Iterable[RaisedSignal]
) -> list[StrategyCall]:
    """Store the exit signals among these, each once; returns all of them, also those that were there."""
    rows = call_rows(epoch_id, instruments, signals)
    if rows:
        StrategyCall.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)
    return rows


def exit_row(raised: RaisedExit, instrument: Instrument, position: Position, attempt: int) -> Signal:
    scale = scale_of(instrument)
    return Signal(
        session=position.account.session,
        strategy_version_id=position.strategy_version_id,
        book=position.account.book,
        instrument=instrument,
        kind=Signal.Kind.EXIT,
        exit_reason=raised.reason,
        position=position,
        trigger_key=exit_key(raised.position_id, attempt),
        ts_event=raised.ts_event,
        trade_id=raised.trade_id,
        price=scale.price(raised.price),
        confirmed_price=scale.price(raised.confirmed),
        entry_id=raised.entry_id,
        ts_init=raised.ts_init,
        **quote_fields(raised.quote, scale),
    )


def flatten_row(position: Position, *, price: Decimal, ts_event: int, entry_id: str, ts_init: int) -> Signal:
    """An exit because a person says so, unsaved: under the key of the next exit that the position would have."""
    return Signal(
        session=position.account.session,
        strategy_version_id=position.strategy_version_id,
        book=position.account.book,
        instrument=position.instrument,
        kind=Signal.Kind.EXIT,
        exit_reason=Signal.ExitReason.FLATTEN,
        position=position,
        trigger_key=exit_key(position.pk, position.exit_attempts),
        ts_event=ts_event,
        price=price,
        entry_id=entry_id,
        ts_init=ts_init,
    )


def store_new(rows: list[Signal]) -> list[Signal]:
    """Insert the signals that are not there yet; returns those, with their keys, oldest trigger first.

    A drain that reads entries again finds the same signals again; the unique key makes that harmless.
    """
    if not rows:
        return []
    keys = {(row.session_id, row.book, row.trigger_key) for row in rows}
    known = set(
        Signal.objects.filter(session_id__in={key[0] for key in keys}, trigger_key__in={key[2] for key in keys})
        .values_list("session_id", "book", "trigger_key")
    )  # fmt: skip
    fresh = [row for row in rows if (row.session_id, row.book, row.trigger_key) not in known]
    fresh.sort(key=lambda row: (row.ts_event, row.trigger_key))
    for row in fresh:
        row.save(force_insert=True)
    return fresh
