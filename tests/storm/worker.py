"""One process of the storm: threads with a connection each that decide, send and settle until nothing is left."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final

from django.db import IntegrityError, InterfaceError, OperationalError, connection

from apps.bus import failpoints
from apps.engine.orders import ENDED
from apps.execution.models import Order
from apps.execution.services import submit_order, sync_order
from apps.portfolio.models import Account, Position, Reservation
from apps.risk.models import OrderIntent
from apps.risk.services import assess
from apps.signals.models import Signal
from tests import factories
from tests.storm.world import StormVenue
from tests.worlds import NOW_MS, World, fresh, sound

TAKEN: Final = 400  # the oldest signals that a thread chooses from: so most are offered to several at once
ROUND: Final = 25
PAUSE_SECONDS: Final = 0.05
FAILED: Final = 1
Execute = Callable[[str, Any, bool, dict[str, Any]], Any]


def become_worker(number: int, *, world: World, threads: int, plan: str, folder: Path, seed: int) -> None:
    """Run the threads to their end; the process ends here, with status 0 or 1 and without any clearing up."""
    failpoints.arm(plan)
    made = [Hand(world, folder / f"waits-{number}", random.Random(f"{seed}:{n}")) for n in range(threads)]
    for hand in made:
        hand.start()
    for hand in made:
        hand.join()
    os._exit(FAILED if any(hand.failed for hand in made) else 0)


class Hand(Thread):
    """One thread with one connection. `waits` collects how long each lock of the account took, in ms, one a line."""

    def __init__(self, world: World, waits: Path, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.failed = True  # until it has found nothing left to do
        self._world = world
        self._account_id = world.account.pk
        self._dice = dice
        self._venue = StormVenue()
        self._waits = os.open(waits, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def run(self) -> None:
        try:
            while self._round_or_pause():
                pass
            self.failed = False
        finally:  # an error that nobody expected is printed by the thread itself
            connection.close()

    def _round_or_pause(self) -> bool:
        """False when nothing is left. A database that went away is asked again, as a task would be."""
        try:
            with connection.execute_wrapper(self._timed):
                return self._round()
        except (OperationalError, InterfaceError):
            with suppress(OperationalError, InterfaceError):
                connection.close()
            time.sleep(PAUSE_SECONDS)
            return True

    def _timed(self, execute: Execute, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        began = time.monotonic()
        answer = execute(sql, params, many, context)
        if "FOR UPDATE" in sql and f'"{Account._meta.db_table}"' in sql:
            os.write(self._waits, f"{(time.monotonic() - began) * 1000:.3f}\n".encode())
        return answer

    def _round(self) -> bool:
        account = {"account_id": self._account_id}
        waiting = list(Signal.objects.filter(decisions=None).order_by("id").values_list("pk", flat=True)[:TAKEN])
        for signal_id in self._dice.sample(waiting, min(ROUND, len(waiting))):
            assess(signal_id=signal_id, now_ms=NOW_MS, feed=fresh, path=sound)
        unsent = list(OrderIntent.objects.filter(order=None, **account).values_list("pk", "created_at")[:ROUND])
        self._dice.shuffle(unsent)
        for intent_id, created_at in unsent:
            now_ms = int(created_at.timestamp() * 1000)
            submit_order(intent_id=intent_id, now_ms=now_ms, feed=fresh, venue=self._venue)
        ended = [status.value for status in ENDED]
        stuck = list(Order.objects.filter(**account).exclude(status__in=ended).values_list("pk", flat=True)[:ROUND])
        for order_id in self._dice.sample(stuck, min(5, len(stuck))):
            sync_order(order_id=order_id, venue=self._venue)
        self._close_some(entries_left=bool(waiting))
        if stuck and not waiting and not unsent:
            time.sleep(PAUSE_SECONDS)  # others hold what is left
        return bool(waiting or unsent or stuck)

    def _close_some(self, *, entries_left: bool) -> None:
        """Ask to close open positions, so that there is room for the entries that still come."""
        leaving = Reservation.objects.filter(active=True, reducing=True).values("position")
        open_ones = Position.objects.filter(account_id=self._account_id, status=Position.Status.OPEN)
        found = list(open_ones.exclude(pk__in=leaving)[:10]) if entries_left else []
        for position in self._dice.sample(found, min(3, len(found))):
            with suppress(IntegrityError):  # another thread asked for the same one
                factories.ExitSignalFactory.create(
                    position=position,
                    strategy_version=self._world.version,
                    ts_event=position.opened_ts + 60_000 * (1 + position.exit_attempts),
                    ts_init=NOW_MS - 100,
                    trigger_key=f"x:{position.pk}:{position.exit_attempts}",
                )
