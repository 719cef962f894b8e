"""Rows R1 to R9: Redis gone, empty, rolled back, replaced, full, mute, wrong."""

from __future__ import annotations

import random
import re
import shutil
import signal
import threading
import time
from collections import Counter
from typing import Any, Final

import msgspec
import redis

from apps.ops.embedded import binaries
from apps.ops.embedded.home import pick_port
from tests.faults.evidence import TRADE_BLOCK
from tests.faults.matrix_road import SHARDS, Road, _order
from tests.faults.matrix_rows import Row, ask, no_order_leaves
from tests.faults.processes import Valkey, wait_until

DOWN_SECONDS: Final = 7
STOPPED_WITHIN_SECONDS: Final = 5
FROZEN_SECONDS: Final = (3, 7, 30, 120)
WRONG_SECONDS: Final = 4
RECORDS_MAX: Final = 60  # beside one a second: each of five faults is told by several clients, once or twice
OPEN_TRIPS: Final = "SELECT count(*) FROM risk_breakertrip WHERE cause = 'STALE_FEED' AND cleared_at IS NULL"


def r1(road: Road, dice: random.Random) -> None:
    """A blink, then long enough for the watchdog to write down that nothing opens any more."""
    road.valkey.kill()
    time.sleep(dice.uniform(0.2, 3))
    road.valkey.start()
    road.recovered()
    road.valkey.kill()
    with no_order_leaves(road, after_seconds=STOPPED_WITHIN_SECONDS):
        wait_until("the silence of the feed has tripped", lambda: road.one(OPEN_TRIPS), seconds=90, every=0.3)
    road.valkey.start()


def r2(road: Road, _dice: random.Random) -> None:
    """Everything is gone, read and unread: ids go on above what PostgreSQL knows, and what was not read is declared."""
    stated = "SELECT count(*) FROM market_coverage"
    before = road.one(stated)
    road.stop_service("drain-0")
    tails = _grown(road, road.tails())
    with road.redis() as client:
        client.flushall()
    _goes_on_above(road, tails)
    road.start_service("drain-0")
    road.recovered()
    wait_until("the loss is declared", lambda: road.one(stated) > before, seconds=60, every=0.2)


def _grown(road: Road, tails: dict[int, str]) -> dict[int, str]:
    """Wait until every shard's stream has entries beyond these. Returns the newest."""

    def grown() -> dict[int, str] | None:
        now = road.tails()
        return now if all(_order(now[shard]) > _order(tail) for shard, tail in tails.items()) else None

    found: dict[int, str] = wait_until("every stream grows", grown, seconds=60, every=0.1)
    return found


def _goes_on_above(road: Road, tails: dict[int, str]) -> None:
    """New entries come, with ids above those that were there."""

    def above() -> bool:
        try:
            now = road.tails()
        except redis.RedisError:
            return False
        return any(shard in now for shard in tails) and all(
            _order(now[shard]) > _order(tail) for shard, tail in tails.items() if shard in now
        )

    wait_until("entries come again, above the old ones", above, seconds=60, every=0.2)


def r3(road: Road, _dice: random.Random) -> None:
    """The append-only file is put back to what it was two seconds ago."""
    folder = road.valkey.folder
    kept = road.folder / "aof"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder / "appendonlydir", kept)
    time.sleep(2)
    tails = road.tails()
    road.valkey.kill()
    shutil.rmtree(folder / "appendonlydir")
    shutil.copytree(kept, folder / "appendonlydir")
    road.valkey.start()
    _goes_on_above(road, tails)


def r4(road: Road, _dice: random.Random) -> None:
    """A replica that stood still for two seconds takes over at the same address."""
    port = pick_port()
    replica = Valkey(binaries.valkey_program(road.home), port, road.folder / f"replica-{port}")
    replica.start()
    with redis.Redis.from_url(replica.url, socket_timeout=5) as client:
        client.replicaof("127.0.0.1", str(road.valkey.port))
        wait_until("the replica is in step", lambda: _in_step(client), seconds=30)
        replica.signal(signal.SIGSTOP)
        time.sleep(2)
        tails = road.tails()
        road.valkey.kill()
        replica.signal(signal.SIGCONT)
        wait_until("the replica answers", replica.answers, seconds=10)
        client.replicaof("NO", "ONE")
    road.valkey = replica
    road.lead_redis_to(port)
    _goes_on_above(road, tails)


def _in_step(client: redis.Redis) -> bool:
    info: Any = client.info("replication")
    return bool(info["master_link_status"] == "up")


def r5(road: Road, _dice: random.Random) -> None:
    """Its memory is full: writes are refused, the ingest keeps what it can and declares the rest."""
    with road.redis() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        try:
            with no_order_leaves(road, after_seconds=STOPPED_WITHIN_SECONDS):
                time.sleep(DOWN_SECONDS)
            ask(client.ping(), "it does not answer reads")
        finally:
            client.config_set("maxmemory", 0)


def r6(road: Road, _dice: random.Random) -> None:
    """It stands still for longer and longer, then it is slow. What clients sent meanwhile may be done afterwards."""
    for seconds in FROZEN_SECONDS:
        road.valkey.signal(signal.SIGSTOP)
        time.sleep(seconds)
        road.valkey.signal(signal.SIGCONT)
        road.recovered()
    with redis.Redis.from_url(road.valkey.url, socket_timeout=30) as client:
        for _ in range(3):
            client.execute_command("DEBUG", "SLEEP", "2")
    road.recovered()
    twice = _twice_on_the_stream(road)
    ask(not twice, f"on the stream twice: {twice[:3]}")


