"""`python -m tests.risk.fresh_process COMMAND ...`: what a process that knows nothing finds and does, as JSON.

`fill` fills a book in an empty database, `decide ACCOUNT NUMBER` raises an entry signal and decides on it, `close
ACCOUNT` closes one position. Each answer holds the account's exposure and what its recomputation found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.house.sources import REPOSITORY

if TYPE_CHECKING:
    from apps.portfolio.models import Account


def ask(environment: Mapping[str, str], *command: str | int) -> dict[str, Any]:
    """Have a fresh process do it. Raises AssertionError with its words if it fails."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.risk.fresh_process", *map(str, command)],
        cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main(command: str, *numbers: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    import django

    django.setup()
    from apps.portfolio.models import Account
    from apps.signals.models import StrategyVersion
    from tests.risk import full_book
    from tests.worlds import NOW_MS, TRIGGER_MS, World, fresh

    told: dict[str, Any] = {"pid": os.getpid()}
    if command == "fill":
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        account = full_book.open_full_book().account
    else:
        account = Account.objects.select_related("session__epoch").get(pk=int(numbers[0]))
        members = account.session.epoch.members.select_related("instrument")
        instruments = {row.instrument.symbol: row.instrument for row in members}
        world = World(account.session, account, StrategyVersion.objects.latest("id"), instruments)
        if command == "close":
            full_book.close_one(world)
        else:
            ts_event = TRIGGER_MS + (100 + int(numbers[1])) * 600_000
            signal = world.entry_signal(full_book.NEXT, ts_event=ts_event, trade_id=f"fresh {numbers[1]}")
            decision = world.decide(signal, feed=fresh, now_ms=NOW_MS)
            assert decision is not None
            told |= {"verdict": decision.verdict, "reasons": decision.reasons, "sentence": decision.sentence}
    print(json.dumps(told | exposure_of(account)))


def exposure_of(account: Account) -> dict[str, Any]:
    from apps.ops.verify.money_checks import check_exposure
    from apps.risk.models import RiskState

    check = check_exposure(account.session)
    stored = RiskState.objects.get(account=account).exposure
    return {"account": account.pk, "exposure": str(stored), "faults": check.faults, "compared": check.compared}


if __name__ == "__main__":
    main(*sys.argv[1:])
