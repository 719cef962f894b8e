"""The ingest's metrics: read from the counters when somebody scrapes, so that a trade costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.ingest.report import Report
from workers.ingest.status import ConnectionStatus, State

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


def publish_latency(registry: CollectorRegistry) -> Histogram:
    """Seconds from the first event of a batch to the batch being on the stream."""
    return Histogram(
        "cdb_ingest_publish_latency_seconds",
        "From the first event of a batch to the batch on the stream",
        buckets=_BUCKETS,
        registry=registry,
    )


class IngestCollector(Collector):
    """Turns a `Report` into metric families."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not read what is not there yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._gauges()
        yield from _connection_families(self._report.statuses, self._report.clock.monotonic())

    def _counters(self) -> Iterator[Metric]:
        tally, statuses = self._report.tally, self._report.statuses
        frames = {**tally.frames, "text": sum(status.text_frames for status in statuses)}
        trades = {
            "received": tally.trades_received,
            "decoded": tally.trades_decoded,
            "published": tally.trades_published,
            "overflowed": tally.trades_overflowed,
        }
        quotes = {
            "received": tally.quotes_received,
            "decoded": tally.quotes_decoded,
            "published": tally.quotes_published,
        }
        yield _counter("frames", "Frames by kind", "kind", frames)
        yield _counter("trades", "Trades by stage", "stage", trades)
        yield _counter("quotes", "Quotes by stage; unchanged ones are received only", "stage", quotes)
        yield _counter("dropped", "Trades, quotes, frames and texts refused, by reason", "reason", tally.dropped)
        yield _counter("events", "Watermarks, coverage starts, losses and warm-up bars", "event", tally.events)
        yield _counter("redis_errors", "Redis errors by operation", "operation", tally.redis_errors)
        yield _counter("doorbell", "Doorbell rings by outcome", "outcome", tally.rings)
        yield _plain_counter("entries", "Stream entries appended", tally.entries_published)
        yield _plain_counter("warmup_failures", "Symbols that began without history", tally.warmup_failures)

    def _gauges(self) -> Iterator[Metric]:
        report = self._report
        ring_age = 0.0 if report.ring.oldest_at is None else report.clock.monotonic() - report.ring.oldest_at
        yield _gauge("ring_trades", "Trades that wait for Redis", report.ring.trades)
        yield _gauge("ring_age_seconds", "Age of the oldest batch that waits for Redis", ring_age)
        yield _gauge("inbox_frames", "Frames that wait for the consumer", report.inbox.frames)
        yield _gauge(
            "event_time_seconds", "Event time up to which everything arrived", report.tally.event_time_ms / 1000
        )
        yield _gauge("healthy", "1 if data really flows", float(report.health()[0]))


def _connection_families(statuses: Sequence[ConnectionStatus], now: float) -> list[Metric]:
    state = GaugeMetricFamily("cdb_ingest_connection_state", "1 for the present state", labels=["connection", "state"])
    transitions = CounterMetricFamily(
        "cdb_ingest_transitions", "State changes by the state entered", labels=["connection", "state"]
    )
    reconnects = CounterMetricFamily("cdb_ingest_reconnects", "Connections opened again", labels=["connection"])
    refused = GaugeMetricFamily("cdb_ingest_refused_channels", "Channels the exchange refuses", labels=["connection"])
    frame_age = GaugeMetricFamily("cdb_ingest_frame_age_seconds", "Age of the last frame", labels=["connection"])
    pong_age = GaugeMetricFamily("cdb_ingest_pong_age_seconds", "Age of the last PONG", labels=["connection"])
    for status in statuses:
        for each in State:
            state.add_metric([status.name, each], float(status.state is each))
            transitions.add_metric([status.name, each], status.transitions[each])
        reconnects.add_metric([status.name], status.reconnects)
        refused.add_metric([status.name], len(status.refused))
        for family, at in ((frame_age, status.last_frame_at), (pong_age, status.last_pong_at)):
            if at is not None:
                family.add_metric([status.name], now - at)
    return [state, transitions, reconnects, refused, frame_age, pong_age]


def _counter(name: str, words: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"cdb_ingest_{name}", words, labels=[label])
    for key, value in dict(values).items():
        family.add_metric([key], value)
    return family


def _plain_counter(name: str, words: str, value: int) -> Metric:
    return CounterMetricFamily(f"cdb_ingest_{name}", words, value=value)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"cdb_ingest_{name}", words, value=value)
