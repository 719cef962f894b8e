"""`GET /health`: whether data flowed, part by part. That a port answers is not health.

Nobody has to sign in, so it says nothing that must not be known: no names of people, no addresses, no money. What the
exchange refuses is named, because that is what whoever is called at night has to know.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.db.models import Count, Min, Q
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from apps.bus import streams
from apps.bus.feed import FeedReport
from apps.engine import timeouts
from apps.engine.reconciling import Compared
from apps.market.coverage import GatedSymbol, gap_counts, gated
from apps.market.feed_history import Lease, lease
from apps.market.models import Gap, ShardCursor
from apps.ops.selectors.feed import blocked_connections, client, refused_channels
from apps.ops.selectors.state import State, read_state, window_minutes
from apps.outbox.models import OutboxEvent
from apps.signals.models import Signal
from apps.staff import times

FEED_AGE_MAX_MS: Final = timeouts.FEED_SILENCE_WARN_SECONDS * 1000
DRAIN_LAG_MAX_MS: Final = 10_000
DECISION_MAX_MS: Final = 10_000
OUTBOX_MAX_MS: Final = 10_000
HEARTBEAT_MAX_MS: Final = 45_000
HEARTBEATS: Final = ("steward", "beat")
REFUSALS_NAMED: Final = 5
REFUSAL_MAX: Final = 120


@dataclass(frozen=True, slots=True)
class Part:
    """One part: `effect` says what it last did, or why it counts as not working."""

    name: str
    ok: bool
    effect: str
    age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Health:
    parts: tuple[Part, ...]
    drain_lag_seconds: float | None = None
    undecided_signals: int | None = None
    unpublished: int | None = None

    @property
    def ok(self) -> bool:
        return all(part.ok for part in self.parts)

    def as_json(self, now_ms: int) -> dict[str, Any]:
        return {
            "healthy": self.ok,
            "as_of": times.iso(now_ms),
            "parts": {
                part.name: {
                    "ok": part.ok,
                    "effect": part.effect,
                    "age_s": None if part.age_ms is None else part.age_ms / 1000,
                }
                for part in self.parts
            },
        }


@require_safe
def view(_request: HttpRequest) -> JsonResponse:
    """200 if every part works, else 503. Never an error page: a part that cannot be asked is a part that fails."""
    now_ms = time.time_ns() // 1_000_000
    try:
        health = read_health(read_state(now_ms), now_ms)
    except (DatabaseError, InterfaceError):
        health = Health((Part("database", False, "does not answer"),))
    response = JsonResponse(health.as_json(now_ms), status=200 if health.ok else 503)
    response["Cache-Control"] = "no-store"
    return response


def read_health(state: State, now_ms: int) -> Health:
    """Every part as of `now_ms`. Raises the database's error if it does not answer."""
    database = Part("database", True, "answered")
    if state.session is None:
        return Health((database, _redis(), Part("session", False, "none is open, so nothing flows")))
    lag_ms = drain_lag_ms(state.session.epoch_id, now_ms)
    waiting = _waiting(state.session.pk, now_ms)
    epoch_id = state.session.epoch_id
    parts = (
        database,
        Part("redis", lag_ms is not None, "answered" if lag_ms is not None else "does not answer"),
        _feed(state),
        _blocked(state.report),
        _lease(lease(epoch_id=epoch_id)),
        _gaps(gap_counts(epoch_id=epoch_id), gated(epoch_id=epoch_id, window_minutes=window_minutes(state.session))),
        _drain(lag_ms),
        waiting.decisions,
        waiting.outbox,
        _reconciliation(state.snapshot.compared, now_ms),
        *_heartbeats(now_ms),
    )
    return Health(parts, None if lag_ms is None else lag_ms / 1000, waiting.undecided, waiting.unpublished)


def _redis() -> Part:
    try:
        client(settings.REDIS_URL).ping()
    except redis.RedisError:
        return Part("redis", False, "does not answer")
    return Part("redis", True, "answered")


def _feed(state: State) -> Part:
    """A quiet market is healthy while quotes or pongs arrive, and so is a recording that has been played to its end.

    A connection that answers pings and sends nothing else is STALE after FEED_SILENCE_WARN_SECONDS and counts as none.
    """
    refused = {symbol for symbol, _ in state.snapshot.refused}
    ages = [feed.age_ms for feed in state.snapshot.feeds if feed.symbol not in refused]
    known = [age for age in ages if age is not None]
    if not ages or len(known) < len(ages):
        return Part("feed", False, f"{len(ages) - len(known)} of {len(ages)} symbols have no connection that streams")
    oldest = max(known)
    return Part("feed", oldest <= FEED_AGE_MAX_MS, f"oldest frame or pong of {len(ages)} symbols", oldest)


