"""The earlier system blocked every trade for a day on exposure that was not there, and a restart changed nothing.

The book is filled to 100 % of the limit. However often everything starts again, the exposure is what the positions are
worth, an entry is denied in words that name it, and with the first position that is closed entries go on at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.faults.database import WAYS, OwnPostgres
from tests.faults.lane import database_named
from tests.risk.fresh_process import ask
from tests.risk.full_book import LIMIT, close_one, open_full_book

FULL = LIMIT * 100_000
RESTARTS = 10


def stays_denied(environment: Mapping[str, str], account_id: int, restart: Callable[[int], None], times: int) -> None:
    """After each restart of everything a process of its own decides: denied, on exactly what is held."""
    pids = set()
    for number in range(times):
        restart(number)
        found = ask(environment, "decide", account_id, number)
        assert (found["verdict"], found["reasons"]) == ("denied", ["EXPOSURE"]), found
        assert Decimal(found["exposure"]) == FULL
        is_sound(found)
        pids.add(found["pid"])
    assert len(pids) == times


def resumes(environment: Mapping[str, str], account_id: int) -> None:
    found = ask(environment, "decide", account_id, RESTARTS)
    assert found["verdict"] == "approved", found["sentence"]
    is_sound(found)


def is_sound(found: Mapping[str, Any]) -> None:
    assert found["compared"] > 0
    assert not found["faults"], found["faults"]


@pytest.mark.django_db(transaction=True)
def test_entries_resume_at_once_after_a_full_book_and_fresh_processes(servers: dict[str, str]) -> None:
    world = open_full_book()
    url = database_named(servers["DATABASE_URL"], str(connection.settings_dict["NAME"]))
    environment = {"DATABASE_URL": url}
    stays_denied(environment, world.account.pk, lambda _: None, 2)
    close_one(world)
    resumes(environment, world.account.pk)


@pytest.mark.road
@pytest.mark.timeout(400)
def test_entries_resume_at_once_after_ten_restarts_of_everything(tmp_path: Path) -> None:
    """The database too is ended in every way there is, in turn; nothing but its files is left of each round."""
    with OwnPostgres(tmp_path / "data") as database:
        environment = {"DATABASE_URL": database.url, "CDB_DATA_DIR": str(database.home.root)}
        filled = ask(environment, "fill")
        is_sound(filled)
        ways = tuple(WAYS)
        stays_denied(environment, filled["account"], lambda n: database.restart(ways[n % len(ways)]), RESTARTS)
        is_sound(ask(environment, "close", filled["account"]))
        database.restart("kill")
        resumes(environment, filled["account"])
