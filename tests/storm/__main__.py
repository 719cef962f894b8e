"""`python -m tests.storm`, for people `make storm SIGNALS=10000`: a database of its own, the storm, the verdict.

Exit code 0 if everything held, 1 if something did not, with the seed that makes the same storm again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.database import OwnPostgres, own_folder

if TYPE_CHECKING:  # both need settings, and those need the database's address
    from apps.ops.verify.result import Check
    from tests.storm.run import Force, Outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__.splitlines()[0])
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--connections", type=int, default=5, help="of each process, in a thread each")
    parser.add_argument("--kills", type=int, default=100, help="inside the decision transaction, at least")
    parser.add_argument("--restarts", type=int, default=10, help="of the database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3_000, help="after which it is given up")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    with own_folder() as folder, OwnPostgres(Path(folder) / "data") as database:
        os.environ.update(DATABASE_URL=database.url, CDB_DATA_DIR=str(database.home.root), CDB_PROCESS_ROLE="worker")
        os.environ.pop("REDIS_URL", None)  # nobody is woken, so every event stays for a relay
        return _storm(database, options)


def _storm(database: OwnPostgres, options: argparse.Namespace) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    import django

    django.setup()
    from django.core.management import call_command

    from cdb_project import celery
    from tests.storm.judging import judge
    from tests.storm.run import Force, Storm

    celery.app.set_default()
    _quieten()
    call_command("migrate", verbosity=0)
    force = Force(
        options.signals, options.processes, options.connections, options.kills, options.restarts, options.seed,
        options.seconds,
    )  # fmt: skip
    storm = Storm(database, force, database.home.root)
    outcome = storm.run()
    checks = judge(storm.world, force, outcome, database.url)
    figures = figures_of(force, outcome, checks)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    _print(figures, checks)
    return 0 if all(check.ok for check in checks) else 1


def _quieten() -> None:
    """Thousands of denials are no news here."""
    import logging

    logging.getLogger().setLevel(logging.CRITICAL)


def figures_of(force: Force, outcome: Outcome, checks: list[Check]) -> dict[str, Any]:
    locks = sorted(outcome.lock_ms) or [0.0]
    return {
        **asdict(force),
        "kills_done": dict(outcome.kills),
        "kills_in_decision": outcome.kills_in_decision,
        "restarts_done": dict(outcome.restarts),
        "restart_seconds_max": round(max(outcome.restart_seconds, default=0.0), 2),
        "locks": len(outcome.lock_ms),
        "lock_idle_ms_p50": round(outcome.idle_lock_ms, 3),
        "lock_ms_p50": round(statistics.median(locks), 3),
        "lock_ms_p99": round(locks[int(len(locks) * 0.99)], 3),
        "waiting_p50": statistics.median(outcome.waiting or [0]),
        "took_seconds": round(outcome.seconds, 1),
        "checks": [check.row() for check in checks],
    }


def _print(figures: dict[str, Any], checks: list[Check]) -> None:
    print(
        f"{figures['signals']} signals, {figures['processes']} processes of {figures['connections']} connections,"
        f" {figures['took_seconds']} s, seed {figures['seed']}\n"
        f"killed: {figures['kills_done']}; database restarted: {figures['restarts_done']}\n"
        f"lock of the account: median {figures['lock_ms_p50']} ms, p99 {figures['lock_ms_p99']} ms over"
        f" {figures['locks']}, idle {figures['lock_idle_ms_p50']} ms; median {figures['waiting_p50']} sessions wait"
    )
    for check in checks:
        row = check.row()
        print(f"{'holds' if row['ok'] else 'FAILS'}  {row['id']}: {row['detail']} ({row['compared']} compared)")
    if not all(check.ok for check in checks):
        print(f"SEED={figures['seed']}")


if __name__ == "__main__":
    sys.exit(main())
