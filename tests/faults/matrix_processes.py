"""Rows P1 to P14: processes that are killed at every numbered point, stand still, run away, or are there twice."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import websocket
from celery import Celery

from apps.engine import timeouts
from tests.faults.matrix_road import Road, through
from tests.faults.matrix_rows import Row, ask, frozen
from tests.faults.matrix_tasks import CIRCLING, PATIENCE_VARIABLE, TRIES_AFTER
from tests.faults.processes import wait_until

DRAIN_POINTS: Final = (
    "drain.before_lock", "drain.after_lock", "drain.after_read", "drain.before_commit", "drain.after_commit",
    "drain.before_ack",
)  # fmt: skip
SENDER_POINTS: Final = (
    "sender.before_submitting", "sender.after_submitting", "sender.at_venue", "sender.after_reply",
)  # fmt: skip
STANDSTILL_SECONDS: Final = 65  # of beat: every task that it sends each minute is overdue by then
EVERY_MINUTE: Final = ("ops.sweep_klines", "ops.choose_symbols", "market.archive_feed")
DESCRIPTORS: Final = 3  # as many as every process has from its start
PAGE_SECONDS: Final = 45  # a first page on a busy machine: a question that is given up is worked on all the same
PATIENCE_MS: Final = 15_000
SETTLED_SECONDS: Final = 180  # a machine with ten times the work that it has cores for took two minutes
ORDER_SECONDS: Final = 90  # within which some signals are raised


def armed(*points: str, at: int) -> str:
    return ",".join(f"{point}:{at}" for point in points)


def p1(road: Road, dice: random.Random) -> None:
    """An ingest that dies with frames in its hands: the gap is declared."""
    before = road.one("SELECT count(*) FROM market_coverage")
    road.start_service("ingest", armed("ingest.recv", at=17 + dice.randrange(20)))
    road.fired("ingest", "ingest.recv")
    road.recovered()
    wait_until(
        "the gap is declared", lambda: road.one("SELECT count(*) FROM market_coverage") > before, seconds=30
    )  # fmt: skip


def p2(road: Road, dice: random.Random) -> None:
    road.start_service("ingest", armed("ingest.appended", at=17 + dice.randrange(20)))
    road.fired("ingest", "ingest.appended")
    tails = road.tails()

    def read() -> bool:
        seen = dict(road.sql("SELECT shard, seen_through FROM market_shardcursor"))
        return all(_ms(seen[shard]) >= _ms(tail) for shard, tail in tails.items())

    wait_until("the entry that nobody was woken for is read", read, seconds=20)


def p3(road: Road, dice: random.Random) -> None:
    """Replies of Redis are lost, again and again: what was appended is not appended twice (verify, I2)."""
    for _ in range(8):
        road.redis_proxy.cut_after(dice.randrange(4), "down")
        time.sleep(dice.uniform(0.2, 1.0))
    road.redis_proxy.heal()


def p4(road: Road, dice: random.Random) -> None:
    """A drain dies at six points one after the other, and its connection inside COMMIT."""
    road.start_service("drain-0", armed(*DRAIN_POINTS, at=2 + dice.randrange(4)))
    road.fired("drain-0", *DRAIN_POINTS, seconds=110)
    _end_in_commit(road)


def _end_in_commit(road: Road) -> None:
    """Make the commits of cursors slow, and end the session of one that is inside."""
    road.sql(
        """CREATE OR REPLACE FUNCTION faults_slow() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
           CREATE CONSTRAINT TRIGGER faults_slow AFTER UPDATE ON market_shardcursor
           DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION faults_slow()"""
    )
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
    try:
        wait_until("a commit is ended", lambda: road.sql(ended), seconds=30, every=0.05)
    finally:
        road.sql("DROP TRIGGER faults_slow ON market_shardcursor")


def p5(road: Road, dice: random.Random) -> None:
    points = ("risk.after_lock", "risk.before_commit")
    road.start_service("trade", armed(*points, at=1 + dice.randrange(2)))
    road.fired("trade", *points, seconds=ORDER_SECONDS)


def p6(road: Road, _dice: random.Random) -> None:
    """The sender dies before and after SUBMITTING is committed, and before and after the reply: one order each time."""
    road.start_service("trade", armed(*SENDER_POINTS, at=1), **{PATIENCE_VARIABLE: str(PATIENCE_MS)})
    road.fired("trade", *SENDER_POINTS, seconds=ORDER_SECONDS)
    newest = road.one("SELECT max(id) FROM execution_order")
    stuck = "SELECT count(*) FROM execution_order WHERE status IN ('SUBMITTING', 'UNKNOWN') AND id <= %s"
    wait_until("no order of then is left UNKNOWN", lambda: road.one(stuck, newest) == 0, seconds=SETTLED_SECONDS)
    road.start_service("trade")


def p7(road: Road, _dice: random.Random) -> None:
    """Whoever publishes dies between publishing and marking: first the drain, then the relay that takes over."""
    road.start_service("steward", armed("outbox.after_publish", at=1))
    road.start_service("drain-0", armed("outbox.after_publish", at=1))
    road.fired("drain-0", "outbox.after_publish", seconds=ORDER_SECONDS)
    road.fired("steward", "outbox.after_publish", seconds=ORDER_SECONDS)


def p8(road: Road, _dice: random.Random) -> None:
    """Beat is killed, there twice, and stands still for longer than a minute: its slots go on, and are made up once."""
    road.start_service("beat")
    _beats(road)
    road.start_service("beat")
    road.start_service("beat-2")
    _beats(road)
    road.stop_service("beat-2")
    log = road.children["beat"].log
    with frozen(road.children["beat"].popen.pid):
        time.sleep(STANDSTILL_SECONDS)
        said = log.stat().st_size

    def due() -> list[str]:
        return re.findall(r"Sending due task (\S+)", _since(log, said))

    wait_until("what was due is sent", lambda: {*EVERY_MINUTE} <= {*due()}, seconds=30)
    sent = Counter(due())
    missing = {name for name in EVERY_MINUTE if sent[name] != 1}
    ask(not missing, f"after {STANDSTILL_SECONDS} s these were not sent once: {missing}, but {dict(sent)}")
    _beats(road)
    doubled = road.sql("SELECT account_id, minute FROM portfolio_equitypoint GROUP BY 1, 2 HAVING count(*) > 1")
    ask(not doubled, f"slots had their effect twice: {doubled[:3]}")
    road.stop_service("beat")


def _since(log: Path, byte: int) -> str:
    return log.read_bytes()[byte:].decode(errors="replace")


def _beats(road: Road) -> None:
    now_ms = time.time_ns() // 1_000_000

    def later() -> bool:
        with road.redis() as client:
            value: Any = client.get("heartbeat:beat")
        return value is not None and int(value) > now_ms

    wait_until("beat is heard", later, seconds=60)


class Screen:
    """A browser's end of the live socket: connects again, and notes what it was sent."""

    def __init__(self, road: Road) -> None:
        self._url = f"ws://127.0.0.1:{road.ports['web']}/ws/live/"
        self._origin = f"http://127.0.0.1:{road.ports['web']}"
        self._cookie = road.session["cookie"]

    def first(self, seconds: float) -> dict[str, Any]:
        """The first snapshot after connecting again."""

        def snapshot() -> dict[str, Any] | None:
            try:
                self.socket = websocket.create_connection(
                    self._url, timeout=PAGE_SECONDS, cookie=self._cookie, origin=self._origin
                )
                return self.next("snapshot")
            except (OSError, websocket.WebSocketException):
                return None

        found: dict[str, Any] = wait_until("a snapshot is shown", snapshot, seconds=seconds, every=0.3)
        return found

    def next(self, kind: str) -> dict[str, Any]:
        while True:
            frame: dict[str, Any] = json.loads(self.socket.recv())
            if frame["type"] != "heartbeat":
                self.socket.send(json.dumps({"ack": frame["seq"]}))
            if frame["type"] == kind:
                return frame

    def silent_for(self, seconds: float) -> bool:
        """Nothing at all comes for so long."""
        self.socket.settimeout(seconds)
        try:
            while True:
                self.socket.recv()
        except websocket.WebSocketTimeoutException:
            return True
        finally:
            self.socket.settimeout(PAGE_SECONDS)