def _blocked(report: FeedReport | None) -> Part:
    """What the exchange refuses, by name and with its words: every channel of a connection, or single ones."""
    refused = refused_channels(report)
    connections = blocked_connections(report)
    if not refused and not connections:
        return Part("subscriptions", True, "none is refused" if report else "not known without the ingest's report")
    named = [f"{symbol}: {text}"[:REFUSAL_MAX] for symbol, text in refused[:REFUSALS_NAMED]]
    if len(refused) > REFUSALS_NAMED:
        named.append(f"{len(refused) - REFUSALS_NAMED} more refused")
    blocked = [f"{name} is BLOCKED" for name in connections]
    return Part("subscriptions", False, "; ".join([*blocked, *named]))


def _lease(found: Lease | None) -> Part:
    if found is None or not found.token:
        return Part("lease", False, "no ingest has taken it")
    if found.age_ms is None:
        return Part("lease", False, "was given back and nobody has taken it")
    return Part("lease", found.held, "last renewed" if found.held else "nobody holds it; last renewed", found.age_ms)


def _gaps(counts: dict[str, int], held_up: list[GatedSymbol]) -> Part:
    """Open gaps are being repaired, which is healthy. Minutes that nothing will repair are not, while they hold up
    signals.
    """
    effect = f"{counts[Gap.Status.OPEN]} open, {counts[Gap.Status.UNFILLABLE]} unfillable"
    lost = [row.symbol for row in held_up if row.final]
    if not lost:
        return Part("gaps", True, f"{effect}; {len(held_up)} symbols wait for a repair")
    return Part("gaps", False, f"{effect}; {len(lost)} symbols raise no entry because of minutes that stay UNPROVEN")


def _drain(lag_ms: int | None) -> Part:
    if lag_ms is None:
        return Part("drain", False, "cannot be told without Redis")
    if lag_ms == 0:
        return Part("drain", True, "everything published was read", 0)
    return Part("drain", lag_ms <= DRAIN_LAG_MAX_MS, "oldest unread entry", lag_ms)


def drain_lag_ms(epoch_id: int, now_ms: int) -> int | None:
    """Age of the oldest entry that no drain has read, 0 if there is none; None if Redis does not answer.

    Entry ids begin with the wall time at which they were published.
    """
    seen = dict(ShardCursor.objects.filter(epoch_id=epoch_id).values_list("shard", "seen_through"))
    reader = client(settings.REDIS_URL)
    try:
        unread = [streams.read(reader, epoch_id, shard, after=after, count=1) for shard, after in seen.items()]
    except redis.RedisError:
        return None
    published_ms = [streams.entry_order(rows[0][0])[0] for rows in unread if rows]
    return max((max(now_ms - ms, 1) for ms in published_ms), default=0)


@dataclass(frozen=True, slots=True)
class _Waiting:
    decisions: Part
    outbox: Part
    undecided: int
    unpublished: int


def _waiting(session_id: int, now_ms: int) -> _Waiting:
    undecided = Signal.objects.filter(session_id=session_id, decisions=None).aggregate(
        n=Count("id"), oldest=Min("created_at")
    )
    events = OutboxEvent.objects.aggregate(
        n=Count("id", filter=Q(published_at=None)), oldest=Min("created_at", filter=Q(published_at=None))
    )
    return _Waiting(
        _backlog("decisions", "signals wait for a decision", undecided, now_ms, DECISION_MAX_MS),
        _backlog("outbox", "events wait to be published", events, now_ms, OUTBOX_MAX_MS),
        undecided["n"],
        events["n"],
    )


def _backlog(name: str, what: str, row: dict[str, Any], now_ms: int, limit_ms: int) -> Part:
    if not row["n"]:
        return Part(name, True, f"no {what}")
    age_ms = max(now_ms - times.to_ms(row["oldest"]), 0)
    return Part(name, age_ms <= limit_ms, f"{row['n']} {what}, oldest", age_ms)


def _reconciliation(compared: Compared | None, now_ms: int) -> Part:
    """Whether our books were compared with the venue's lately, and agreed or were made to."""
    name = "reconciliation"
    if compared is None:
        return Part(name, False, "not known without an account and its limits")
    if (late := compared.late(now_ms)) is not None:
        return Part(name, False, f"{late.what} were not compared with the venue's", late.age_ms)
    age_ms = None if compared.orders_ms is None else max(now_ms - compared.orders_ms, 0)
    if compared.differences:
        return Part(name, False, f"{compared.differences} open differences with the venue; compared", age_ms)
    return Part(name, True, "first comparison is not due yet" if age_ms is None else "no open difference", age_ms)


def _heartbeats(now_ms: int) -> list[Part]:
    """The last effect of those who keep the others going, as they wrote it themselves."""
    try:
        values = client(settings.REDIS_URL).mget([streams.heartbeat_key(name) for name in HEARTBEATS])
    except redis.RedisError:
        return [Part(name, False, "cannot be told without Redis") for name in HEARTBEATS]
    return [_heartbeat(name, value, now_ms) for name, value in zip(HEARTBEATS, values, strict=True)]  # type: ignore[arg-type]


def _heartbeat(name: str, value: bytes | None, now_ms: int) -> Part:
    if value is None or not value.isdigit():
        return Part(name, False, "no heartbeat")
    age_ms = max(now_ms - int(value), 0)
    return Part(name, age_ms <= HEARTBEAT_MAX_MS, "heartbeat", age_ms)
