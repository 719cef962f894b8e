"""Storing bars and coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db import connection
from django.db.models import F
from django.db.models.functions import Greatest, Least

from apps.engine.model import ClosedBar, LateTrade, Scale, UnprovenMinute
from apps.market.models import Bar, Coverage, Instrument

SIGNED_64 = 2**63
MODULUS_64 = 2**64


def to_signed(value: int) -> int:
    """An unsigned 64-bit number as the signed one with the same bits, for a bigint column."""
    return value - MODULUS_64 if value >= SIGNED_64 else value


def bar_row(epoch_id: int, instrument: Instrument, bar: ClosedBar) -> Bar:
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
        source=Bar.Source.KLINES if bar.from_klines else Bar.Source.TRADES,
    )


def store_bars(*, epoch_id: int, instruments: Mapping[str, Instrument], bars: Sequence[ClosedBar]) -> None:
    """Insert closed minutes. Part of the drain's transaction: a minute that is there already is an error."""
    Bar.objects.bulk_create([bar_row(epoch_id, instruments[bar.symbol], bar) for bar in bars], batch_size=500)


def store_backfilled(*, epoch_id: int, instruments: Mapping[str, Instrument], bars: Sequence[ClosedBar]) -> None:
    """Minutes that came from klines are BACKFILLED: sums and prices are the exchange's, trades were not seen."""
    rows = [
        Coverage(
            epoch_id=epoch_id,
            instrument=instruments[bar.symbol],
            minute=bar.minute,
            status=Coverage.Status.BACKFILLED,
            reason="history from klines",
        )
        for bar in bars
        if bar.from_klines
    ]
    Coverage.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


def store_unproven(*, epoch_id: int, instruments: Mapping[str, Instrument], marks: Sequence[UnprovenMinute]) -> None:
    """The first reason for a minute stays."""
    rows = [
        Coverage(
            epoch_id=epoch_id,
            instrument=instruments[mark.symbol],
            minute=mark.minute,
            status=Coverage.Status.UNPROVEN,
            reason=mark.reason[:100],
        )
        for mark in marks
    ]
    Coverage.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)


def revise_bars(*, epoch_id: int, instruments: Mapping[str, Instrument], late: Sequence[LateTrade]) -> None:
    """Add late trades to the bars of their minutes; open and close stay what decisions were made on."""
    for trade in late:
        instrument = instruments[trade.symbol]
        scale = Scale(instrument.price_decimals, instrument.quantity_decimals)
        price, quantity = scale.price(trade.price), scale.quantity(trade.quantity)
        known = Bar.objects.select_for_update().filter(epoch_id=epoch_id, instrument=instrument, minute=trade.minute)
        row = known.first()
        if row is None:
            lone = ClosedBar(
                trade.symbol, trade.minute, trade.price, trade.price, trade.price, trade.price, trade.quantity,
                trade.price * trade.quantity, 1, trade.trade_id, trade.trade_id, trade.trade_hash,
            )  # fmt: skip
            bar_row(epoch_id, instrument, lone).save(force_insert=True)
            continue
        if row.source == Bar.Source.KLINES:
            continue  # the exchange's own sums hold this trade already
        known.update(
            high=Greatest("high", price),
            low=Least("low", price),
            volume=F("volume") + quantity,
            turnover=F("turnover") + scale.turnover(trade.price * trade.quantity),
            count=F("count") + 1,
            hash_sum=to_signed((row.hash_sum + trade.trade_hash) % MODULUS_64),
            revision=F("revision") + 1,
        )


def without_synchronous_commit() -> None:
    """For transactions that hold nothing which correctness rests on: they may be lost with the machine's power."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit TO OFF")
