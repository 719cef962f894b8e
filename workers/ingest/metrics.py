"""The ingest's metrics: read from the counters when somebody scrapes, so that a trade costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.ingest.report import DELIVERING, Report
from workers.ingest.status import Category, State

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
        yield from self._operators()
        yield _transitions(self._report.transitions.counts)
        yield from _connection_families(self._report)

    def _counters(self) -> Iterator[Metric]:
        tally = self._report.tally
        frames = {**tally.frames, "text": tally.texts}
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
        rotated = self._report.transitions.counts[State.STREAMING, Category.ROTATED]
        yield _plain_counter("rotations", "Moves to a successor before a connection's day was over", rotated)
        yield _plain_counter("losses", "Declarations that trades may be missing", tally.events["loss"])
        yield _plain_counter("entries", "Stream entries appended", tally.entries_published)
        yield _plain_counter("warmup_failures", "Symbols that began without history", tally.warmup_failures)

    def _operators(self) -> Iterator[Metric]:
        """Under the names that operators of the former system know."""
        report, tally = self._report, self._report.tally
        messages = sum(tally.frames.values()) + tally.texts + tally.decode_errors
        yield CounterMetricFamily("ws_messages_received", "Frames received, texts included", messages)
        yield CounterMetricFamily("ws_reconnects", "Connections opened again", tally.reconnects)
        yield CounterMetricFamily("redis_publish", "Stream entries appended", tally.entries_published)
        yield CounterMetricFamily("redis_publish_errors", "Appends that failed", tally.redis_errors["append"])
        yield CounterMetricFamily("decoded_messages", "Market frames decoded", sum(tally.frames.values()))
        yield CounterMetricFamily("decode_errors", "Binary frames refused", tally.decode_errors)
        yield GaugeMetricFamily("last_message_ts_ms", "Wall clock of the last frame", report.last_message_ms)

    def _gauges(self) -> Iterator[Metric]:
        report = self._report
        ring_age = 0.0 if report.ring.oldest_at is None else report.clock.monotonic() - report.ring.oldest_at
        yield _gauge("ring_trades", "Trades that wait for Redis", report.ring.trades)
        yield _gauge("ring_age_seconds", "Age of the oldest batch that waits for Redis", ring_age)
        yield _gauge("inbox_frames", "Frames that wait for the consumer", report.inbox.frames)
        yield _gauge(
            "event_time_seconds", "Event time up to which everything arrived", report.tally.event_time_ms / 1000
        )
        yield _gauge("lag_seconds", "Wall clock less event time", report.lag_seconds)
        yield _gauge("symbols", "Symbols to follow", report.roster.wanted)
        yield _gauge("lease_valid", "1 while this ingest may write", float(report.right.valid()))
        yield _gauge("standby", "1 if another ingest waits to take over", float(report.standby))
        yield _gauge("healthy", "1 if data really flows", float(report.health()[0]))


def _connection_families(report: Report) -> list[Metric]:
    """Labelled by connection; there are as many as the present symbols need."""
    now = report.clock.monotonic()
    up = GaugeMetricFamily("ws_connection_status", "1 while the connection delivers", labels=["connection"])
    state = GaugeMetricFamily("cdb_ingest_connection_state", "1 for the present state", labels=["connection", "state"])
    refused = GaugeMetricFamily("cdb_ingest_refused_channels", "Channels the exchange refuses", labels=["connection"])
    missing = GaugeMetricFamily("cdb_ingest_missing_channels", "Channels without an answer", labels=["connection"])
    silent = GaugeMetricFamily("cdb_ingest_silent_symbols", "Symbols without frames", labels=["connection"])
    age = GaugeMetricFamily("cdb_ingest_connection_age_seconds", "Age of the open link", labels=["connection"])
    frame_age = GaugeMetricFamily("cdb_ingest_frame_age_seconds", "Age of the last frame", labels=["connection"])
    pong_age = GaugeMetricFamily("cdb_ingest_pong_age_seconds", "Age of the last PONG", labels=["connection"])
    for status in report.roster.statuses:
        name, vitals = status.name, status.vitals
        up.add_metric([name], float(status.state in DELIVERING))
        for each in State:
            state.add_metric([name, each], float(status.state is each))
        refused.add_metric([name], len(status.refused))
        missing.add_metric([name], len(status.missing))
        silent.add_metric([name], len(report.feeds.silent(name)))
        if vitals.opened_ms is not None:
            age.add_metric([name], (report.clock.wall_ms() - vitals.opened_ms) / 1000)
        for family, at in ((frame_age, vitals.last_frame_at), (pong_age, vitals.last_pong_at)):
            if at is not None:
                family.add_metric([name], now - at)
    return [up, state, refused, missing, silent, age, frame_age, pong_age]


def _transitions(counts: Mapping[tuple[State, Category], int]) -> Metric:
    words = "State changes by the state entered and the reason's category"
    family = CounterMetricFamily("cdb_ingest_transitions", words, labels=["state", "category"])
    for (state, category), count in dict(counts).items():
        family.add_metric([state, category], count)
    return family


def _counter(name: str, words: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"cdb_ingest_{name}", words, labels=[label])
    for key, value in dict(values).items():
        family.add_metric([key], value)
    return family


def _plain_counter(name: str, words: str, value: int) -> Metric:
    return CounterMetricFamily(f"cdb_ingest_{name}", words, value=value)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"cdb_ingest_{name}", words, value=value)
