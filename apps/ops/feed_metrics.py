"""The feed's part of `/metrics` of the web process: the ledger, gaps, connections and the lease, as stored.

The ingest counts what passes through it and exposes that itself; here stands what outlives it. Labels come from closed
lists, so their number is bounded whatever the exchange or the ingest says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import redis
from django.conf import settings
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from apps.bus.feed import FeedReport
from apps.bus.feed_details import FeedDetails, read_details
from apps.market import coverage, feed_history
from apps.market.selectors import archive_failures
from apps.ops.selectors.feed import client
from apps.staff import times

DAY_MINUTES: Final = 24 * 60
STATES: Final = ("CONNECTING", "SUBSCRIBING", "STREAMING", "STALE", "ROTATING", "BLOCKED", "CLOSED")
CATEGORIES_MAX: Final = 40
OTHER: Final = "other"


def families(epoch_id: int, report: FeedReport | None) -> list[Metric]:
    """What is unknown is left out."""
    counts = coverage.minute_counts(epoch_id=epoch_id, minutes=DAY_MINUTES)
    gaps = coverage.gap_counts(epoch_id=epoch_id)
    known: dict[tuple[str, str], float | None] = {
        ("cdb_feed_lease_age_seconds", "Since the holder of the lease renewed it"): _lease_age(epoch_id),
        ("cdb_feed_swept_age_seconds", "How far the comparison with klines is behind, worst symbol"): _swept(epoch_id),
        ("cdb_feed_standby", "1 if a second ingest waits to take over"): _standby(_details(epoch_id)),
        ("cdb_feed_blocked_channels", "Channels that the exchange refuses"): _refused(report),
        ("cdb_archive_failures", "Attempts to archive that failed in a row, worst shard"): archive_failures(
            epoch_id=epoch_id
        ),
    }
    found: list[Metric] = [
        _labelled("cdb_feed_gaps", "Gaps of this feed epoch by what became of them", "status", gaps),
        _transitions(epoch_id),
        *(GaugeMetricFamily(name, text, value=value) for (name, text), value in known.items() if value is not None),
    ]
    if counts:
        text = "Minutes of the last 24 h of event time by what is proven of them"
        found.append(_labelled("cdb_feed_minutes", text, "status", counts))
    if report is not None:
        found.append(_connections(report))
    return found


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _connections(report: FeedReport) -> GaugeMetricFamily:
    states = dict.fromkeys((*STATES, OTHER), 0)
    for connection in report.connections:
        states[connection.state if connection.state in STATES else OTHER] += 1
    return _labelled("cdb_feed_connections", "Connections to the exchange by state", "state", states)


def _transitions(epoch_id: int) -> CounterMetricFamily:
    """Of those that are kept. The ingest's own counter is exact, but begins anew with each ingest."""
    text = "Changes of state of connections in this feed epoch, of the newest 10,000"
    family = CounterMetricFamily("cdb_feed_transitions", text, labels=["category"])
    rows = sorted(feed_history.transition_counts(epoch_id=epoch_id).items(), key=lambda row: -row[1])
    for category, n in rows[:CATEGORIES_MAX]:
        family.add_metric([category], n)
    if len(rows) > CATEGORIES_MAX:
        family.add_metric([OTHER], sum(n for _, n in rows[CATEGORIES_MAX:]))
    return family


def _refused(report: FeedReport | None) -> int | None:
    return None if report is None else sum(len(connection.refused) for connection in report.connections)


def _lease_age(epoch_id: int) -> float | None:
    found = feed_history.lease(epoch_id=epoch_id)
    return None if found is None or found.age_ms is None else found.age_ms / 1000


def _swept(epoch_id: int) -> float | None:
    """In event time, so that it means the same at every speed of a replay; unknown until every symbol had its turn."""
    last, swept = coverage.newest_minute(epoch_id=epoch_id), coverage.oldest_sweep(epoch_id=epoch_id)
    return None if last is None or swept is None else max(last - swept, 0) * times.MINUTE_MS / 1000


def _details(epoch_id: int) -> FeedDetails | None:
    try:
        return read_details(client(settings.REDIS_URL), epoch=epoch_id)
    except redis.RedisError:
        return None


def _standby(details: FeedDetails | None) -> float | None:
    return None if details is None or details.standby is None else float(details.standby)
