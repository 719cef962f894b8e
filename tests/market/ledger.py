"""Rows of the ledger for tests: closed minutes, holes in them, and what the ingest answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.bus.orders import RepairOutcome
from apps.market.models import Coverage, EpochInstrument, FeedEpoch, Gap
from apps.staff import times
from tests import factories
from tests.factories import START_MINUTE

NOW_MS = 1_800_000_000_000
NOW: datetime = times.moment(NOW_MS)


def member(epoch: FeedEpoch, symbol: str, *, quantity_decimals: int = 2, **fields: Any) -> EpochInstrument:
    instrument = factories.InstrumentFactory.create(symbol=symbol, quantity_decimals=quantity_decimals)
    return factories.EpochInstrumentFactory.create(epoch=epoch, instrument=instrument, **fields)


def hole(
    row: EpochInstrument, *minutes: int, closed: bool = True, due_ms: int | None = NOW_MS, gap: Gap | None = None
) -> list[Coverage]:
    """UNPROVEN minutes, counted from the first minute of the tests; with bars if they are closed."""
    made = []
    for number in minutes:
        minute = START_MINUTE + number
        if closed:
            factories.BarFactory.create(epoch=row.epoch, instrument=row.instrument, minute=minute)
        made.append(
            factories.CoverageFactory.create(
                epoch=row.epoch,
                instrument=row.instrument,
                minute=minute,
                gap=gap,
                next_attempt_at=None if due_ms is None else times.moment(due_ms),
            )
        )
    return made


def gap(row: EpochInstrument, *minutes: int, **fields: Any) -> Gap:
    """A gap with its minutes in the ledger."""
    made = Gap.objects.create(
        epoch=row.epoch,
        instrument=row.instrument,
        first_minute=START_MINUTE + min(minutes),
        last_minute=START_MINUTE + max(minutes),
        reason="gap of 3 s",
        **fields,
    )
    hole(row, *minutes, gap=made)
    return made


def answer(row: EpochInstrument, number: int, attempt: int = 1, status: str = "failed", **fields: Any) -> RepairOutcome:
    values: dict[str, Any] = {"detail": "HTTP 503", "rows": 0, "source": "trades", "at_ms": NOW_MS, **fields}
    return RepairOutcome(row.instrument.symbol, START_MINUTE + number, attempt, status, **values)
