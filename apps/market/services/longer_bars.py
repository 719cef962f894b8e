"""Storing bars of 5, 15 and 60 minutes: after the minutes they are made of, in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from apps.engine.bars_longer import HASH_MODULUS, LENGTHS, PARTS, Span, is_last, longer, start_of
from apps.engine.model import BarChange, ClosedBar, CoverageChange, RefusedBackfill
from apps.engine.money import exact
from apps.market.models import Bar, Coverage, Instrument, LongerBar
from apps.market.services.bars import to_signed

PRICES: Final = ("open", "high", "low", "close", "volume", "turnover", "count", "first_trade_id", "last_trade_id")
COUNTS: Final = ("revision", "proven", "backfilled", "unproven")
LONGER_FIELDS: Final = (*PRICES, "hash_sum", *COUNTS)

Place = tuple[int, int]  # instrument, minute


def store_longer_bars(
    *,
    epoch_id: int,
    instruments: Mapping[str, Instrument],
    bars: Sequence[ClosedBar],
    changes: Sequence[BarChange],
    coverage: Sequence[CoverageChange],
) -> None:
    """Bring the longer bars of these minutes up to date. Called when bars and coverage themselves have been stored."""
    closed = [bar for bar in bars if is_last(bar.minute, LENGTHS[0])]
    marked = [change for change in coverage if not isinstance(change, RefusedBackfill)]
    touched = {(instruments[row.symbol].pk, row.minute) for row in [*closed, *changes, *marked]}
    for length in LENGTHS:
        if not touched:
            return
        touched = _store(epoch_id, {(pk, start_of(minute, length)) for pk, minute in touched}, length)


@exact
def _store(epoch_id: int, places: set[Place], length: int) -> set[Place]:
    """Write those of these bars that have ended; returns which."""
    part = PARTS[length]
    minutes = {minute for _, start in places for minute in range(start, start + length, part)}
    where = {"epoch_id": epoch_id, "instrument_id__in": {pk for pk, _ in places}, "minute__in": minutes}
    parts: dict[int, dict[int, Span[Any]]] = {}
    for pk, span in _minutes(where) if part == 1 else _longer(where, part):
        if (pk, start_of(span.minute, length)) in places:
            parts.setdefault(pk, {})[span.minute] = span
    rows = [
        longer_row(epoch_id, pk, length, span)
        for pk, own in sorted(parts.items())
        for span in longer(own, part=part, length=length).values()
    ]
    LongerBar.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["epoch", "instrument", "length", "minute"],
        update_fields=LONGER_FIELDS,
        batch_size=500,
    )
    return {(row.instrument_id, row.minute) for row in rows}


def _minutes(where: Mapping[str, Any]) -> Iterable[tuple[int, Span[Any]]]:
    marks = Coverage.objects.filter(**where).order_by().values_list("instrument_id", "minute", "status")
    statuses = {(pk, minute): status for pk, minute, status in marks}
    for row in Bar.objects.filter(**where).order_by():
        yield row.instrument_id, minute_span(row, statuses.get((row.instrument_id, row.minute)))


def minute_span(row: Bar, status: str | None) -> Span[Any]:
    """A stored minute as the smallest part; `status` is the coverage ledger's, None where it has no row (PROVEN)."""
    values = {name: getattr(row, name) for name in (*PRICES, "revision")}
    return Span(
        minute=row.minute,
        hash_sum=row.hash_sum % HASH_MODULUS,
        proven=int(status is None),
        backfilled=int(status == Coverage.Status.BACKFILLED),
        unproven=int(status == Coverage.Status.UNPROVEN),
        **values,
    )


def _longer(where: Mapping[str, Any], length: int) -> Iterable[tuple[int, Span[Any]]]:
    rows = LongerBar.objects.filter(**where, length=length).order_by()
    for row in rows.values("instrument_id", "minute", "hash_sum", *PRICES, *COUNTS):
        yield row.pop("instrument_id"), Span(hash_sum=row.pop("hash_sum") % HASH_MODULUS, **row)


def longer_row(epoch_id: int, instrument_id: int, length: int, span: Span[Any]) -> LongerBar:
    values = {name: getattr(span, name) for name in (*PRICES, *COUNTS)}
    return LongerBar(
        epoch_id=epoch_id,
        instrument_id=instrument_id,
        length=length,
        minute=span.minute,
        hash_sum=to_signed(span.hash_sum),
        **values,
    )
