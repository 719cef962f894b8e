"""Rows R1 to R9: Redis gone, empty, rolled back, replaced, full, mute, wrong."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from typing import Any, Final

import redis

from apps.ops.embedded import binaries
from apps.ops.embedded.home import pick_port
from tests.faults.matrix_road import SHARDS, Road, _order
from tests.faults.matrix_rows import Row, ask, no_order_leaves
from tests.faults.processes import Valkey, wait_until

DOWN_SECONDS: Final = 7
LOG_LINES_PER_SECOND_MAX: Final = 5


def r1(road: Road, _dice: random.Random) -> None:
    road.valkey.kill()
    with no_order_leaves(road):
        time.sleep(DOWN_SECONDS)
    road.valkey.start()


def r2(road: Road, _dice: random.Random) -> None:
    """Everything is gone: ids go on above what PostgreSQL knows, the loss is declared, nothing is raised again."""
    tails = road.tails()
    before = road.one("SELECT count(*) FROM market_coverage WHERE status = 'unproven'")
    with road.redis() as client:
        client.flushall()
    _goes_on_above(road, tails)
    raised = road.one("SELECT COALESCE(max(id), 0) FROM signals_signal")
    road.recovered()
    wait_until(
        "the loss is declared",
        lambda: road.one("SELECT count(*) FROM market_coverage WHERE status = 'unproven'") >= before,
        seconds=30,
    )
    ask(road.one("SELECT count(*) FROM signals_signal WHERE id <= %s", raised) >= 0, "signals vanished")


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
    road.redis_proxy.stop()
    road.lead_redis_to(port)
    _goes_on_above(road, tails)


def _in_step(client: redis.Redis) -> bool:
    info: Any = client.info("replication")
    return bool(info["master_link_status"] == "up")


def r5(road: Road, _dice: random.Random) -> None:
    """Its memory is full: writes are refused, the ingest keeps what it can and declares the rest."""
    with road.redis() as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
        with no_order_leaves(road):
            time.sleep(DOWN_SECONDS)
        ask(client.ping(), "it does not answer reads")
        client.config_set("maxmemory", 0)


def r6(road: Road, dice: random.Random) -> None:
    """It stands still, then it is slow."""
    road.valkey.signal(signal.SIGSTOP)
    time.sleep(dice.choice((3, 7)))
    road.valkey.signal(signal.SIGCONT)
    with road.redis() as client:
        client.execute_command("DEBUG", "SLEEP", "2")  # type: ignore[no-untyped-call]


def r7(road: Road, _dice: random.Random) -> None:
    """Every socket is half-open: nothing comes, and nothing says so."""
    road.redis_proxy.drop(discard=True)
    time.sleep(12)
    road.redis_proxy.heal()


def r8(road: Road, _dice: random.Random) -> None:
    """A password that nobody was told, then a script that never ends: each is said, and not a thousand times."""
    before = {name: _lines(road, name) for name in ("ingest", "steward", "drain-0", "trade")}
    with road.redis() as client:
        client.config_set("requirepass", "changed")
        client.client_kill_filter(_type="normal", skipme=True)
        time.sleep(5)
        client.config_set("requirepass", "")
        client.config_set("busy-reply-threshold", 100)
    endless = threading.Thread(target=_endless, args=[road], daemon=True)
    endless.start()
    time.sleep(3)
    with road.redis() as client:
        client.script_kill()
    endless.join(timeout=10)
    for name, lines in before.items():
        written = _lines(road, name) - lines
        ask(written <= 8 * 60 * LOG_LINES_PER_SECOND_MAX, f"{name} wrote {written} lines in 8 s")


def _endless(road: Road) -> None:
    try:
        with redis.Redis.from_url(road.valkey.url, socket_timeout=30) as client:
            client.eval("while true do end", 0)
    except redis.RedisError:
        return


def _lines(road: Road, name: str) -> int:
    return road.children[name].log.read_bytes().count(b"\n")


def r9(road: Road, _dice: random.Random) -> None:
    """Entries that nobody can read, an enormous one among them, and a flag of the wrong type."""
    before = road.one("SELECT count(*) FROM market_deadentry")
    injected = 0
    with road.redis() as client:
        for shard in range(SHARDS):
            for payload in ({"b": b"\x00not an entry"}, {"x": "unknown"}, {"b": b"z" * 1_000_000}):
                tail = _order(road.tails()[shard])
                client.xadd(road.stream(shard), payload, id=f"{tail[0]}-{tail[1] + 1}")  # type: ignore[arg-type]
                injected += 1
            flag = f"dirty:{road.session['epoch']}:{shard}"
            client.delete(flag)
            client.rpush(flag, "wrong")
    wait_until(
        "every unreadable entry is set aside",
        lambda: road.one("SELECT count(*) FROM market_deadentry") >= before + injected,
        seconds=60,
    )


ROWS: Final = (
    Row("R1", "killed, started again after 7 s", r1, 10),
    Row("R2", "emptied", r2, 15),
    Row("R3", "rolled back by two seconds", r3, 15),
    Row("R4", "replaced by a replica that is two seconds behind", r4, 15),
    Row("R5", "memory full", r5, 15),
    Row("R6", "standing still, then slow", r6, 35),
    Row("R7", "half-open sockets", r7, 35),
    Row("R8", "another password, then busy with a script", r8, 15),
    Row("R9", "unreadable entries, a key of the wrong type", r9, 15),
)
