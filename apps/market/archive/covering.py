"""What a day's minutes are worth, per symbol, as runs of minutes: proven, backfilled or unproven with the reason.

Written from the ledger's rows. A repair can change a day afterwards, so the newest days are written anew as long as
they may still be repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl
from django.db import connection
from django.db.models import Max, Min

from apps.engine.model import MINUTE_MS
from apps.market.archive.layout import COVERAGE, DAY_MS, Folder, day_of
from apps.market.archive.tables import SCHEMAS, scan_table, write_table
from apps.market.models import Bar

DAY_MINUTES: Final = DAY_MS // MINUTE_MS
PROVEN: Final = "proven"
BACKFILLED: Final = "backfilled"
UNPROVEN: Final = "unproven"

# Neighbouring minutes of one status and reason have one distance between minute and row number.
_RUNS: Final = """
    WITH bars AS (
        SELECT instrument_id, minute FROM market_bar
         WHERE epoch_id = %(epoch)s AND minute BETWEEN %(first)s AND %(last)s
    ), marks AS (
        SELECT instrument_id, minute, status, reason FROM market_coverage
         WHERE epoch_id = %(epoch)s AND minute BETWEEN %(first)s AND %(last)s
    ), minutes AS (
        SELECT instrument_id, minute, coalesce(status, 'proven') AS status, coalesce(reason, '') AS reason
          FROM bars FULL JOIN marks USING (instrument_id, minute)
    ), numbered AS (
        SELECT *, minute - row_number() OVER (PARTITION BY instrument_id, status, reason ORDER BY minute) AS run
          FROM minutes
    )
    SELECT symbol, min(minute), max(minute), status, reason
      FROM numbered JOIN market_instrument ON market_instrument.id = instrument_id
     GROUP BY symbol, status, reason, run
     ORDER BY symbol, min(minute)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring minutes that are worth the same; both ends are included."""

    first_minute: int
    last_minute: int
    status: str
    reason: str


def ledger_days(*, epoch_id: int) -> list[int]:
    """Whole days since 1970 that the epoch has closed minutes of."""
    found = Bar.objects.filter(epoch_id=epoch_id).aggregate(first=Min("minute"), last=Max("minute"))
    if found["first"] is None:
        return []
    return list(range(found["first"] // DAY_MINUTES, found["last"] // DAY_MINUTES + 1))


def runs_of_day(*, epoch_id: int, day: int) -> dict[str, list[Run]]:
    """The ledger of one day, by symbol."""
    first = day * DAY_MINUTES
    with connection.cursor() as cursor:
        cursor.execute(_RUNS, {"epoch": epoch_id, "first": first, "last": first + DAY_MINUTES - 1})
        rows = cursor.fetchall()
    found: dict[str, list[Run]] = {}
    for symbol, *values in rows:
        found.setdefault(symbol, []).append(Run(*values))
    return found


def write_coverage(folder: Folder, *, epoch_id: int, days: list[int]) -> int:
    """Write what has changed of these days. Returns the number of files written."""
    written = 0
    for day in days:
        for symbol, runs in runs_of_day(epoch_id=epoch_id, day=day).items():
            path = folder.file(COVERAGE, day_of(day * DAY_MS), symbol)
            columns = {name: [getattr(run, name) for run in runs] for name in SCHEMAS[COVERAGE]}
            frame = pl.DataFrame(columns, schema=SCHEMAS[COVERAGE])
            if not path.exists() or not scan_table(path, COVERAGE).collect().equals(frame):
                write_table(path, frame)
                written += 1
    return written


def read_coverage(folder: Folder, day: str, symbol: str) -> list[Run]:
    """Runs of minutes in order; none where nothing was stored."""
    path = folder.file(COVERAGE, day, symbol)
    return [Run(*row) for row in scan_table(path, COVERAGE).collect().iter_rows()] if path.exists() else []
