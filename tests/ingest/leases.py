"""An epoch with its lease in the tests' PostgreSQL, and a clock that a test moves."""

from __future__ import annotations

from urllib.parse import quote

import psycopg
from django.db import connection

from apps.market.models import FeedEpoch, IngestLease, ShardCursor
from workers.ingest.clock import Clock


def database_url() -> str:
    """The address of the tests' database, for processes and threads that do not use Django."""
    parts = connection.settings_dict
    return f"postgresql://{quote(parts['USER'])}:{quote(parts['PASSWORD'])}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"


def make_epoch(shard_count: int = 2) -> FeedEpoch:
    epoch = FeedEpoch.objects.create(
        kind="synthetic", source="synthetic:1", description="tests", shard_count=shard_count
    )
    ShardCursor.objects.bulk_create(ShardCursor(epoch=epoch, shard=shard) for shard in range(shard_count))
    return epoch


def lease_of(epoch: FeedEpoch) -> IngestLease:
    return IngestLease.objects.get(epoch=epoch)


def end_sessions() -> int:
    """As a restart of the server does: every session of a lease ends at once. Returns how many."""
    with psycopg.connect(database_url(), autocommit=True) as own:
        rows = own.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'ingest lease' AND datname = current_database()"
        ).fetchall()
    return len(rows)


class Hands(Clock):
    """A clock by which leases are judged and that stands still unless a test moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def since_boot(self) -> float:
        return self.passed
