"""Decisions per second of one account, by 1, 10 and 50 connections at once: `python -m tests.bench.decisions COUNT`.

Processes of five connections at most take entry signals that lie ready and decide on them; every decision locks the
same account, so more connections cannot give more decisions than one lock lets through. Runs on fresh servers
(`apps.ops.embedded exec --temporary`) and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from threading import Thread
from typing import Any, Final, NoReturn

import django

from tests.ingest.processes import REPOSITORY

SIGNALS: Final = 2_000
SHAPES: Final = {1: (1, 1), 10: (5, 2), 50: (10, 5)}  # connections: processes and connections of each
_GIVE_UP_SECONDS: Final = 900


def measure(signals: int = SIGNALS) -> dict[str, Any]:
    """Start the servers and this module on them."""
    command = [sys.executable, "-m", "apps.ops.embedded", "exec", "--temporary", "--"]
    command += [sys.executable, "-m", "tests.bench.decisions", str(signals)]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=_GIVE_UP_SECONDS
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(signals: int) -> dict[str, float]:
    from django.core.management import call_command
    from django.db import connections

    from apps.risk.models import RiskDecision
    from apps.signals.models import Signal
    from tests.storm.world import make_world

    call_command("migrate", verbosity=0)
    make_world(signals * len(SHAPES), seed=1)
    keys = list(Signal.objects.order_by("id").values_list("pk", flat=True))
    rates = {}
    for number, (count, (processes, threads)) in enumerate(SHAPES.items()):
        share = keys[number * signals : (number + 1) * signals]
        connections.close_all()
        began = time.perf_counter()
        _decide_all(share, processes, threads)
        rates[f"decisions_per_s_{count}"] = signals / (time.perf_counter() - began)
        decided = RiskDecision.objects.filter(signal_id__in=share).count()
        assert decided == signals, f"{decided} of {signals} signals decided by {count} connections"
    return rates


def _decide_all(keys: list[int], processes: int, threads: int) -> None:
    children = []
    hands, parent = processes * threads, os.getpid()
    for process in range(processes):
        child = os.fork()
        if not child:
            _become_decider([keys[process * threads + number :: hands] for number in range(threads)], parent)
        children.append(child)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a decider failed; its traceback is above"


def _become_decider(shares: list[list[int]], parent: int) -> NoReturn:
    """Decide on every share in a thread of its own. The process ends here and clears nothing up of its parent's."""
    from apps.ops.embedded.server import die_with_parent

    failed: list[int] = []
    try:
        die_with_parent(signal.SIGKILL, parent)()
        hands = [Thread(target=_decide, args=(share, failed)) for share in shares]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
    except (OSError, RuntimeError):
        traceback.print_exc()
        failed.append(0)
    finally:
        os._exit(bool(failed))


def _decide(keys: list[int], failed: list[int]) -> None:
    from django.db import connection

    from apps.risk.services import assess
    from tests.worlds import NOW_MS, fresh, sound

    failed.append(1)
    for key in keys:
        assess(signal_id=key, now_ms=NOW_MS, feed=fresh, path=sound)
    failed.pop()
    connection.close()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    django.setup()
    print(json.dumps(_measure(int(sys.argv[1]))))
