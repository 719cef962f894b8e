"""Backup and restore of our PostgreSQL, with the programs that come with it. A server of somebody else is theirs.

A restore never writes over anything: the backup is loaded into a database of its own, and only a complete one takes
the place of the present one, which is kept under another name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from apps.ops.embedded import postgres
from apps.ops.embedded.binaries import postgres_folder
from apps.ops.embedded.home import Home, Refusal
from apps.ops.embedded.ready import wait_for_postgres
from apps.ops.embedded.server import server_environment
from apps.ops.stack.manager import Manager
from apps.ops.stack.runtime import Runtime

DATABASE = "cdb"
LOADING = "cdb_loading"
STOP_SECONDS = 30
TOKEN_BYTES = 3
MARK = b"cdb backup 1\n"
"""Follows the dump, and is followed by its SHA-256."""
DIGEST_BYTES = hashlib.sha256().digest_size
PIECE_BYTES = 1 << 20

INCARNATION = """
INSERT INTO execution_databaseincarnation (token, reason, created_at) VALUES (%s, %s, clock_timestamp())
"""


def backup(home: Home, runtime: Runtime, target: Path) -> int:
    """Write a backup to `target`, which must not exist yet; its size in bytes. Works while the stack runs. Refusal."""
    _refuse_foreign(runtime)
    if target.exists():
        raise Refusal(f"{target} exists already: choose another name")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _running(home, runtime), _private(draft) as file:
            _run(home, runtime, "pg_dump", ["--format=custom", "--no-owner", "--dbname", DATABASE], output=file)
        digest = _digest(draft, draft.stat().st_size)
        with draft.open("ab") as file:
            file.write(MARK + digest)
        draft.rename(target)
    finally:
        draft.unlink(missing_ok=True)
    return target.stat().st_size


def restore(home: Home, runtime: Runtime, source: Path) -> str:
    """Load a backup; the name under which the database of before is kept. Raises Refusal, and then nothing changed."""
    _refuse_foreign(runtime)
    if not source.is_file():
        raise Refusal(f"{source} is not a file")
    if Manager(home, runtime).pid() is not None:
        raise Refusal("the stack is running: stop it first with `make down`")
    size = _whole(source)
    with _running(home, runtime):
        _statement(runtime, "DROP DATABASE IF EXISTS {}", LOADING)
        _statement(runtime, "CREATE DATABASE {}", LOADING)
        options = ["--exit-on-error", "--single-transaction", "--no-owner", "--dbname", LOADING]
        _run(home, runtime, "pg_restore", options, given=_pieces(source, size))
        _begin_incarnation(runtime, source)
        before = f"{DATABASE}_before_{datetime.now(UTC):%Y%m%d_%H%M%S}"
        _statement(runtime, "ALTER DATABASE {} RENAME TO {}", DATABASE, before)
        _statement(runtime, "ALTER DATABASE {} RENAME TO {}", LOADING, DATABASE)
    return before


def _refuse_foreign(runtime: Runtime) -> None:
    if runtime.postgres_port is None:
        raise Refusal(
            "DATABASE_URL names a server that is not ours: use its own tools, and after a restore"
            " `manage.py recover database`"
        )


@contextmanager
def _running(home: Home, runtime: Runtime) -> Iterator[None]:
    """PostgreSQL answers: the stack's, or one that runs only for this."""
    if Manager(home, runtime).pid() is not None:
        wait_for_postgres(runtime.database_url)
        yield
        return
    postgres.prepare(home, runtime.postgres_port or 0)
    process = postgres.server(home).start(home.root / "logs" / "postgres.log")
    try:
        wait_for_postgres(runtime.database_url, alive=lambda: process.poll() is None)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file


def _environment(runtime: Runtime) -> Mapping[str, str]:
    """The password goes through the environment: arguments show in the list of processes."""
    url = urlsplit(runtime.database_url)
    place = {"PGHOST": url.hostname or "", "PGPORT": str(url.port or ""), "PGUSER": url.username or ""}
    return {**server_environment(), **place, "PGPASSWORD": url.password or ""}


def _run(
    home: Home,
    runtime: Runtime,
    program: str,
    options: list[str],
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    given: Iterable[bytes] = (),
) -> None:
    """Run a program of PostgreSQL's to its end; `given` is its input. Raises Refusal if it fails."""
    command = [str(postgres_folder(home) / program), *options]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=complaints, env=_environment(runtime)
        ) as process,
    ):
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # it says itself why it reads no further
            for piece in given:
                process.stdin.write(piece)
        code = process.wait()
        complaints.seek(0)
        lines = complaints.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
    if code != 0:
        raise Refusal(f"{program} failed with exit code {code}: {lines[0]}")


def _whole(source: Path) -> int:
    """How many bytes of a backup are the dump. The programs do not notice a torn end, so we look. Raises Refusal."""
    size = source.stat().st_size - len(MARK) - DIGEST_BYTES
    if size > 0:
        with source.open("rb") as file:
            file.seek(size)
            if file.read() == MARK + _digest(source, size):
                return size
    raise Refusal(f"{source} is not a whole backup: make one with `manage.py stack backup`")


def _digest(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    for piece in _pieces(path, size):
        digest.update(piece)
    return digest.digest()


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file."""
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, PIECE_BYTES))):
            size -= len(piece)
            yield piece


def _statement(runtime: Runtime, statement: str, *names: str) -> None:
    """A statement about databases, which none of them may be part of."""
    elsewhere = urlsplit(runtime.database_url)._replace(path="/postgres").geturl()
    try:
        with psycopg.connect(elsewhere, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*(sql.Identifier(name) for name in names)))
    except psycopg.Error as error:
        raise Refusal(f"the database refused: {str(error).strip().splitlines()[0]}") from error


def _begin_incarnation(runtime: Runtime, source: Path) -> None:
    """What this database gives out from now on is no repetition. An older backup gets its first one at its start."""
    url = urlsplit(runtime.database_url)._replace(path=f"/{LOADING}").geturl()
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT to_regclass('execution_databaseincarnation')").fetchone()
        if found and found[0]:
            connection.execute(INCARNATION, [secrets.token_hex(TOKEN_BYTES), f"restored from {source.name}"[:200]])