def p9(road: Road, _dice: random.Random) -> None:
    """The web process is killed: a browser gets a snapshot of now from its successor."""
    _serve(road)
    screen = Screen(road)
    before = screen.first(60)
    road.start_service("web")
    after = screen.first(60)
    ask(after["server_ms"] > before["server_ms"], "the snapshot after the kill is not newer")
    road.stop_service("web")


def p10(road: Road, _dice: random.Random) -> None:
    """The pusher stands still: the browser hears nothing and says so by its own timer; afterwards ages are true."""
    _serve(road)
    screen = Screen(road)
    screen.first(60)
    with frozen(road.children["web"].popen.pid):
        quiet = screen.silent_for(timeouts.BROWSER_DELAYED_SECONDS - 1)
    ask(quiet, "a process that stands still was heard")
    told = screen.next("heartbeat")
    age_ms = abs(time.time_ns() // 1_000_000 - told["server_ms"])
    ask(age_ms < 60_000, f"the first heartbeat afterwards is {age_ms} ms off")
    road.stop_service("web")


def _serve(road: Road) -> None:
    road.home.root.joinpath("static").mkdir(exist_ok=True)
    road.start_service("web")
    health = f"http://127.0.0.1:{road.ports['web']}/health"

    def answers() -> bool:
        try:
            urllib.request.urlopen(health, timeout=PAGE_SECONDS).close()
        except urllib.error.HTTPError:
            return True  # not healthy is an answer too
        except OSError:
            return False
        return True

    wait_until("the pages answer", answers, seconds=2 * PAGE_SECONDS, every=0.3)


def p11(road: Road, dice: random.Random) -> None:
    """kill -9 of everything, servers too; started again in any order."""
    names = ["drain-0", "trade", "steward", "ingest"]
    for name in names:
        road.stop_service(name)
    road.valkey.kill()
    road.database.stop("kill")
    starts = [*names, "valkey", "database"]
    dice.shuffle(starts)
    for name in starts:
        {"valkey": road.valkey.start, "database": road.database.start}.get(
            name,
            lambda name=name: road.start_service(name),
        )()
    modes = road.sql("SELECT DISTINCT mode FROM portfolio_tradingsession WHERE ended_at IS NULL")
    ask(modes == [("PAPER",)], f"after the start the mode is {modes}")


def p12(road: Road, _dice: random.Random) -> None:
    """A task that takes all memory fails, its worker does not; one whose child is killed is not tried for ever."""
    _worker_for_tests(road)
    for process in psutil.Process(road.children["test"].popen.pid).children():
        resource.prlimit(process.pid, resource.RLIMIT_AS, (900 * 2**20, 900 * 2**20))
    main = road.children["test"].popen.pid
    told = _given_up(road, "test.devour")
    _send(road, "test.devour")
    wait_until("a person is told that it ran out of memory", lambda: _given_up(road, "test.devour") > told, seconds=60)
    _answers(road, "after-devour")
    ask(road.children["test"].popen.pid == main, "the worker itself ended")
    _killed_again_and_again(road)
    ask(road.children["test"].popen.pid == main, "the worker itself ended with its child")
    road.stop_service("test")


def _killed_again_and_again(road: Road) -> None:
    """A task whose child is killed each time, as the kernel does: after two more tries it is given up, in words."""
    told = _given_up(road, "test.circle")
    with road.redis() as client:
        client.delete(CIRCLING)
        _send(road, "test.circle")
        for tries in range(TRIES_AFTER + 1):
            reached = partial(client.lindex, CIRCLING, tries)
            os.kill(int(wait_until(f"try {tries + 1} runs", reached, seconds=60)), signal.SIGKILL)
        wait_until("a person is told that it was given up", lambda: _given_up(road, "test.circle") > told, seconds=60)
        _answers(road, "after-kills")
        tries = client.llen(CIRCLING)
    ask(tries == TRIES_AFTER + 1, f"it was tried {tries} times")


def _given_up(road: Road, task: str) -> int:
    """How often an alert told that this task was given up."""
    return int(
        road.one("SELECT COALESCE(sum(count), 0) FROM alerts_alert WHERE kind = 'task_given_up' AND subject = %s", task)
    )


def p13(road: Road, _dice: random.Random) -> None:
    """A task that never ends and hears nothing: the hard limit ends it, and what waits behind it goes on."""
    _worker_for_tests(road)
    told = _given_up(road, "test.circle")
    began = time.monotonic()
    _send(road, "test.circle")
    _answers(road, "after-circle")
    taken = time.monotonic() - began
    ask(taken >= timeouts.CELERY_HARD_LIMIT_SECONDS, f"what waited behind it was done after {taken:.0f} s already")
    wait_until("a person is told that it was ended", lambda: _given_up(road, "test.circle") > told, seconds=30)
    road.stop_service("test")


def p14(road: Road, _dice: random.Random) -> None:
    """A worker without file descriptors to spare: it degrades, does not end in a loop, and gets well."""
    main = psutil.Process(road.children["trade"].popen.pid)
    exits = road.exits["trade"]
    log = road.children["trade"].log
    known = log.stat().st_size
    family = [main, *main.children(recursive=True)]
    usual = [resource.prlimit(process.pid, resource.RLIMIT_NOFILE) for process in family]
    for process in family:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, usual[0][1]))
    road.redis_proxy.reset()
    wait_until(
        "none could be had, or the worker ended",
        lambda: "Too many open files" in _since(log, known) or road.exits["trade"] > exits,
        seconds=60,
    )
    time.sleep(8)
    ask(road.exits["trade"] - exits <= 2, f"it was started {road.exits['trade'] - exits} times in 8 s")
    for process, limit in zip(family, usual, strict=True):
        if process.is_running():
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)


