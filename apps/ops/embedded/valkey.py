"""Our Valkey: password, no eviction, append-only file, loopback only."""

from __future__ import annotations

from pathlib import Path

from apps.ops.embedded.account import own_directory
from apps.ops.embedded.binaries import valkey_program
from apps.ops.embedded.home import Home, claim_servers
from apps.ops.embedded.server import Server, write_as_account

# At its memory limit it refuses writes, which the ingest declares as a gap; without one the kernel would kill somebody.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass "{password}"
dir "{folder}"
appendonly {append_only}
appendfsync everysec
save ""
maxmemory 1gb
maxmemory-policy noeviction
daemonize no
logfile ""
"""


def redis_url(home: Home, port: int) -> str:
    return f"redis://:{home.secret('valkey_password')}@127.0.0.1:{port}/0"


def folder(home: Home) -> Path:
    return home.servers / "valkey"


def server(home: Home) -> Server:
    return Server("valkey", (str(valkey_program(home)), str(folder(home) / "valkey.conf")), home.account)


def prepare(home: Home, port: int, *, lasting: bool = True) -> None:
    """Make its folder if it is missing and write its configuration. One that need not last keeps no file."""
    claim_servers(home)
    own_directory(folder(home), home.account)
    configuration = CONFIGURATION.format(
        port=port,
        password=home.secret("valkey_password"),
        folder=str(folder(home)).replace("\\", "\\\\").replace('"', '\\"'),
        append_only="yes" if lasting else "no",
    )
    write_as_account(home, folder(home) / "valkey.conf", configuration)
