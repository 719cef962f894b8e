"""Rows D1 to D9: PostgreSQL restarted, gone, slow, full, in conflict, crowded, replaced, of another version."""

from __future__ import annotations

import random
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import psutil
import psycopg

from tests.faults.database import WAYS
from tests.faults.matrix_road import Road
from tests.faults.matrix_rows import Row, ask
from tests.faults.processes import wait_until

DOWN_SECONDS: Final = 20
LOCK_SECONDS: Final = 10
FILE_BYTES_MAX: Final = 16 * 2**20
QUEUE_MAX: Final = 2_000


def d1(road: Road, dice: random.Random) -> None:
    for way in dice.sample(list(WAYS), len(WAYS)):
        road.database.restart(way)
        road.recovered()


def d2(road: Road, _dice: random.Random) -> None:
    """Gone for a while: the feed goes on into Redis, and what was raised on old prices is not traded."""
    road.manage("risk", "limits", "set", "signal_age_max_ms=2000", "--reason", "what is old is not traded")
    before = road.tails()
    orders = road.one("SELECT count(*) FROM execution_venueorder")
    road.database.stop("fast")
    time.sleep(DOWN_SECONDS)
    after = road.tails()
    ask(all(after[shard] != before[shard] for shard in before), "the ingest did not go on")
    road.database.start()
    ask(road.one("SELECT count(*) FROM execution_venueorder") == orders, "an order left meanwhile")
    road.recovered()
    late = """SELECT count(*) FROM risk_riskdecision d JOIN risk_risklimits l ON l.id = d.limits_id
        JOIN signals_signal s ON s.id = d.signal_id
       WHERE d.verdict = 'approved' AND s.kind = 'entry' AND d.signal_age_ms > l.signal_age_max_ms"""
    ask(road.one(late) == 0, "an entry was approved on a signal that was too old")
    road.manage("risk", "limits", "set", "signal_age_max_ms=60000", "--reason", "a slow machine is no fault")


def d3(road: Road, _dice: random.Random) -> None:
    """Somebody holds the account's lock, then every answer comes late: nothing piles up."""
    with psycopg.connect(road.database.url) as connection:
        connection.execute("SELECT id FROM portfolio_account FOR UPDATE")
        time.sleep(LOCK_SECONDS)
    road.database_proxy.delay(0.5)
    time.sleep(LOCK_SECONDS)
    with road.redis() as client:
        longest = max(int(client.llen(queue)) for queue in ("trade", "misc", "shard.0", "shard.1"))
    road.database_proxy.heal()
    ask(longest < QUEUE_MAX, f"{longest} tasks piled up")


def d4(road: Road, _dice: random.Random) -> None:
    """No file may grow, as on a full disk: nothing half is stored, and with room it goes on by itself."""
    _fill(road)
    with _no_file_grows(road):
        full = _until_refused(road)
        time.sleep(8)
    ask(full, "the database never ran out of room")


def _fill(road: Road) -> None:
    """Let the outbox, which every signal and every approval needs, be as large as a file may be."""
    row = "INSERT INTO outbox_outboxevent (event_type, payload, created_at, published_at)"
    wide = f"SELECT 'PositionClosed', jsonb_build_object('padding', repeat('x', 1500)), now(), now()"  # noqa: F541
    while road.one("SELECT pg_relation_size('outbox_outboxevent')") < FILE_BYTES_MAX - 2**20:
        road.sql(f"{row} {wide} FROM generate_series(1, 500)")


def _until_refused(road: Road) -> bool:
    """Fill what is left; True when the database has said that it cannot grow the file."""
    row = "INSERT INTO outbox_outboxevent (event_type, payload, created_at, published_at)"
    try:
        for _ in range(100):
            road.sql(f"{row} SELECT 'PositionClosed', jsonb_build_object('p', repeat('x', 900)), now(), now()"
                     " FROM generate_series(1, 100)")  # fmt: skip
    except psycopg.Error:
        return True
    return False


@contextmanager
def _no_file_grows(road: Road) -> Iterator[None]:
    main = psutil.Process(road.database.pid)
    stopping = threading.Event()

    def limit(size: int) -> None:
        for process in [main, *main.children(recursive=True)]:
            try:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            except ProcessLookupError:
                continue

    limit(FILE_BYTES_MAX)
    try:
        yield
    finally:
        stopping.set()
        limit(resource.RLIM_INFINITY)


