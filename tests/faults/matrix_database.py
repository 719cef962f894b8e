"""Rows D1 to D9: PostgreSQL restarted, gone, slow, full, in conflict, crowded, replaced, of another version."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import psutil
import psycopg

from apps.ops.embedded.home import Refusal
from apps.ops.embedded.server import run_program
from tests.faults.database import WAYS
from tests.faults.matrix_road import Road
from tests.faults.matrix_rows import Row, ask, no_order_leaves
from tests.faults.processes import wait_until

DOWN_SECONDS: Final = 60
LOCK_SECONDS: Final = 30
SLOW_SECONDS: Final = 2.0  # of every answer
SLOW_LASTS_SECONDS: Final = 15
FILE_BYTES_MAX: Final = 16 * 2**20
QUEUE_MAX: Final = 2_000
ROWS_MAX: Final = 20_000


def d1(road: Road, dice: random.Random) -> None:
    for way in dice.sample(list(WAYS), len(WAYS)):
        road.database.restart(way)
        road.recovered()


def d2(road: Road, _dice: random.Random) -> None:
    """Gone for a minute: the feed goes on into Redis, and what was raised on old prices is recorded, not traded."""
    _set_limit(road, "signal_age_max_ms=2000", "what is old is not traded")
    before = road.tails()
    decided = road.one("SELECT COALESCE(max(id), 0) FROM risk_riskdecision")
    road.database.stop("fast")
    time.sleep(DOWN_SECONDS)
    after = road.tails()
    ask(all(after[shard] != before[shard] for shard in before), "the ingest did not go on")
    road.database.start()
    road.recovered()
    late = """SELECT count(*) FROM risk_riskdecision d JOIN risk_risklimits l ON l.id = d.limits_id
        JOIN signals_signal s ON s.id = d.signal_id
       WHERE d.verdict = 'approved' AND s.kind = 'entry' AND d.signal_age_ms > l.signal_age_max_ms"""
    ask(road.one(late) == 0, "an entry was approved on a signal that was too old")
    stale = "SELECT count(*) FROM risk_riskdecision WHERE id > %s AND reasons::text LIKE '%%STALE_SIGNAL%%'"
    wait_until("old signals are recorded as stale", lambda: road.one(stale, decided), seconds=60, every=0.3)
    _set_limit(road, "signal_age_max_ms=60000", "a slow machine is no fault")


def _set_limit(road: Road, assignment: str, reason: str) -> None:
    code, words = road.manage("risk", "limits", "set", assignment, "--reason", reason)
    ask(code == 0, f"{assignment}: {words[-300:]}")


def d3(road: Road, _dice: random.Random) -> None:
    """Somebody holds the account's lock, then every answer comes late: nothing piles up."""
    with psycopg.connect(road.database.url) as connection:
        connection.execute("SELECT id FROM portfolio_account FOR UPDATE")
        time.sleep(LOCK_SECONDS)
    longest = _longest_queue(road)
    road.database_proxy.delay(SLOW_SECONDS / 2)
    time.sleep(SLOW_LASTS_SECONDS)
    longest = max(longest, _longest_queue(road))
    road.database_proxy.heal()
    ask(longest < QUEUE_MAX, f"{longest} tasks piled up")


def _longest_queue(road: Road) -> int:
    with road.redis() as client:
        return max(int(client.llen(queue)) for queue in ("trade", "misc", "shard.0", "shard.1"))


def d4(road: Road, _dice: random.Random) -> None:
    """No file may grow, as on a full disk: nothing half is stored, and with room it goes on by itself."""
    _fill(road)
    with _no_file_grows(road):
        _until_refused(road)
        with no_order_leaves(road, after_seconds=5):
            time.sleep(8)


def _fill(road: Road) -> None:
    """Let the outbox, which every signal and every approval needs, be as large as a file may be."""
    row = "INSERT INTO outbox_outboxevent (event_type, payload, created_at, published_at)"
    wide = f"SELECT 'PositionClosed', jsonb_build_object('padding', repeat('x', 1500)), now(), now()"  # noqa: F541
    while road.one("SELECT pg_relation_size('outbox_outboxevent')") < FILE_BYTES_MAX - 2**20:
        road.sql(f"{row} {wide} FROM generate_series(1, 500)")


