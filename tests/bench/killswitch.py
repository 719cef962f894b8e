"""How long after a click or a command the last order leaves, while several processes decide and send all the time.

`python -m tests.bench.killswitch CLICKS COMMANDS` runs on fresh servers (`apps.ops.embedded exec --temporary`): three
processes of two threads raise entry signals, decide on them and send the orders to a venue that notes when each
arrived, up to thirty a second, six times what the limits let through. A click is the POST of the confirmation page,
through the whole of Django; a command is `manage.py risk halt` from the start of its process to the last order. Prints
one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NoReturn

import django

from tests.ingest.processes import REPOSITORY

if TYPE_CHECKING:
    from tests.worlds import World

CLICKS: Final = 100
COMMANDS: Final = 15
PROCESSES: Final = 3
THREADS: Final = 2
SYMBOLS: Final = 30
FLOWING: Final = 10  # orders between a resume and the next halt, at least
APART_MS: Final = 60_000
POLL_SECONDS: Final = 0.01
SLOT_SECONDS: Final = 0.2  # of each thread, for one order
_GIVE_UP_SECONDS: Final = 900
# What is to stop the orders is the trading state alone.
WIDE: Final = {
    "orders_per_second_max": 1_000_000, "orders_per_minute_max": 1_000_000, "orders_per_day_max": 1_000_000,
    "open_orders_max": 1_000_000, "open_orders_symbol_max": 1_000, "repeat_max": 1_000_000,
}  # fmt: skip


def measure(clicks: int = CLICKS, commands: int = COMMANDS) -> dict[str, Any]:
    """Start the servers and this module on them."""
    command = [sys.executable, "-m", "apps.ops.embedded", "exec", "--temporary", "--"]
    command += [sys.executable, "-m", "tests.bench.killswitch", str(clicks), str(commands)]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=_GIVE_UP_SECONDS
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def p(values: list[float], share: float) -> float:
    """The value that this share of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Journal:
    """When orders reached the venue, in ms of the machine's monotonic clock, one a line, written by all processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self) -> None:
        os.write(self._file, f"{time.monotonic() * 1000:.3f}\n".encode())

    def arrivals(self) -> list[float]:
        return [float(line) for line in self._path.read_text().split()]


def _sender(world: World, journal: Journal, number: int) -> None:
    """Raise, decide, send, until the process is ended."""
    from apps.execution.services import submit_order
    from apps.execution.venues.base import OrderRequest, Report, VenueStatus
    from tests.execution.venues import ScriptedVenue
    from tests.worlds import TRIGGER_MS, fresh

    class NotingVenue(ScriptedVenue):
        """Every order expires at once, so that nothing stays reserved."""

        def submit(self, request: OrderRequest) -> Report:
            journal.note()
            return super().submit(request)

    venue = NotingVenue(status=VenueStatus.EXPIRED)
    names = sorted(world.instruments)
    due = time.monotonic()
    for turn in itertools.count():
        due = max(due + SLOT_SECONDS, time.monotonic() - SLOT_SECONDS)
        time.sleep(max(due - time.monotonic(), 0))
        place = number * 10_000_000 + turn
        raised = world.entry_signal(
            names[place % len(names)],
            ts_event=TRIGGER_MS + place * APART_MS,
            trade_id=str(place),
            trigger_key=f"k:{place}",
        )
        decision = world.decide(raised)
        intent = decision.intents.first() if decision else None
        if intent is not None:
            now_ms = int(intent.created_at.timestamp() * 1000)
            submit_order(intent_id=intent.pk, now_ms=now_ms, feed=fresh, venue=venue)
        venue.received.clear()


def _fork_senders(world: World, journal: Journal) -> list[int]:
    from django.db import connections

    connections.close_all()
    children, parent = [], os.getpid()
    for process in range(PROCESSES):
        child = os.fork()
        if not child:
            _become_sender(world, journal, process * THREADS + 1, parent)
        children.append(child)
    return children


def _become_sender(world: World, journal: Journal, first: int, parent: int) -> NoReturn:
    """The threads of a forked process; it ends here, and clears nothing up that is its parent's."""
    from apps.ops.embedded.server import die_with_parent

    try:
        die_with_parent(signal.SIGKILL, parent)()
        hands = [Thread(target=_sender, args=(world, journal, first + number)) for number in range(THREADS)]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
    except (OSError, RuntimeError, TypeError):
        traceback.print_exc()
    finally:
        os._exit(1)


