"""A lane: what runs share that follow one another, so that each run starts fast.

A database of its own (a copy of a migrated template), a keeper, ports that stay the same, and a data directory with
secrets. Each run gets its own Valkey, exchange, proxy, ingest and epoch.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from apps.ops.embedded import binaries
from apps.ops.embedded.home import open_home, pick_port
from tests.faults.processes import REPOSITORY, python
from tests.ingest.certificates import make_authority, server_files

TEMPLATE: Final = "faults_template"
PORT_NAMES: Final = ("valkey", "exchange", "proxy", "rest", "ingest", "standby")


class KeeperFailed(Exception):
    """The keeper ended or answered with an error."""


def database_named(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def make_template(database_url: str, environment: Mapping[str, str]) -> None:
    """A migrated database that lanes copy. Its server must let us create databases."""
    _create(database_url, TEMPLATE)
    target = {**environment, "DATABASE_URL": database_named(database_url, TEMPLATE)}
    command = [sys.executable, "manage.py", "migrate", "-v0"]
    subprocess.run(command, cwd=REPOSITORY, env=target, check=True, timeout=120)


def drop(database_url: str, *names: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(database_url: str, name: str, template: str | None = None) -> None:
    drop(database_url, name)
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement)


class Lane:
    """`folder` is made by the caller and holds everything the lane writes."""

    def __init__(self, number: int, database_url: str, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.keeper_log = folder / "keeper.log"
        self._server_url = database_url
        self._database = f"faults_lane_{number}"
        self.database_url = database_named(database_url, self._database)
        home = open_home(folder / "data")
        self.valkey_program = binaries.valkey_program(home)
        self.ports: dict[str, int] = {}
        for name in PORT_NAMES:
            self.ports[name] = pick_port(self.ports.values())
        authority = make_authority(folder)
        self.certificate = server_files(folder, authority)
        self.tls = ssl.create_default_context(cafile=str(authority.file))
        self.redis_url = f"redis://127.0.0.1:{self.ports['valkey']}/0"
        self.environment = {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "CDB_DATA_DIR": str(home.root),
            "SSL_CERT_FILE": str(authority.file),  # an authority of our own, and no other
        }
        self._keeper: subprocess.Popen[str] | None = None

    def open(self) -> None:
        _create(self._server_url, self._database, TEMPLATE)
        with self.keeper_log.open("ab") as log:
            self._keeper = subprocess.Popen(
                python("tests.faults.keeper"),
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def close(self) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()  # its end of file is its order to end
            try:
                self._keeper.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()
        drop(self._server_url, self._database)

    def ask(self, **question: Any) -> dict[str, Any]:
        """One question to the keeper and its answer. Raises `KeeperFailed`."""
        keeper = self._keeper
        assert keeper is not None
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.write(json.dumps(question) + "\n")
        keeper.stdin.flush()
        line = keeper.stdout.readline()
        if not line:
            raise KeeperFailed("the keeper has ended; its log says why")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise KeeperFailed(answer["error"])
        return answer