def _until_refused(road: Road) -> None:
    """Fill what is left, row by row, until the smallest is refused. A statement of many rows would leave room again."""
    row = """INSERT INTO outbox_outboxevent (event_type, payload, created_at, published_at)
             VALUES ('PositionClosed', jsonb_build_object('p', repeat('x', %s)), now(), now())"""
    with psycopg.connect(road.database.url, autocommit=True) as connection:
        for size in (900, 200, 50, 0):
            refused = False
            for _ in range(ROWS_MAX):
                try:
                    connection.execute(row, [size])
                except psycopg.Error:
                    refused = True
                    break
            ask(refused, "the database never ran out of room")


@contextmanager
def _no_file_grows(road: Road) -> Iterator[None]:
    main = psutil.Process(road.database.pid)

    def limit(size: str) -> None:
        """Of the server and its children; by a program, because only their own account may."""
        for process in [main, *main.children(recursive=True)]:
            try:
                run_program(road.home, ["/usr/bin/prlimit", f"--pid={process.pid}", f"--fsize={size}:unlimited"])
            except Refusal:
                if process.is_running():
                    raise

    limit(str(FILE_BYTES_MAX))
    try:
        yield
    finally:
        limit("unlimited")


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
    most = int(road.one("SHOW max_connections")) - int(road.one("SHOW superuser_reserved_connections"))
    with ExitStack() as held:
        connections: list[psycopg.Connection[tuple[Any, ...]]] = []
        try:
            while len(connections) < 100:
                connections.append(held.enter_context(psycopg.connect(road.database.url, connect_timeout=3)))
        except psycopg.OperationalError as error:
            ask("connection" in str(error), f"refused for another reason: {error}")
        ask(connections, "not one connection was given out")
        row = connections[0].execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        taken = int((row.fetchone() or (0,))[0])
        ask(taken <= most, f"{taken} connections were given out, {most} are for everybody")
        time.sleep(10)


def d8(road: Road, _dice: random.Random) -> None:
    """A copy made while it ran takes over, as after a failover; every sequence jumps."""
    road.database.replace_by_copy()
    road.lead_database_to(road.database.port)
    for (name,) in road.sql("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"):
        road.sql(f"SELECT setval('{name}', nextval('{name}') + 1000)")


def d9(road: Road, _dice: random.Random) -> None:
    """Somebody migrates, forwards, then backwards: whoever runs ends in one sentence, whoever starts refuses."""
    road.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', '9999_from_tomorrow', now())")
    try:
        _all_end(road, "9999_from_tomorrow")
    finally:
        road.sql("DELETE FROM django_migrations WHERE name = '9999_from_tomorrow'")
    road.recovered()
    (name, applied), *_ = road.sql("SELECT name, applied FROM django_migrations WHERE app = 'risk' ORDER BY id DESC")
    road.sql("DELETE FROM django_migrations WHERE app = 'risk' AND name = %s", name)
    try:
        _all_end(road, name)
    finally:
        road.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('risk', %s, %s)", name, applied)


def _all_end(road: Road, name: str) -> None:
    """Workers and steward end by themselves, then each refuses to start, always naming this migration."""
    services = ("trade", "drain-0", "steward")
    before = {service: (road.exits[service], road.children[service].log.stat().st_size) for service in services}
    for service, (exits, length) in before.items():
        wait_until(f"{service} ends and is refused", lambda: road.exits[service] >= exits + 2, seconds=120, every=0.2)  # noqa: B023
        said = road.children[service].log.read_bytes()[length:].decode(errors="replace")
        lines = [line for line in said.splitlines() if name in line]
        ask(len(lines) >= 2, f"{service} does not name {name}: {said[-300:]}")
        ask(all("the schema is" in line for line in lines), f"{service} stumbles over it: {lines}")
    done = road.processed()
    time.sleep(2)
    ask(road.processed() == done, "somebody went on reading")


ROWS: Final = (
    Row("D1", "restarted fast, immediate and after kill -9", d1, 15),
    Row("D2", "down for 60 s", d2, 30),
    Row("D3", "a lock held for 30 s, then every answer two seconds late", d3, 15),
    Row("D4", "disk full", d4, 15),
    Row("D5", "deadlocks and refused serialisations", d5, 15),
    Row("D6", "connections cut inside COMMIT", d6, 15),
    Row("D7", "no connection left", d7, 15),
    Row("D8", "a copy takes over, sequences jump", d8, 15),
    Row("D9", "schema newer, then older than the code, while it runs and at a start", d9, 15),
)