def _stop_once(world: World, journal: Journal, press: Callable[[], None]) -> tuple[float, int]:
    """Let orders flow, press, and see: ms from the press to the last order that arrived, and how many arrived after
    the press had returned."""
    from apps.risk.models import TradingState
    from apps.risk.services import set_trading_state

    set_trading_state(account_id=world.account.pk, to_state=TradingState.ACTIVE, set_by="bench", reason="next round")
    enough = len(journal.arrivals()) + FLOWING
    deadline = time.monotonic() + 20
    while len(journal.arrivals()) < enough:
        assert time.monotonic() < deadline, f"no orders flow: {_newest_words()}"
        time.sleep(POLL_SECONDS)
    began = time.monotonic() * 1000
    press()
    returned = time.monotonic() * 1000
    time.sleep(3 * SLOT_SECONDS)  # in which every sender comes round
    arrivals = journal.arrivals()
    last = max((at for at in arrivals if at >= began), default=began)
    return last - began, sum(at > returned for at in arrivals)


def _newest_words() -> list[str]:
    from apps.risk.models import RiskDecision

    return list(RiskDecision.objects.order_by("-id").values_list("sentence", flat=True)[:3])


def _pressers(world: World) -> tuple[Callable[[], None], Callable[[], None]]:
    from django.contrib.auth.models import User
    from django.test import Client
    from django.urls import reverse

    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("bench"))
    page = reverse("admin:risk_riskstate_halt", args=(world.state.pk,))

    def click() -> None:
        answer = client.post(page, {"about": "account:", "reason": "bench"})
        assert answer.status_code == 302, answer.status_code

    def command() -> None:
        subprocess.run(
            [sys.executable, "manage.py", "risk", "halt", "--reason", "bench"],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True, timeout=60,
        )  # fmt: skip

    return click, command


def _measure(clicks: int, commands: int) -> dict[str, Any]:
    from django.core.management import call_command

    from apps.risk.models import RiskLimits
    from tests.worlds import open_world

    call_command("migrate", verbosity=0)
    world = open_world([f"C{number:02d}USDT" for number in range(SYMBOLS)])
    RiskLimits.objects.update(**WIDE)
    with tempfile.TemporaryDirectory(prefix="cdb-bench-") as name:
        journal = Journal(Path(name) / "arrivals")
        children = _fork_senders(world, journal)
        try:
            click, command = _pressers(world)
            began = time.monotonic()
            clicked = [_stop_once(world, journal, click) for _ in range(clicks)]
            seconds = time.monotonic() - began
            orders = len(journal.arrivals())
            commanded = [_stop_once(world, journal, command) for _ in range(commands)]
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    by_click, by_command = [ms for ms, _ in clicked], [ms for ms, _ in commanded]
    return {
        "click_p50_ms": p(by_click, 0.5),
        "click_p99_ms": p(by_click, 0.99),
        "command_p50_ms": p(by_command, 0.5),
        "command_p99_ms": p(by_command, 0.99),
        "clicks": clicks,
        "commands": commands,
        "orders": orders,
        "orders_per_s": orders / seconds,
        "orders_after_return": sum(late for _, late in clicked + commanded),
    }


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    django.setup()
    import logging

    logging.disable(logging.WARNING)
    print(json.dumps(_measure(int(sys.argv[1]), int(sys.argv[2]))))
