"""What the feed page shows: connections and their past, the ledger's coverage, gaps, and the choice of symbols."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import redis
from django.conf import settings
from django.template.loader import render_to_string

from apps.bus.clients import glance
from apps.bus.feed import BLOCKED, DELIVERING
from apps.bus.feed_details import BudgetDetails, ConnectionDetails, FeedDetails, read_details
from apps.engine import timeouts
from apps.live import coverage
from apps.live.sources import State
from apps.live.words import closed_by_words
from apps.market import feed_history
from apps.market.coverage import OpenGap, gap_counts, unfilled_gaps
from apps.market.models import FeedTransition, Gap
from apps.staff import numbers, times

TRANSITIONS_SHOWN: Final = 20
GAPS_SHOWN: Final = 20
CONNECTIONS_SHOWN: Final = 8
SYMBOLS_SHOWN: Final = 30
NAMES_SHOWN: Final = 5
CHOICE_ROWS_SHOWN: Final = 20
MEGABYTE: Final = 1_000_000
SECTIONS: Final = ("feed_state", "feed_connections", "feed_coverage", "feed_gaps", "feed_transitions", "feed_choice")


@dataclass(frozen=True, slots=True)
class Span:
    """How far the coverage picture reaches back, in minutes, and how many share a cell."""

    page: str
    words: str
    minutes: int
    bucket: int


SIX_HOURS: Final = Span("feed", "6 h", 360, 5)
DAY: Final = Span("feed-day", "24 h", 1440, 20)
SPANS: Final = (SIX_HOURS, DAY)


@lru_cache(maxsize=1)
def _client(url: str) -> redis.Redis:
    return glance(url)


def details_of(epoch_id: int) -> FeedDetails | None:
    """The ingest's newest report; None if there is none or Redis does not answer."""
    try:
        return read_details(_client(settings.REDIS_URL), epoch=epoch_id)
    except redis.RedisError:
        return None


def render(state: State, now_ms: int, span: Span, *, keep: bool = False) -> dict[str, str]:
    """The HTML of every section, by section. `keep`: the coverage picture may be a few seconds old."""
    common = {"session": state.session, "now_ms": now_ms, "channels_max": timeouts.EXCHANGE_SUBSCRIPTIONS_MAX}
    contexts = dict.fromkeys(SECTIONS, common) if state.session is None else _contexts(state, now_ms)
    html = {
        name: render_to_string(f"live/sections/{name}.html", {**common, **contexts[name]})
        for name in SECTIONS
        if name != "feed_coverage"
    }
    return {**html, "feed_coverage": coverage.html(state.session, now_ms, span.minutes, span.bucket, keep=keep)}


def _contexts(state: State, now_ms: int) -> dict[str, dict[str, Any]]:
    epoch_id = state.session.epoch_id
    details = details_of(epoch_id)
    connections = details.connections if details else []
    return {
        "feed_state": _state(state, details, now_ms),
        "feed_connections": {"connections": sorted((_connection(row, now_ms) for row in connections), key=_works)},
        "feed_gaps": _gaps(epoch_id, now_ms),
        "feed_transitions": {
            "rows": [_transition(row, now_ms)
                     for row in feed_history.transitions(epoch_id=epoch_id, limit=TRANSITIONS_SHOWN)]
        },
        "feed_choice": _choice(epoch_id, now_ms),
    }  # fmt: skip


def summary(state: State, now_ms: int) -> dict[str, Any]:
    """For the live page: what the feed page says first, a few connections, and of many symbols those that lack data."""
    if state.session is None:
        return {"connections": [], "symbols": []}
    details = details_of(state.session.epoch_id)
    rows = sorted((_connection(row, now_ms) for row in details.connections), key=_works) if details else []
    feeds = state.snapshot.feeds
    shown = feeds if len(feeds) <= SYMBOLS_SHOWN else [feed for feed in feeds if not feed.fresh][:SYMBOLS_SHOWN]
    return {
        **_state(state, details, now_ms),
        "connections": rows[:CONNECTIONS_SHOWN],
        "connection_count": len(rows),
        "more_connections": max(len(rows) - CONNECTIONS_SHOWN, 0),
        "feeds": [
            {"symbol": feed.symbol, "fresh": feed.fresh, "at_ms": None if feed.age_ms is None else now_ms - feed.age_ms}
            for feed in shown
        ],
    }


def _state(state: State, details: FeedDetails | None, now_ms: int) -> dict[str, Any]:
    connections = details.connections if details else []
    feeds = state.snapshot.feeds
    return {
        "fresh": sum(feed.fresh for feed in feeds),
        "symbols": len(feeds),
        "connection_count": len(connections),
        "delivering": sum(row.state in DELIVERING for row in connections),
        "blocked": sum(row.state == BLOCKED for row in connections),
        "refused": _some(sorted({channel.rpartition("@")[2] for row in connections for channel in row.refused})),
        "silent": _some(sorted({symbol for row in connections for symbol in row.silent})),
        "details": details,
        "reported": details is not None,
        "standby": details.standby if details else None,
        "ring": details.ring if details else None,
        "repairs": details.repairs if details else None,
        "budget": _budget(details.budget) if details and details.budget else "",
        "lease": _lease(state.session.epoch_id, now_ms),
    }  # fmt: skip