def _twice_on_the_stream(road: Road) -> list[tuple[str, str]]:
    """(symbol, trade id) of trades that two entries carry. Entries that nobody can read are left out."""
    seen: Counter[tuple[str, str]] = Counter()
    with road.redis() as client:
        for shard in range(SHARDS):
            rows: Any = client.xrange(road.stream(shard))
            for _, fields in rows:
                try:
                    events = msgspec.msgpack.decode(fields.get(b"b", b""))
                except msgspec.DecodeError:
                    continue
                seen.update((event[1], name) for event in events if event[0] == TRADE_BLOCK for name in event[-1])
    ask(seen, "there was no trade on the stream")
    return [trade for trade, count in seen.items() if count > 1]


def r7(road: Road, _dice: random.Random) -> None:
    """Every socket is half-open: nothing comes, and nothing ever says so. Only new connections are sound."""
    ask(road.redis_proxy.strand() > 0, "there was no connection to lose")


def r8(road: Road, _dice: random.Random) -> None:
    """A password that nobody was told, a right taken away, read-only, loading, busy: each is said, and not a thousand
    times."""
    before = {name: _records(road, name) for name in ("ingest", "steward", "drain-0", "trade")}
    began = time.monotonic()
    for wrong in (_another_password, _no_right_to_append, _read_only, _loading, _busy):
        wrong(road)
        road.recovered()
    seconds = time.monotonic() - began
    for name, records in before.items():
        written = _records(road, name) - records
        ask(written <= seconds + RECORDS_MAX, f"{name} wrote {written} records in {seconds:.0f} s")


def _another_password(road: Road) -> None:
    with road.redis() as client:
        client.config_set("requirepass", "changed")
        client.client_kill_filter(_type="normal", skipme=True)
        time.sleep(WRONG_SECONDS)
        client.config_set("requirepass", "")


def _no_right_to_append(road: Road) -> None:
    with road.redis() as client:
        client.execute_command("ACL", "SETUSER", "default", "-xadd", "-lpush", "-eval", "-evalsha")  # type: ignore[no-untyped-call]
        time.sleep(WRONG_SECONDS)
        client.execute_command("ACL", "SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]


def _read_only(road: Road) -> None:
    """As a server that was made the replica of another one, which does not answer."""
    with road.redis() as client:
        client.replicaof("127.0.0.1", str(pick_port()))
        time.sleep(WRONG_SECONDS)
        client.replicaof("NO", "ONE")


def _loading(road: Road) -> None:
    """It comes back and reads its file for some seconds. The server takes a delay per command that it reads."""
    road.valkey.kill()
    commands = sum(path.read_bytes().count(b"\r\n*") for path in road.valkey.folder.glob("appendonlydir/*.aof"))
    road.valkey.start("--key-load-delay", str(WRONG_SECONDS * 1_000_000 // max(commands, 1)))


def _busy(road: Road) -> None:
    with road.redis() as client:
        client.config_set("busy-reply-threshold", 100)
    endless = threading.Thread(target=_endless, args=[road], daemon=True)
    endless.start()
    time.sleep(WRONG_SECONDS)
    with road.redis() as client:
        client.script_kill()
    endless.join(timeout=10)


def _endless(road: Road) -> None:
    try:
        with redis.Redis.from_url(road.valkey.url, socket_timeout=30) as client:
            client.eval("while true do end", 0)
    except redis.RedisError:
        return


def _records(road: Road, name: str) -> int:
    """Records of its log so far; a record may have many lines."""
    return len(re.findall(rb"^\d{4}-\d\d-\d\d ", road.children[name].log.read_bytes(), re.MULTILINE))


def r9(road: Road, _dice: random.Random) -> None:
    """Entries that nobody can read, an enormous one among them, and a flag of the wrong type."""
    before = road.one("SELECT count(*) FROM market_deadentry")
    injected = 0
    with road.redis() as client:
        for shard in range(SHARDS):
            for payload in ({"b": b"\x00not an entry"}, {"x": "unknown"}, {"b": b"z" * 1_000_000}):
                wait_until("an entry is between two others", lambda: _injected(road, shard, payload), seconds=30)  # noqa: B023
                injected += 1
            flag = f"dirty:{road.session['epoch']}:{shard}"
            together = client.pipeline(transaction=True)  # the ingest sets it again at any moment
            together.delete(flag)
            together.rpush(flag, "wrong")
            together.execute()
    wait_until(
        "every unreadable entry is set aside",
        lambda: road.one("SELECT count(*) FROM market_deadentry") >= before + injected,
        seconds=60,
    )


def _injected(road: Road, shard: int, payload: Any) -> bool:
    """Whether it is the newest entry now. The ingest may have been faster with one of its own."""
    ms, number = _order(road.tails()[shard])
    try:
        with road.redis() as client:
            client.xadd(road.stream(shard), payload, id=f"{ms}-{number + 1}")
    except redis.ResponseError:
        return False
    return True


ROWS: Final = (
    Row("R1", "killed: a blink, and until the watchdog has tripped", r1, 10),
    Row("R2", "emptied", r2, 15),
    Row("R3", "rolled back by two seconds", r3, 15),
    Row("R4", "replaced by a replica that is two seconds behind", r4, 15),
    Row("R5", "memory full", r5, 15),
    Row("R6", "standing still for 3, 7, 30 and 120 s, then slow", r6, 35),
    Row("R7", "half-open sockets", r7, 35),
    Row("R8", "another password, a right less, read-only, loading, busy with a script", r8, 15),
    Row("R9", "unreadable entries, a key of the wrong type", r9, 15),
)
