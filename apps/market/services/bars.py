"""Storing bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from django.db import connection

from apps.engine.model import BarChange, ClosedBar, LateTrade, ReplacedBar, Scale
from apps.market.models import Bar, Instrument

SIGNED_64 = 2**63
MODULUS_64 = 2**64
CHANGING: Final = [
    "open", "high", "low", "close", "volume", "turnover", "count",
    "first_trade_id", "last_trade_id", "hash_sum", "source", "revision",
]  # fmt: skip


def to_signed(value: int) -> int:
    """An unsigned 64-bit number as the signed one with the same bits, for a bigint column."""
    return value - MODULUS_64 if value >= SIGNED_64 else value


def bar_row(epoch_id: int, instrument: Instrument, bar: ClosedBar, *, fills: bool = False) -> Bar:
    """A closed minute as a row; `fills`: it comes from a repair."""
    known = Bar.Source.KLINES if bar.from_klines else Bar.Source.TRADES
    scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
    return Bar(
        epoch_id=epoch_id,
        instrument=instrument,
        minute=bar.minute,
        open=scale.price(bar.open),
        high=scale.price(bar.high),
        low=scale.price(bar.low),
        close=scale.price(bar.close),
        volume=scale.quantity(bar.volume),
        turnover=scale.turnover(bar.turnover),
        count=bar.count,
        first_trade_id=bar.first_trade_id,
        last_trade_id=bar.last_trade_id,
        hash_sum=to_signed(bar.hash_sum),
        source=Bar.Source.BACKFILL if fills else known,
    )


def store_bars(*, epoch_id: int, instruments: Mapping[str, Instrument], bars: Sequence[ClosedBar]) -> None:
    """Insert closed minutes. Part of the drain's transaction: a minute that is there already is an error."""
    Bar.objects.bulk_create([bar_row(epoch_id, instruments[bar.symbol], bar) for bar in bars], batch_size=500)


def change_bars(*, epoch_id: int, instruments: Mapping[str, Instrument], changes: Sequence[BarChange]) -> None:
    """What befell closed minutes, in order: one read and one write however many there are."""
    if not changes:
        return
    wanted = {(instruments[change.symbol].pk, change.minute) for change in changes}
    rows = Bar.objects.filter(
        epoch_id=epoch_id,
        instrument_id__in={instrument for instrument, _ in wanted},
        minute__in={minute for _, minute in wanted},
    )
    known = {(row.instrument_id, row.minute): row for row in rows if (row.instrument_id, row.minute) in wanted}
    for change in changes:
        instrument = instruments[change.symbol]
        key = (instrument.pk, change.minute)
        known[key] = changed(known.get(key), epoch_id, instrument, change)
    Bar.objects.bulk_create(
        known.values(),
        update_conflicts=True,
        unique_fields=["epoch", "instrument", "minute"],
        update_fields=CHANGING,
        batch_size=500,
    )


def changed(row: Bar | None, epoch_id: int, instrument: Instrument, change: BarChange) -> Bar:
    """The minute's row after a change; a row that is missing is made. Changes `row` in place."""
    scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
    if row is None:
        return bar_row(epoch_id, instrument, _lone(change), fills=isinstance(change, ReplacedBar))
    if isinstance(change, LateTrade):
        if row.source != Bar.Source.TRADES:
            return row  # the exchange's own sums hold this trade already
        _add_late(row, change, scale)
    elif isinstance(change, ReplacedBar):
        fresh = bar_row(epoch_id, instrument, _lone(change), fills=True)
        for name in CHANGING:
            if name != "revision":
                setattr(row, name, getattr(fresh, name))
    else:
        row.open = row.high = row.low = row.close = scale.price(change.close)
    row.revision += 1
    return row


def _add_late(row: Bar, trade: LateTrade, scale: Scale) -> None:
    """Open and close stay what decisions were made on."""
    price = scale.price(trade.price)
    row.high, row.low = max(row.high, price), min(row.low, price)
    row.volume += scale.quantity(trade.quantity)
    row.turnover += scale.turnover(trade.price * trade.quantity)
    row.count += 1
    row.hash_sum = to_signed((row.hash_sum + trade.trade_hash) % MODULUS_64)


def _lone(change: BarChange) -> ClosedBar:
    """The change as a bar of its own, for a minute that has none."""
    if isinstance(change, LateTrade):
        price, quantity = change.price, change.quantity
        return ClosedBar(
            change.symbol, change.minute, price, price, price, price, quantity, price * quantity, 1,
            change.trade_id, change.trade_id, change.trade_hash,
        )  # fmt: skip
    if isinstance(change, ReplacedBar):
        return ClosedBar(
            change.symbol, change.minute, change.open, change.high, change.low, change.close, change.volume,
            change.turnover, change.count, "", "", 0,
        )  # fmt: skip
    close = change.close
    return ClosedBar(change.symbol, change.minute, close, close, close, close, 0, 0, 0, "", "", 0)


def without_synchronous_commit() -> None:
    """For transactions that hold nothing which correctness rests on: they may be lost with the machine's power."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit TO OFF")