def _budget(budget: BudgetDetails) -> str:
    ceiling = "" if budget.per_10_seconds is None else f"; at most {budget.per_10_seconds} in 10 s"
    parts = [f"weight {numbers.count(budget.taken)} since the start{ceiling}"]
    if budget.waited_seconds >= 1:
        parts.append(f"waited {times.duration(int(budget.waited_seconds * 1000))} for its turn")
    if budget.blocked_seconds:
        parts.append(f"▲ the exchange asks for a pause of {times.duration(int(budget.blocked_seconds * 1000))}")
    if budget.alone:
        parts.append("▲ Redis is away, each process keeps to a tenth")
    return "; ".join(parts)


def _lease(epoch_id: int, now_ms: int) -> dict[str, Any] | None:
    lease = feed_history.lease(epoch_id=epoch_id)
    if lease is None or not lease.token:
        return None
    return {
        "token": lease.token,
        "holder": lease.holder,
        "held": lease.held,
        "at_ms": None if lease.age_ms is None else now_ms - lease.age_ms,
        "held_for": None if lease.held_for_ms is None else times.duration(lease.held_for_ms),
    }


def _connection(row: ConnectionDetails, now_ms: int) -> dict[str, Any]:
    left_ms = None
    if row.opened_ms is not None and row.state in DELIVERING:
        left_ms = max(row.opened_ms + timeouts.FEED_ROTATION_SECONDS * 1000 - now_ms, 0)
    wait_ms = None if row.blocked_until_ms is None else max(row.blocked_until_ms - now_ms, 0)
    return {
        "name": row.name,
        "state": row.state,
        "works": row.state in DELIVERING,
        "reason": row.reason,
        "since": None if not row.since_ms else times.duration(now_ms - row.since_ms),
        "frame_ms": row.last_frame_ms,
        "pong_ms": row.last_pong_ms,
        "subscriptions": row.subscriptions,
        "symbols": len(row.symbols),
        "reconnects": row.reconnects,
        "rotations": row.rotations,
        "megabytes": None if row.bytes_in is None else numbers.rounded(Decimal(row.bytes_in) / MEGABYTE, 1),
        "left": None if left_ms is None else times.duration(left_ms),
        "next_try": None if wait_ms is None or row.state != BLOCKED else times.duration(wait_ms),
        "refused": sorted(row.refused.items())[:NAMES_SHOWN],
        "refused_more": max(len(row.refused) - NAMES_SHOWN, 0),
        "missing": _some(sorted(row.missing)),
        "silent": _some(sorted(row.silent)),
    }


def _works(row: dict[str, Any]) -> bool:
    """Those that do not work come first; within that the order is the ingest's."""
    return bool(row["works"])


def _some(names: list[str]) -> str:
    """The first few names and how many more there are; empty for none."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _transition(row: FeedTransition, now_ms: int) -> dict[str, Any]:
    at_ms = times.to_ms(row.at)
    age = "" if row.age_ms is None else f"after {times.duration(row.age_ms)}"
    code = "" if row.code is None else f"code {row.code}"
    return {
        "pk": row.pk,
        "at": times.short(at_ms, now_ms),
        "iso": times.iso(at_ms),
        "connection": row.connection,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "category": row.category.replace("_", " "),
        "reason": row.reason,
        "how": ", ".join(part for part in (closed_by_words(row.closed_by), code, age) if part),
    }


def _gaps(epoch_id: int, now_ms: int) -> dict[str, Any]:
    counts = gap_counts(epoch_id=epoch_id)
    left = sum(counts.values()) - counts[Gap.Status.FILLED]
    rows = [_gap(row, now_ms) for row in unfilled_gaps(epoch_id=epoch_id, limit=GAPS_SHOWN)]
    shown = {status: numbers.count(n) for status, n in counts.items()}
    return {"gaps": rows, "counts": shown, "more": max(left - len(rows), 0)}


def _gap(row: OpenGap, now_ms: int) -> dict[str, Any]:
    due_ms = None if row.next_attempt_at is None else times.to_ms(row.next_attempt_at)
    minutes = row.last_minute - row.first_minute + 1
    return {
        "pk": row.pk,
        "symbol": row.symbol,
        "from": times.clock(row.first_minute * times.MINUTE_MS, now_ms),
        "iso": times.iso(row.first_minute * times.MINUTE_MS),
        "minutes": "1 minute" if minutes == 1 else f"{numbers.count(minutes)} minutes",
        "reason": row.reason,
        "status": row.status,
        "attempts": row.attempts,
        "next": _next_words(row, due_ms, now_ms),
        "detail": row.detail,
    }


def _next_words(row: OpenGap, due_ms: int | None, now_ms: int) -> str:
    if row.status != Gap.Status.OPEN:
        return "given up"
    if due_ms is None:
        return "not due yet"
    return "now" if due_ms <= now_ms else f"in {times.duration(due_ms - now_ms)}"


def _choice(epoch_id: int, now_ms: int) -> dict[str, Any]:
    run = feed_history.last_choice(epoch_id=epoch_id)
    if run is None:
        return {"run": None}
    rows = feed_history.choice_rows(run)
    return {
        "run": run,
        "at": times.short(times.to_ms(run.at), now_ms),
        "iso": times.iso(times.to_ms(run.at)),
        "considered": numbers.count(run.considered),
        "added": _some([str(symbol) for symbol in run.added]),
        "removed": _some([str(symbol) for symbol in run.removed]),
        "rows": rows[:CHOICE_ROWS_SHOWN],
        "more": max(len(rows) - CHOICE_ROWS_SHOWN, 0),
    }
