"""What a stack was started with and where its servers listen: `runtime.json` in the data directory, mode 0600.

Django's settings, the management commands and scripts read this file; only `stack up` writes it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.ops.embedded import postgres, valkey
from apps.ops.embedded.home import Home, Refusal, pick_port, port_is_free, write_private

FILE_NAME = "runtime.json"
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 107, and the manager adds a suffix while it starts


NAME_MAX = 100
DAYS_MAX = 365


def block_fault(name: str, days: int | None) -> str:
    """What is wrong with the name or the length of a new session; empty if nothing is."""
    if len(name) > NAME_MAX or name != " ".join(name.split()):
        return f"a session's name has at most {NAME_MAX} characters, and words one space apart"
    if days is not None and not 1 <= days <= DAYS_MAX:
        return f"a block has 1 to {DAYS_MAX} days, not {days}"
    return ""


@dataclass(frozen=True, slots=True)
class Options:
    """What the person at the terminal asked for."""

    mode: str = "demo"
    port: int = 8000
    replay_files: tuple[str, ...] = ()
    speed: float | None = None
    tier: str | None = None
    seed: int | None = None
    new_session: bool = False  # this and what follows is asked once, not remembered
    name: str = ""
    days: int | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """`mode` is demo, replay or live. A port that is None belongs to a server that is not ours."""

    port: int
    mode: str
    database_url: str
    redis_url: str
    flower_url: str
    flower_port: int
    ingest_http_port: int
    manager_socket: str
    postgres_port: int | None
    valkey_port: int | None
    exchange: dict[str, Any] = field(default_factory=dict)
    replay_files: tuple[str, ...] = ()
    speed: float | None = None
    tier: str | None = None
    seed: int | None = None
    shard_count: int = 0
    """0 until the settings were read."""
    standby_http_port: int | None = None
    """Of the ingest that waits to take over; None if there is none."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def options(self) -> Options:
        mode = "live" if self.mode == "live" else "demo"
        return Options(mode, self.port, self.replay_files, self.speed, self.tier, self.seed)

    def write(self, home: Home) -> None:
        write_private(home.root / FILE_NAME, json.dumps(dataclasses.asdict(self), indent=2))


def read_runtime(root: Path) -> Runtime | None:
    """None if no stack was ever started there. Raises Refusal."""
    path = root / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Runtime(**{**found, "replay_files": tuple(found["replay_files"])})
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise Refusal(f"{path} was not written by this program: remove it and start the stack again") from error


def plan_runtime(home: Home, options: Options, previous: Runtime | None, environment: Mapping[str, str]) -> Runtime:
    """Addresses for a start: those of the last start where they are still free."""
    ports = _Ports(options.port)
    last = dataclasses.asdict(previous) if previous else {"exchange": {}}
    external_database, external_redis = environment.get("DATABASE_URL"), environment.get("REDIS_URL")
    postgres_port = None if external_database else ports.take(last.get("postgres_port"))
    valkey_port = None if external_redis else ports.take(last.get("valkey_port"))
    exchange = {} if options.mode == "live" else _local_exchange(ports.take(last["exchange"].get("port")))
    flower_port = ports.take(last.get("flower_port"))
    return Runtime(
        port=options.port,
        mode="replay" if options.replay_files else options.mode,
        database_url=external_database or postgres.database_url(home, postgres_port or 0),
        redis_url=external_redis or valkey.redis_url(home, valkey_port or 0),
        flower_url=f"http://127.0.0.1:{flower_port}/",
        flower_port=flower_port,
        ingest_http_port=ports.take(last.get("ingest_http_port")),
        standby_http_port=ports.take(last.get("standby_http_port")),
        manager_socket=str(_socket_path(home)),
        postgres_port=postgres_port,
        valkey_port=valkey_port,
        exchange=exchange,
        replay_files=options.replay_files,
        speed=options.speed,
        tier=options.tier,
        seed=options.seed,
    )


def _local_exchange(port: int) -> dict[str, Any]:
    return {"ws_url": f"ws://127.0.0.1:{port}/ws", "rest_url": f"http://127.0.0.1:{port}", "port": port}


class _Ports:
    def __init__(self, *taken: int) -> None:
        self._taken = set(taken)

    def take(self, wished: int | None) -> int:
        port = wished if wished and wished not in self._taken and port_is_free(wished) else pick_port(self._taken)
        self._taken.add(port)
        return port


def _socket_path(home: Home) -> Path:
    """In the data directory, or in a private directory of ours if its name is too long for a Unix socket."""
    near = home.root / "run" / "manager.sock"
    if len(os.fsencode(near)) <= SOCKET_PATH_BYTES_MAX:
        return near
    folder = Path(tempfile.gettempdir()) / f"cdb-{os.geteuid()}-{home.instance}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid() or folder.stat().st_mode & 0o077:
        raise Refusal(f"{folder} is not a private directory of this user: remove it")
    return folder / "manager.sock"
