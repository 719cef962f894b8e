"""Who may ask what time it is. Whoever decides is told."""

from __future__ import annotations

import re

import pytest

from tests.house.sources import Source, python_files

ELAPSED = re.compile(r"^time\.(monotonic|perf_counter|process_time|thread_time)(_ns)?$")
WALL = re.compile(
    r"^(time\.(time|time_ns|gmtime|localtime|ctime|strftime)"
    r"|(\w+\.)*(datetime|date)\.(now|utcnow|today)"
    r"|(django\.utils\.)?timezone\.(now|localtime|localdate))$"
)
# Waiting for others, measuring, bounding a rate. Timeouts of the feed and of leases use workers/*/clock.py only.
MAY_MEASURE = {
    "workers/ingest/clock.py": "the ingest's one clock, with a rate",
    "workers/exchange/log.py": "a default that a test replaces",
    "workers/exchange/server.py": "a default that a test replaces",
    "apps/outbox/pace.py": "a default that a test replaces",
    "apps/market/rest.py": "how long an answer takes; a default that a test replaces",
    "apps/bus/budget.py": "a default that a test replaces",
    "apps/outbox/at_hand.py": "how long one turn may last",
    "apps/signals/services/attending.py": "how long a visit may last; a default that a test replaces",
    "apps/execution/venues/mexc/client.py": "the deadline of a call; a default that a test replaces",
    "apps/live/pusher.py": "how long a snapshot took",
    "apps/ops/embedded/ready.py": "waiting for a server to start",
    "apps/ops/stack/": "starting and stopping processes",
    "apps/ops/steward/loop.py": "the rhythm of its chores",
    "apps/ops/steward/pauses.py": "pauses between bells; a default that a test replaces",
}
# Doors read the wall clock once and pass it down; the others stamp rows that no decision reads.
MAY_READ_THE_WALL_CLOCK = {
    "/tasks.py": "door",
    "/management/commands/": "door",
    "workers/ingest/clock.py": "the ingest's one clock",
    "workers/exchange/__main__.py": "where its event time begins",
    "workers/exchange/log.py": "stamps of log lines",
    "apps/live/frame.py": "door of the pages",
    "apps/backtest/admin.py": "door of the pages",
    "apps/risk/admin_states.py": "door of the pages",
    "cdb_project/celery.py": "stamp: a worker's heartbeat",
    "apps/execution/admin_reconciliation.py": "door of the pages",
    "apps/execution/venues/mexc/of_session.py": "stamps of signed requests",
    "apps/ops/": "shows ages, starts sessions",
    "apps/market/services/feeds.py": "stamp: when an epoch ended",
    "apps/outbox/services.py": "stamp: when an event was published",
    "apps/risk/services/states.py": "stamp: since when a state holds",
}


def readings(source: Source, clock: re.Pattern[str], allowed: dict[str, str]) -> list[str]:
    """Where a file reads this clock although it may not."""
    if any(place in f"/{source.name}" for place in allowed):
        return []
    return [f"{source.name}:{line} {name}" for name, line in source.dotted if clock.match(name)]


def our_code() -> list[Source]:
    return python_files("apps", "cdb_project", "workers", "proto", "manage.py")


def test_elapsed_time_is_read_only_where_it_is_named_here() -> None:
    assert not [words for source in our_code() for words in readings(source, ELAPSED, MAY_MEASURE)]


def test_the_wall_clock_is_read_at_doors_only() -> None:
    assert not [words for source in our_code() for words in readings(source, WALL, MAY_READ_THE_WALL_CLOCK)]


@pytest.mark.parametrize("place", sorted(MAY_MEASURE | MAY_READ_THE_WALL_CLOCK))
def test_every_exception_is_in_use(place: str) -> None:
    clocks = [clock for clock, table in ((ELAPSED, MAY_MEASURE), (WALL, MAY_READ_THE_WALL_CLOCK)) if place in table]
    inside = [source for source in our_code() if place in f"/{source.name}"]
    for clock in clocks:
        assert any(readings(source, clock, {}) for source in inside)


def test_nothing_in_the_engine_knows_the_time_or_throws_dice() -> None:
    """The imports are forbidden by contract; this finds what needs no import of its own."""
    found = [
        f"{source.name}:{line} {name}"
        for source in python_files("apps/engine")
        for name, line in source.dotted
        if ELAPSED.match(name)
        or WALL.match(name)
        or re.search(r"\brandom\b", name)
        # days.py turns event times into days of a time zone, and asks no clock
        or (re.search(r"\bdatetime\b", name) and source.name != "apps/engine/risk/days.py")
    ]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "import time\nx = time.monotonic()",
        "from time import monotonic_ns",
        "import time\ndef f(clock=time.perf_counter): ...",
    ],
)
def test_a_new_reader_of_elapsed_time_is_found(text: str) -> None:
    assert readings(Source("apps/risk/services/assess.py", text), ELAPSED, MAY_MEASURE)


@pytest.mark.parametrize(
    "text",
    [
        "import time\nx = time.time()",
        "from time import time_ns",
        "import datetime\nx = datetime.datetime.now(datetime.UTC)",
        "from datetime import date\nx = date.today()",
        "from django.utils import timezone\nx = timezone.now()",
        "from django.utils.timezone import now",
    ],
)
def test_a_new_reader_of_the_wall_clock_is_found(text: str) -> None:
    assert readings(Source("apps/risk/services/assess.py", text), WALL, MAY_READ_THE_WALL_CLOCK)