def d5(road: Road, _dice: random.Random) -> None:
    """Real deadlocks with a session that takes the same rows the other way round, and refused serialisations."""
    for _ in range(6):
        _cross(road)
    road.sql(
        """CREATE OR REPLACE FUNCTION faults_conflict() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN IF random() < 0.5 THEN RAISE SQLSTATE '40001'; END IF; RETURN NEW; END $$;
           CREATE TRIGGER faults_conflict BEFORE INSERT ON risk_riskdecision
           FOR EACH ROW EXECUTE FUNCTION faults_conflict()"""
    )
    decided = "SELECT count(*) FROM risk_riskdecision"
    before = road.one(decided)
    try:
        wait_until("decisions are made all the same", lambda: road.one(decided) > before + 3, seconds=80, every=0.3)
    finally:
        road.sql("DROP TRIGGER faults_conflict ON risk_riskdecision")


def _cross(road: Road) -> None:
    """Lock the risk state, then the account: a decision does it in the other order."""
    try:
        with psycopg.connect(road.database.url) as connection:
            connection.execute("SET lock_timeout = '1500ms'")
            connection.execute("SELECT id FROM risk_riskstate FOR UPDATE")
            time.sleep(0.5)
            connection.execute("SELECT id FROM portfolio_account FOR UPDATE")
    except psycopg.OperationalError:
        return  # the deadlock was found here, or the other one waited too long


def d6(road: Road, dice: random.Random) -> None:
    """Answers of the database are cut off, those to COMMIT among them: whether it was done is read from the rows."""
    for _ in range(10):
        road.database_proxy.cut_after(dice.randrange(60), "down")
        time.sleep(dice.uniform(0.3, 1.0))
    road.database_proxy.heal()


def d7(road: Road, _dice: random.Random) -> None:
    """All connections are taken; the three that are kept for an administrator are not ours to take."""
    with ExitStack() as held:
        taken = 0
        try:
            for _ in range(100):
                held.enter_context(psycopg.connect(road.database.url, connect_timeout=3))
                taken += 1
        except psycopg.OperationalError as error:
            ask("connection" in str(error), f"refused for another reason: {error}")
        ask(taken < 60, f"{taken} connections were given out")
        time.sleep(6)


def d8(road: Road, _dice: random.Random) -> None:
    """A copy made while it ran takes over, as after a failover; every sequence jumps."""
    road.database.replace_by_copy()
    road.lead_database_to(road.database.port)
    for (name,) in road.sql("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"):
        road.sql(f"SELECT setval('{name}', nextval('{name}') + 1000)")


def d9(road: Road, _dice: random.Random) -> None:
    """A schema newer than the code, then one older: a worker that starts then refuses, in one sentence."""
    road.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', '9999_from_tomorrow', now())")
    _refuses(road, "9999_from_tomorrow")
    road.sql("DELETE FROM django_migrations WHERE name = '9999_from_tomorrow'")
    (name, applied), *_ = road.sql("SELECT name, applied FROM django_migrations WHERE app = 'risk' ORDER BY id DESC")
    road.sql("DELETE FROM django_migrations WHERE app = 'risk' AND name = %s", name)
    _refuses(road, name)
    road.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', %s, %s)", name, applied)
    road.start_service("trade")


def _refuses(road: Road, name: str) -> None:
    road.stop_service("trade")
    log = road.children["trade"].log
    length = log.stat().st_size
    before = road.exits["trade"]
    road.start_service("trade")
    wait_until("it ends again", lambda: road.exits["trade"] > before, seconds=40, every=0.2)
    road.stop_service("trade")
    said = log.read_bytes()[length:].decode(errors="replace")
    ask(name in said, f"it does not name {name}: {said[-300:]}")


ROWS: Final = (
    Row("D1", "restarted fast, immediate and after kill -9", d1, 15),
    Row("D2", "down for 20 s", d2, 30),
    Row("D3", "a lock held for 10 s, then every answer half a second late", d3, 15),
    Row("D4", "disk full", d4, 15),
    Row("D5", "deadlocks and refused serialisations", d5, 15),
    Row("D6", "connections cut inside COMMIT", d6, 15),
    Row("D7", "no connection left", d7, 15),
    Row("D8", "a copy takes over, sequences jump", d8, 15),
    Row("D9", "schema newer or older than the code", d9, 15),
)
