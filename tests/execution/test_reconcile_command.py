"""`manage.py reconcile` and its task: what a person sees and decides."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.execution import tasks
from apps.execution.models import ReconcileDifference, ReconcileRun, VenueOrder, VenueTrade
from apps.portfolio.models import Account
from tests.factories import ReconcileDifferenceFactory, ReconcileRunFactory
from tests.worlds import World, open_world

D = Decimal
pytestmark = pytest.mark.django_db


def command(*arguments: str) -> tuple[int, str]:
    """(exit code, what it printed)."""
    out = io.StringIO()
    try:
        call_command("reconcile", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def difference(world: World, **fields: Any) -> ReconcileDifference:
    return ReconcileDifferenceFactory.create(run=ReconcileRunFactory.create(account=world.account), **fields)


def test_a_paper_session_agrees_with_its_venue_and_says_what_was_compared() -> None:
    open_world()
    code, text = command()
    assert code == 0
    assert text.splitlines()[0] == "clean: compared 0 orders, 0 trades, 1 balances"


def test_a_run_that_compared_nothing_is_exit_code_1() -> None:
    open_world()
    code, text = command("--scope", "orders")
    assert (code, "compared 0" in text) == (1, True)


@pytest.mark.parametrize("as_json", [True, False])
def test_an_open_difference_is_exit_code_1_and_a_line_of_the_table(as_json: bool) -> None:
    row = difference(open_world())
    code, text = command("--scope", "orders", *(["--json"] if as_json else []))
    assert code == 1
    if as_json:
        facts = json.loads(text)
        assert (facts["outcome"], [one["id"] for one in facts["differences"]]) == ("different", [row.pk])
    else:
        assert text.splitlines()[-1].split() == [
            str(row.pk),
            *["BALANCE", "USDT", "100000", "99000", "ledger", "1000", "open"],
        ]


def test_without_a_session_it_says_so() -> None:
    with pytest.raises(CommandError, match="no session is running") as error:
        command()
    assert error.value.returncode == 2


def test_a_person_dismisses_with_a_reason() -> None:
    row = difference(open_world())
    code, text = command("dismiss", str(row.pk), "--reason", "in transit", "--by", "kim")
    row.refresh_from_db()
    assert (code, text.strip()) == (0, "BALANCE USDT: Dismissed by kim: in transit")
    assert (row.state, row.decided_by, row.reason) == ("dismissed", "kim", "in transit")


def test_a_decision_that_cannot_be_taken_is_one_line() -> None:
    world = open_world()
    row = difference(world)
    with pytest.raises(CommandError, match="not there any more") as error:
        command("approve", str(row.pk), "--reason", "yes", "--by", "kim")
    assert error.value.returncode == 2
    assert Account.objects.get(pk=world.account.pk).cash == D(100_000)


@pytest.mark.parametrize("scope", ["orders", "full"])
def test_beat_compares_the_running_session(scope: str) -> None:
    tasks.reconcile(scope)  # none is running: nothing to do
    open_world()
    tasks.reconcile(scope)
    assert ReconcileRun.objects.get().scope == scope


def test_a_fill_that_the_paper_venue_has_and_we_have_not_is_found() -> None:
    """An order that nobody here made: its fill moves the venue's balance, and nothing here."""
    world = open_world()
    order = VenueOrder.objects.create(
        owner=f"session:{world.session.pk}", epoch_id=world.epoch.pk, shard=0, client_order_id="x-1", symbol="XRPUSDT",
        instrument_id=world.instruments["XRPUSDT"].pk, side="BUY", quantity=D(10), limit_price=D("0.5"), ts_trigger=1,
        ts_mature=1, scan_from="1-0", terms={"taker_fee": "0"}, status="filled", filled_quantity=D(10),
    )  # fmt: skip
    VenueTrade.objects.create(
        order=order, price=D("0.5"), quantity=D(10), fee=D(0), fee_currency="USDT", ts_event=1, quote={}
    )  # fmt: skip
    tasks.reconcile("full")
    suspect = ReconcileRun.objects.get().suspects
    assert [key.partition(":")[0] for key in suspect] == ["TRADE_MISSING_HERE"]