def _worker_for_tests(road: Road) -> None:
    road.start_service("test")
    _answers(road, "test")


def _send(road: Road, task: str, **kwargs: Any) -> None:
    with Celery("matrix", broker=through(road.valkey.url, road.redis_proxy.port), set_as_current=False) as client:
        client.send_task(task, kwargs=kwargs, queue="test", ignore_result=True)


def _answers(road: Road, name: str) -> None:
    """Wait until the worker for tests has done what it is sent now; an answer to an earlier row is none."""
    with road.redis() as client:
        client.delete(f"heartbeat:{name}")
    _send(road, "ops.answer", name=name, engine=False)

    def answered() -> bool:
        with road.redis() as client:
            return client.get(f"heartbeat:{name}") is not None

    wait_until(f"{name} was answered", answered, seconds=90, every=0.2)


def _ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


ROWS: Final = (
    Row("P1", "ingest killed after receiving, before appending", p1, 10),
    Row("P2", "ingest killed after appending, before waking", p2, 10),
    Row("P3", "replies to the ingest's appends lost", p3),
    Row("P4", "drain killed at six points, and its session inside COMMIT", p4),
    Row("P5", "decision killed between lock and commit", p5),
    Row("P6", "sender killed before and after SUBMITTING, before and after the reply", p6, 10),
    Row("P7", "publisher and relay killed between publishing and marking", p7),
    Row("P8", "beat killed, twice, and standing still", p8),
    Row("P9", "web process killed under a browser", p9),
    Row("P10", "pusher standing still", p10),
    Row("P11", "kill -9 of everything, started in any order", p11, 30),
    Row("P12", "a task that takes all memory; a task whose child is killed each time", p12),
    Row("P13", "a task that never ends", p13, 25),
    Row("P14", "no file descriptors left", p14),
)
