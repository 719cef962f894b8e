"""The wall clock of those who ask venues: told by the door, else read from the database, which all processes share."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection


def moment(now_ms: int | None) -> datetime:
    """`now_ms` (wall clock) as a time; without it the database's own."""
    if now_ms is not None:
        return datetime.fromtimestamp(now_ms / 1000, UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now
