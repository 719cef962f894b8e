"""Our PostgreSQL cluster: made once with scram everywhere, configured anew at every start, run in the foreground."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from apps.ops.embedded.binaries import postgres_folder
from apps.ops.embedded.home import Home, Refusal, claim_servers
from apps.ops.embedded.server import Server, run_program, write_as_account

# For a machine of two cores that also runs everything else: few processes, little memory, no surprising plans.
CONFIGURATION = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 60
password_encryption = 'scram-sha-256'
shared_buffers = '128MB'
effective_cache_size = '512MB'
work_mem = '8MB'
max_wal_size = '512MB'
max_worker_processes = 2
max_parallel_workers_per_gather = 0
io_method = 'sync'
jit = off
fsync = {fsync}
full_page_writes = {fsync}
track_commit_timestamp = on
log_destination = 'stderr'
logging_collector = off
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
lc_messages = 'C'
datestyle = 'ISO, YMD'
cluster_name = 'cdb'
"""


def database_url(home: Home, port: int) -> str:
    return f"postgresql://cdb:{home.secret('postgres_password')}@127.0.0.1:{port}/cdb"


def cluster(home: Home) -> Path:
    return home.servers / "postgres"


def server(home: Home) -> Server:
    return Server("postgres", (str(postgres_folder(home) / "postgres"), "-D", str(cluster(home))), home.account)


def prepare(home: Home, port: int, *, lasting: bool = True) -> None:
    """Make the cluster if it is missing and configure it. One that need not last is not synced to the disk."""
    if not cluster(home).exists():
        _make_cluster(home, lasting=lasting)
    refuse_other_major(home)
    configuration = CONFIGURATION.format(port=port, fsync="on" if lasting else "off")
    write_as_account(home, cluster(home) / "postgresql.conf", configuration)


def _make_cluster(home: Home, *, lasting: bool) -> None:
    """Make it under another name and rename it when complete. The superuser's password is thrown away on purpose."""
    claim_servers(home)
    programs = postgres_folder(home)
    draft = home.servers / "postgres.new"
    shutil.rmtree(draft, ignore_errors=True)
    thrown_away = home.servers / "superuser_password"
    write_as_account(home, thrown_away, secrets.token_urlsafe(32))
    options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={thrown_away}", "--encoding=UTF8"]
    options += ["--locale=C", "--data-checksums", "--no-instructions", *([] if lasting else ["--no-sync"])]
    run_program(home, [str(programs / "initdb"), *options, "-D", str(draft)])
    thrown_away.unlink()
    password = home.secret("postgres_password").replace("'", "''")
    statements = f"CREATE ROLE cdb LOGIN CREATEDB PASSWORD '{password}'\nCREATE DATABASE cdb OWNER cdb\n"
    run_program(home, [str(programs / "postgres"), "--single", "-D", str(draft), "postgres"], statements)
    draft.rename(cluster(home))


def refuse_other_major(home: Home) -> None:
    found = run_program(home, ["cat", str(cluster(home) / "PG_VERSION")]).strip()
    ours = run_program(home, [str(postgres_folder(home) / "postgres"), "--version"]).split()[-1].split(".")[0]
    if found != ours:
        raise Refusal(
            f"data directory {home.root} belongs to PostgreSQL {found}, this program brings PostgreSQL {ours}:"
            " dump it with the old version and load it into a new data directory"
        )
